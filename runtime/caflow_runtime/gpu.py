"""What NVIDIA's driver says of the first GPU, in the order of its bus."""

from dataclasses import dataclass


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
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
        return Gpu(
            name=pynvml.nvmlDeviceGetName(device),
            compute_capability=f"{major}.{minor}",
            driver=pynvml.nvmlSystemGetDriverVersion(),
            cuda=pynvml.nvmlSystemGetCudaDriverVersion_v2() // 1000,
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
