"""The table of ONNX Runtime's execution providers: how each is registered, and which options it gets.

A provider is the part of ONNX Runtime that runs graphs on a kind of device. It is built in, or it is a plug-in library
in a package of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from caflow_runtime.bundle.engine_sets import Flavor
from caflow_runtime.bundle.manifest import PrecisionName

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SessionNeeds:
    """What the options of a session depend on."""

    device: int = 0
    """Number of the GPU."""
    threads: int = 0
    """Number of threads on the CPU; 0 is one per core."""
    cache: Path | None = None
    """Folder for what the provider compiles; None if it compiles nothing."""
    shapes: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    """Smallest and largest shape of each input whose shape varies."""


Options = dict[str, str]


def no_options(_: SessionNeeds) -> Options:
    """Return no options: the provider needs none."""
    return {}


def cuda_options(needs: SessionNeeds) -> Options:
    """Return the options of CUDA's provider."""
    # With TF32, the inverse functions of the flow would be inaccurate. No session is recorded as a CUDA graph, because
    # a recording requires that all runs have the same shapes and the same memory.
    return {"device_id": str(needs.device), "use_tf32": "0"}


def tensorrt_options(needs: SessionNeeds) -> Options:
    """Return the options of TensorRT's provider, which has none for TF32."""
    options = {"device_id": str(needs.device)} | _profile("trt", needs)
    if needs.cache is not None:
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(needs.cache)}
        options |= kept | {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(needs.cache)}
    return options


def tensorrt_rtx_options(needs: SessionNeeds) -> Options:
    """Return the options of TensorRT-RTX's provider, which has none for TF32."""
    cache = {} if needs.cache is None else {"nv_runtime_cache_path": str(needs.cache)}
    return _profile("nv", needs) | cache


def openvino_options(needs: SessionNeeds) -> Options:
    """Return the options of OpenVINO's plug-in."""
    # By default, it would compute in bfloat16 where the processor can. The flow's inverse would be inaccurate.
    threads = {"num_of_threads": str(needs.threads)} if needs.threads else {}
    return {"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}'} | threads


def _profile(prefix: str, needs: SessionNeeds) -> Options:
    """Return the options for the range of shapes. The largest shapes are also the usual ones, which are the fastest."""
    if not needs.shapes:
        return {}
    smallest, largest = (
        ",".join(f"{name}:{'x'.join(map(str, shapes[k]))}" for name, shapes in needs.shapes.items()) for k in (0, 1)
    )
    return {
        f"{prefix}_profile_min_shapes": smallest,
        f"{prefix}_profile_opt_shapes": largest,
        f"{prefix}_profile_max_shapes": largest,
    }


@dataclass(frozen=True)
class Provider:
    """A row of the table."""

    name: str
    """Name that ONNX Runtime knows, such as "CUDAExecutionProvider"."""
    install: str
    """What to install with pip."""
    options: Callable[[SessionNeeds], Options] = no_options
    plugin: str | None = None
    """Python module of the plug-in library; None if the provider is built in."""
    is_on_gpu: bool = False
    """Whether arrays stay in the memory of an NVIDIA GPU between graphs. Otherwise they are in host memory."""
    flavor: Flavor | None = None
    """Flavor of the finished engines that the provider loads; None if it compiles nothing before a run."""
    keeps_engines: bool = False
    """Whether the provider stores the engines that it builds. Otherwise ONNX Runtime compiles each graph to a file."""
    libraries: str | None = None
    """Python module that loads the provider's libraries."""
    lacks: frozenset[PrecisionName] = frozenset()
    """Precisions of a bundle's networks that the provider does not support."""
    is_reference: bool = False
    """Whether the results of others are compared with those of this provider."""


BFLOAT16: frozenset[PrecisionName] = frozenset(("bf16",))
INTEGERS: frozenset[PrecisionName] = frozenset(("int8",))
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "caflow-deploy[cpu]", lacks=BFLOAT16, is_reference=True),
    # CUDA's provider runs some operators of bfloat16 graphs on the CPU, because it lacks their newer versions.
    "cuda": Provider("CUDAExecutionProvider", "caflow-deploy[gpu]", cuda_options, is_on_gpu=True, lacks=BFLOAT16),
    "tensorrt": Provider(
        *("TensorrtExecutionProvider", "caflow-deploy[trt]", tensorrt_options),
        is_on_gpu=True,
        flavor="tensorrt",
        keeps_engines=True,
        libraries="tensorrt",
        lacks=INTEGERS,  # TensorRT does not support the zero points of 8-bit integers
    ),
    "tensorrt-rtx": Provider(
        *("NvTensorRTRTXExecutionProvider", "caflow-deploy[rtx]", tensorrt_rtx_options),
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        is_on_gpu=True,
        flavor="rtx",
        lacks=INTEGERS,
    ),
}
"""Providers by the name of their backend."""
PLUGINS = {
    "openvino": Provider(
        "OpenVINOExecutionProvider", "onnxruntime-ep-openvino", openvino_options, "onnxruntime_ep_openvino"
    ),
    "webgpu": Provider("WebGpuExecutionProvider", "onnxruntime-ep-webgpu", plugin="onnxruntime_ep_webgpu"),
}
"""Further plug-ins, by the short name of their provider. Any other provider may be built into ONNX Runtime."""
ANOTHER_BUILD = "a build of ONNX Runtime with this provider"
PREFIX = "ort:"
"""Prefix of a backend that is any other provider, such as "ort:openvino"."""


def short_name(provider: str) -> str:
    """Return the short name of a provider: "dml" for "DmlExecutionProvider"."""
    return provider.lower().removesuffix("executionprovider")


def provider_of(backend: str, builtin: list[str]) -> Provider | None:
    """Return the provider of a backend's name, or None if there is none.

    Arguments:
        backend: name without the number of the device, such as "cuda" or "ort:dml". Behind "ort:", upper and lower case
            are the same, and "ExecutionProvider" at the end makes no difference.
        builtin: names of the providers that are built into the installed ONNX Runtime.
    """
    if not backend.startswith(PREFIX):
        return PROVIDERS.get(backend)
    short = short_name(backend.removeprefix(PREFIX))
    known = {short_name(row.name): row for row in PROVIDERS.values()}
    built_in = {short_name(name): Provider(name, ANOTHER_BUILD, lacks=BFLOAT16) for name in builtin}
    # ONNX Runtime also lists the plug-ins that are registered, so a plug-in that is installed comes first.
    installed = {name: row for name, row in PLUGINS.items() if row.plugin and find_spec(row.plugin)}
    return (PLUGINS | built_in | installed | known).get(short)
