"""Choice of the TensorRT flavor, and of the GPUs to build for.

TensorRT builds for the local GPU only. TensorRT-RTX builds for any compute capability that it supports.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from caflow_runtime.backends.gpu import Gpu
from caflow_runtime.backends.tensorrt_library import module
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.engine_sets import EXTRAS, NAMES, PACKAGES, Flavor


class TensorRTUnavailable(RuntimeError):
    """TensorRT is not installed, or does not support the GPUs to build for."""


class NeedsGpu(RuntimeError):
    """Engines cannot be built because this machine has no GPU to build for."""

    def __init__(self, message: str, options: str = "") -> None:
        super().__init__(message)
        self.options = options
        """Options to add to the command so that it builds without a GPU; empty if it must run on another machine."""


def choose(
    flavor: Flavor | None, compute_capabilities: Sequence[str], gpu: Gpu | None
) -> tuple[Flavor, list[tuple[str, str | None]]]:
    """Return the flavor to build with, and the compute capabilities to build for.

    Each compute capability comes with the name of the GPU if the engines are for this GPU only, otherwise with None.

    Arguments:
        flavor, compute_capabilities: as in `build_engines`.
        gpu: the local GPU, or None if there is none.

    Raises:
        TensorRTUnavailable, NeedsGpu: as in `build_engines`.
    """
    chosen = flavor or _installed(("rtx",) if compute_capabilities else ("tensorrt", "rtx"))
    _check_installed(chosen)
    if chosen == "tensorrt":
        if compute_capabilities:
            raise TensorRTUnavailable(
                "TensorRT builds engines for the GPU of this machine only: omit --compute-capability, or give "
                "--trt-flavor rtx"
            )
        if gpu is None:
            raise NeedsGpu(
                "TensorRT builds engines for the GPU of this machine only, and this machine has no GPU: build them on "
                "the machine with the GPU"
            )
        if (wanted := _cuda_of(chosen)) is not None and gpu.cuda < wanted:
            raise TensorRTUnavailable(
                f"the installed TensorRT requires CUDA {wanted}, but driver {gpu.driver} of the {gpu.name} supports "
                f"CUDA up to {gpu.cuda} only: install a newer driver"
            )
        return chosen, [(gpu.compute_capability, gpu.name)]
    wanted_ones = tuple(compute_capabilities) or ((gpu.compute_capability,) if gpu else ())
    if not wanted_ones:
        example = "--compute-capability 8.6,12.0"
        raise NeedsGpu(f"this machine has no GPU: name the GPUs to build for, for example {example}", f" {example}")
    known = supported(chosen)
    for one in wanted_ones:
        if one not in known:
            raise TensorRTUnavailable(
                f"TensorRT-RTX {engines.installed_version(chosen)} does not build for compute capability {one}: give "
                f"one or more of {', '.join(known)}; for another GPU give --trt-flavor tensorrt on its machine"
            )
    return chosen, [(one, None) for one in wanted_ones]


def _installed(order: Sequence[Flavor]) -> Flavor:
    """Return the first flavor in `order` that is installed, or the first of all if none is installed."""
    return next((one for one in order if engines.installed_version(one)), order[0])


def _check_installed(flavor: Flavor) -> None:
    install = f"pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
    install += ", which requires access to NVIDIA's package index" if flavor == "tensorrt" else ""
    if not engines.installed_version(flavor):
        raise TensorRTUnavailable(f"{NAMES[flavor]} is not installed: {install}")
    try:
        module(flavor)
    except ImportError as error:
        raise TensorRTUnavailable(
            f"{NAMES[flavor]} is installed, but cannot be imported ({error}): {install}"
        ) from None


def supported(flavor: Flavor) -> list[str]:
    """Return the compute capabilities for which the flavor can build without a GPU, such as "8.6"."""
    names = (name for name in module(flavor).ComputeCapability.__members__ if name.startswith("SM"))
    return [f"{name[2:-1]}.{name[-1]}" for name in names]


def _cuda_of(flavor: Flavor) -> int | None:
    """Return the major version of CUDA that the installed package requires, or None if it is not known."""
    for cuda in (11, 12, 13, 14):
        try:
            version(f"{PACKAGES[flavor]}-cu{cuda}-libs".replace("-", "_"))
        except PackageNotFoundError:
            continue
        return cuda
    return None
