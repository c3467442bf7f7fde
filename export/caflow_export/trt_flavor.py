"""Which TensorRT builds, and for which GPUs: TensorRT for the one here, TensorRT-RTX for any that is named."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from caflow_runtime.backends.gpu import Gpu
from caflow_runtime.backends.tensorrt_library import module
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.engine_sets import EXTRAS, NAMES, PACKAGES, Flavor


class TensorRTUnavailable(RuntimeError):
    """TensorRT is not installed, or not for these GPUs."""


class NeedsGpu(RuntimeError):
    """TensorRT builds only on the GPU that it builds for, and there is none here."""

    def __init__(self, message: str, options: str = "") -> None:
        super().__init__(message)
        self.options = options
        """What the command needs besides, to build here."""


def choose(
    flavor: Flavor | None, compute_capabilities: Sequence[str], gpu: Gpu | None
) -> tuple[Flavor, list[tuple[str, str | None]]]:
    """What builds, and for which compute capabilities, each with the GPU's name where it is for that GPU alone.

    Arguments:
        flavor, compute_capabilities: as in `build_engines`.
        gpu: the one here.

    Raises:
        TensorRTUnavailable, NeedsGpu
    """
    chosen = flavor or _installed(("rtx",) if compute_capabilities else ("tensorrt", "rtx"))
    _check_installed(chosen)
    if chosen == "tensorrt":
        if compute_capabilities:
            raise TensorRTUnavailable(
                "TensorRT builds only for the GPU that it runs on: leave out --compute-capability, or give "
                "--trt-flavor rtx"
            )
        if gpu is None:
            raise NeedsGpu(
                "TensorRT builds on the GPU that it builds for, and there is none here: run on the machine with the GPU"
            )
        if (wanted := _cuda_of(chosen)) is not None and gpu.cuda < wanted:
            raise TensorRTUnavailable(
                f"TensorRT is for CUDA {wanted}, the driver {gpu.driver} of the {gpu.name} runs CUDA {gpu.cuda} at "
                "most: install a newer driver"
            )
        return chosen, [(gpu.compute_capability, gpu.name)]
    wanted_ones = tuple(compute_capabilities) or ((gpu.compute_capability,) if gpu else ())
    if not wanted_ones:
        example = "--compute-capability 8.6,12.0"
        raise NeedsGpu(f"there is no GPU here: name those it is for, such as {example}", f" {example}")
    known = supported(chosen)
    for one in wanted_ones:
        if one not in known:
            raise TensorRTUnavailable(
                f"TensorRT-RTX {engines.installed_version(chosen)} does not build for compute capability {one}: wanted "
                f"some of {', '.join(known)}; for others give --trt-flavor tensorrt on that GPU"
            )
    return chosen, [(one, None) for one in wanted_ones]


def _installed(order: Sequence[Flavor]) -> Flavor:
    """The first that is installed; the first where none is."""
    return next((one for one in order if engines.installed_version(one)), order[0])


def _check_installed(flavor: Flavor) -> None:
    install = f"pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
    install += ", which must reach NVIDIA's own package index" if flavor == "tensorrt" else ""
    if not engines.installed_version(flavor):
        raise TensorRTUnavailable(f"{NAMES[flavor]} is not installed: {install}")
    try:
        module(flavor)
    except ImportError as error:
        raise TensorRTUnavailable(f"{NAMES[flavor]} is installed, but does not load ({error}): {install}") from None


def supported(flavor: Flavor) -> list[str]:
    """Compute capabilities that can be named."""
    names = (name for name in module(flavor).ComputeCapability.__members__ if name.startswith("SM"))
    return [f"{name[2:-1]}.{name[-1]}" for name in names]


def _cuda_of(flavor: Flavor) -> int | None:
    """Major version of CUDA that the installed package is for."""
    for cuda in (11, 12, 13, 14):
        try:
            version(f"{PACKAGES[flavor]}-cu{cuda}-libs".replace("-", "_"))
        except PackageNotFoundError:
            continue
        return cuda
    return None
