"""Imitates nvidia-ml-py: one GPU, and a driver for CUDA 13."""

from types import SimpleNamespace

from fake_gpu.memory import MEMORY


class NVMLError(Exception):
    pass


def nvmlInit() -> None:
    pass


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(handle: int) -> str:
    return "Fake RTX"


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    return 8, 6


def nvmlSystemGetDriverVersion() -> str:
    return "580.1"


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    return 13000


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(total=MEMORY.capacity, used=MEMORY.reserved + MEMORY.engines)
