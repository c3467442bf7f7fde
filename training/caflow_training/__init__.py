"""CAFLOW models in PyTorch, and their training.

Read `model.py` first, then `bijections.py`, `image_flow.py` and `conditional_flow.py`. The training loop is in
`trainer.py`.
"""
