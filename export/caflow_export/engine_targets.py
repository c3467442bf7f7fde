"""Choice of the TensorRT flavor, and of the GPUs to build for.

TensorRT builds for the local GPU only. TensorRT-RTX builds for any compute capability that it supports.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from caflow_export.export_options import INSTALL, INSTALL_EITHER
from caflow_export.tensorrt_builder import MODULES, module
from caflow_runtime.backends.gpu import Gpu
from caflow_runtime.bundle.engine_sets import NAMES, Flavor

TENSORRT_MAJOR = "10"
"""Major version of the TensorRT that ONNX Runtime's provider loads."""
OLDER_CAPABILITIES = ("8.6", "8.9")
"""Compute capabilities below 12.0 whose engines the provider of TensorRT-RTX loads."""

Target = tuple[str, str | None]
"""A compute capability to build for, and the name of the GPU if the engines are for this GPU only."""


class TensorRTUnavailable(RuntimeError):
    """TensorRT is not installed, or does not support the GPUs to build for."""


class NeedsGpu(RuntimeError):
    """Engines cannot be built because this machine has no GPU to build for."""

    def __init__(self, message: str, options: str = "") -> None:
        super().__init__(message)
        self.options = options
        """Options to add to the command so that it builds without a GPU; empty if it must run on another machine."""


def choose(flavor: Flavor | None, compute_capabilities: Sequence[str], gpu: Gpu | None) -> tuple[Flavor, list[Target]]:
    """Return the flavor to build with, and what to build for.

    Arguments:
        flavor, compute_capabilities: as in `build_engines`.
        gpu: the local GPU, or None if there is none.

    Raises:
        TensorRTUnavailable, NeedsGpu: as in `build_engines`.
    """
    if not (flavor or compute_capabilities or any(map(find_spec, MODULES.values()))):
        raise TensorRTUnavailable(f"neither TensorRT-RTX nor TensorRT is installed: {INSTALL_EITHER}")
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
        return chosen, [(gpu.compute_capability, gpu.name)]
    wanted = tuple(compute_capabilities) or ((gpu.compute_capability,) if gpu else ())
    if not wanted:
        example = "--compute-capability 8.6,12.0"
        raise NeedsGpu(f"this machine has no GPU: name the GPUs to build for, for example {example}", f" {example}")
    known = supported()
    for one in wanted:
        if one not in known:
            raise TensorRTUnavailable(
                f"TensorRT-RTX {module('rtx').__version__} does not build for compute capability {one}: give one or "
                f"more of {', '.join(known)}; for another GPU give --trt-flavor tensorrt on its machine"
            )
    return chosen, [(one, None) for one in wanted]


def _installed(order: Sequence[Flavor]) -> Flavor:
    """Return the first flavor in `order` that is installed, or the first of all if none is installed."""
    return next((one for one in order if find_spec(MODULES[one])), order[0])


def _check_installed(flavor: Flavor) -> None:
    name, install = NAMES[flavor], INSTALL[flavor]
    if not find_spec(MODULES[flavor]):
        raise TensorRTUnavailable(f"{name} is not installed: {install}")
    try:
        version = str(module(flavor).__version__)
    except ImportError as error:
        raise TensorRTUnavailable(f"{name} is installed, but cannot be imported ({error}): {install}") from None
    if flavor == "tensorrt" and version.partition(".")[0] != TENSORRT_MAJOR:
        raise TensorRTUnavailable(
            f"TensorRT {version} is installed, but ONNX Runtime's provider loads TensorRT {TENSORRT_MAJOR}: {install}"
        )


def supported() -> list[str]:
    """Return the compute capabilities for which TensorRT-RTX builds engines that its provider loads, such as "8.6"."""
    names = (name[2:] for name in module("rtx").ComputeCapability.__members__ if name.startswith("SM"))
    return [
        one for one in (f"{name[:-1]}.{name[-1]}" for name in names) if one in OLDER_CAPABILITIES or float(one) >= 12
    ]
