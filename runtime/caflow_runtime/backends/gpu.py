"""Properties of the first GPU, in the order of the PCI bus, as NVIDIA's driver reports them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Gpu:
    """Properties of a GPU and of its driver."""

    name: str
    compute_capability: str
    """Compute capability, such as "8.6"."""
    driver: str
    """Version of the driver."""
    cuda: int
    """Major version of the newest CUDA that the driver supports."""


def first_gpu() -> Gpu | None:
    """Return the first GPU, or None if the driver, the GPU or the package nvidia-ml-py is missing."""

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
    """Return how much memory of the first GPU all processes use, in bytes; None in the same cases as `first_gpu`."""
    return _ask(lambda nvml, device: int(nvml.nvmlDeviceGetMemoryInfo(device).used))


def _ask(question: Callable[[Any, Any], Answer]) -> Answer | None:
    """Call `question` with NVML and the first GPU. Return its result, or None if NVML or the GPU cannot be used."""
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
