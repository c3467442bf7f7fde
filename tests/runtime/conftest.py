"""Fixtures for the tests in this folder, which import neither PyTorch nor the code for training and export.

So these tests also run if only the wheel with `[cpu,video]` is installed: `make test-runtime`.
"""

from gpus import cache_folder, pytest_collection_modifyitems
from tiny import calibrated, photographs, pipe, uncalibrated

__all__ = [  # fixtures and a hook, which pytest finds here
    "cache_folder",
    "calibrated",
    "photographs",
    "pipe",
    "pytest_collection_modifyitems",
    "uncalibrated",
]
