"""What tests in this folder share. Nothing here or below imports PyTorch, training or the export.

So these tests run where only the wheel is installed, with `[cpu,video]`: `make test-runtime`.
"""

from tiny import calibrated, photographs, pipe, uncalibrated

__all__ = ["calibrated", "photographs", "pipe", "uncalibrated"]  # fixtures
