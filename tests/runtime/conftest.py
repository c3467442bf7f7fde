"""What tests in this folder share. Nothing here or below imports PyTorch, training or the export.

So these tests run where only the wheel is installed, with `[cpu,video]`: `make test-runtime`.
"""

from gpus import onnxruntime_cuda, pytest_collection_modifyitems
from tiny import calibrated, photographs, pipe, uncalibrated

__all__ = [  # fixtures, and a hook
    "calibrated",
    "onnxruntime_cuda",
    "photographs",
    "pipe",
    "pytest_collection_modifyitems",
    "uncalibrated",
]
