"""NVIDIA GPUs of this machine, in CUDA's order, as its driver reports them.

The driver's library is asked directly. Its order is that of ONNX Runtime and PyTorch, also with CUDA_VISIBLE_DEVICES;
the order of NVIDIA's management library may be another one.
"""

import ctypes
from dataclasses import dataclass

from caflow_runtime.errors import BackendError

DRIVER = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Numbers of the attributes that are the two parts of a GPU's compute capability."""
NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU."""

    name: str
    compute_capability: str
    """Compute capability, such as "8.6"."""


def find_gpus() -> list[Gpu]:
    """Return the GPUs that this process can use.

    Raises:
        BackendError: if there is no NVIDIA driver, or no GPU.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        raise BackendError(
            f"the NVIDIA driver is missing: {DRIVER} cannot be loaded", "install the driver, or use `backend` cpu"
        ) from None
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise BackendError(
            "the NVIDIA driver finds no GPU",
            "see whether nvidia-smi lists one, and whether CUDA_VISIBLE_DEVICES is set",
        )
    return [_describe(driver, number) for number in range(count.value)]


def gpu(number: int = 0) -> Gpu:
    """Return the GPU with a number.

    Raises:
        BackendError: if there is no NVIDIA driver, or no such GPU.
    """
    found = find_gpus()
    if number < len(found):
        return found[number]
    names = ", ".join(f"{k}: {one.name}" for k, one in enumerate(found))
    raise BackendError(f"there is no GPU {number}; this machine has {names}", "give the number of one of them")


def has_gpu() -> bool:
    """Return whether this process can use a GPU."""
    try:
        return bool(find_gpus())
    except BackendError:
        return False


def _describe(driver: ctypes.CDLL, number: int) -> Gpu:
    device, part, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, NAME_BYTES, device)
    parts = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
        parts.append(str(part.value))
    return Gpu(name.value.decode(), ".".join(parts))
