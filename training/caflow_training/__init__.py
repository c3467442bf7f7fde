"""Training: CAFLOW models in PyTorch.

Read `model.py` first, then `bijections.py`, `image_flow.py`, `conditional_flow.py`; `trainer.py` is the loop.
"""
