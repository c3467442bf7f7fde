"""What NVIDIA's driver says of the first GPU, in the order of its bus."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver."""

    name: str
    compute_capability: str
    """Such as "8.6"."""
    driver: str
    cuda: int
    """Major version of the newest CUDA that the driver runs."""


def first_gpu() -> Gpu | None:
    """The first GPU; None where there is no driver, no GPU, or no nvidia-ml-py to ask them."""

    def describe(nvml: Any, device: Any) -> Gpu:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
        return Gpu(
            name=nvml.nvmlDeviceGetName(device),
            compute_capability=f"{major}.{minor}",
            driver=nvml.nvmlSystemGetDriverVersion(),
            cuda=nvml.nvmlSystemGetCudaDriverVersion_v2() // 1000,
        )

    return _ask(describe)


def used_memory() -> int | None:
    """Bytes of the first GPU's memory that are in use, by whomever; None as in `first_gpu`."""
    return _ask(lambda nvml, device: int(nvml.nvmlDeviceGetMemoryInfo(device).used))


def _ask(question: Callable[[Any, Any], Answer]) -> Answer | None:
    """NVML about the first GPU."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return question(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
