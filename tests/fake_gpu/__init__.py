"""A GPU that does not exist: what the fakes of NVIDIA's libraries in `tests/fakes` share.

They cannot show that real libraries behave as they do. They hold the code to what the libraries' documentation says.
"""
