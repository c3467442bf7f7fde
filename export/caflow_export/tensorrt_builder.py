"""Building of one engine with TensorRT or TensorRT-RTX, and the ONNX file that contains it.

The same code serves `tensorrt` 10 and `tensorrt_rtx`. Networks are strongly typed, so engines use the types of the
exported graphs. TF32 is disabled, because it would make the inverses inaccurate.
"""

import importlib
import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from caflow_export.weights import load_whole, widen
from caflow_runtime.backends.providers import PROVIDERS, Shape
from caflow_runtime.bundle.engine_model import CONTEXT, DOMAIN, EMBED_MODE, OPERATOR
from caflow_runtime.bundle.engine_sets import NAMES, Flavor
from caflow_runtime.interruptible import interruptible

MODULES: dict[Flavor, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Name of the Python module of each flavor."""


class BuildFailed(RuntimeError):
    """TensorRT cannot build an engine from a graph."""


class EngineBuilder:
    """Builds engines for one compute capability."""

    def __init__(self, flavor: Flavor, compute_capability: str) -> None:
        """Start without engines.

        Arguments:
            compute_capability: such as "8.6". TensorRT builds for the local GPU, which must have it.
        """
        self.flavor = flavor
        self.compute_capability = compute_capability
        self.trt = module(flavor)
        self._log = _log(flavor)
        self._timings: Any = None
        """What TensorRT has measured for earlier engines. TensorRT-RTX times kernels when it runs them."""

    def build(self, path: Path, shapes: Mapping[str, tuple[Shape, Shape]]) -> onnx.ModelProto:
        """Return an ONNX file with one node, which contains the engine of a graph.

        Arguments:
            path: the graph's ONNX file in its bundle.
            shapes: smallest and largest shape of each input whose shape varies. The engine is fastest at the largest.

        Raises:
            BuildFailed: if TensorRT does not support the graph, or fails. The message names the graph and the reason.
        """
        # TensorRT would lose a stop that is raised while it calls the log.
        return interruptible(partial(self._built, path, shapes), end=lambda: None)

    def _built(self, path: Path, shapes: Mapping[str, tuple[Shape, Shape]]) -> onnx.ModelProto:
        """Do the work of `build`."""
        trt, builder, proto = self.trt, self.trt.Builder(self._log), load_whole(path)
        network = self.parse(builder, proto, path.stem)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.flavor == "rtx":
            config.num_compute_capabilities = 1
            named = getattr(trt.ComputeCapability, f"SM{_digits(self.compute_capability)}")
            config.set_compute_capability(named, 0)
        else:
            self._timings = self._timings or config.create_timing_cache(b"")
            config.set_timing_cache(self._timings, False)
        profile = builder.create_optimization_profile()
        for name, (smallest, largest) in shapes.items():
            profile.set_shape(name, smallest, largest, largest)
        config.add_optimization_profile(profile)
        self._log.errors.clear()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildFailed(
                f"{path.stem}: {NAMES[self.flavor]} cannot build an engine: {'; '.join(self._log.errors)}"
            )
        return self._wrapped(proto, bytes(plan), path.name)

    def parse(self, builder: Any, proto: onnx.ModelProto, name: str) -> Any:
        """Return a graph with its weights inside as a strongly typed TensorRT network.

        Raises:
            BuildFailed: if TensorRT does not support the graph. The message names the nodes.
        """
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if flag is None else 1 << int(flag))
        parser = self.trt.OnnxParser(network, self._log)
        widen(proto)
        if not parser.parse(proto.SerializeToString()):
            errors = [parser.get_error(k) for k in range(parser.num_errors)]
            nodes = "; ".join(f"{one.node_operator()} {one.node_name()}: {one.desc()}" for one in errors)
            raise BuildFailed(f"{name}: {NAMES[self.flavor]} does not support the graph: {nodes}")
        return network

    def _wrapped(self, proto: onnx.ModelProto, plan: bytes, file_name: str) -> onnx.ModelProto:
        """Return the ONNX file that contains an engine, with the inputs and outputs of its graph.

        The provider reads `embed_mode` and `ep_cache_context`. The other attributes are those that it writes itself.
        """
        graph = proto.graph
        attributes = {
            EMBED_MODE: 1,
            CONTEXT: plan,
            "main_context": 0,
            "hardware_architecture": _digits(self.compute_capability),
            "ep_sdk_version": self.trt.__version__,
            "onnx_model_filename": file_name,
            "partition_name": graph.name,
            "source": next(row.name for row in PROVIDERS.values() if row.flavor == self.flavor),
        }
        inputs, outputs = ([value.name for value in values] for values in (graph.input, graph.output))
        node = helper.make_node(OPERATOR, inputs, outputs, graph.name, domain=DOMAIN, **attributes)
        wrapped = helper.make_graph([node], graph.name, graph.input, graph.output)
        opsets = [*proto.opset_import, helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(wrapped, opset_imports=opsets, ir_version=proto.ir_version)


def module(flavor: Flavor) -> Any:
    """Import the Python module of a flavor and return it.

    Raises:
        ImportError: if the module is not installed, or cannot be loaded.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # as the runtime does: the libraries compare its values
    return importlib.import_module(MODULES[flavor])


def _digits(compute_capability: str) -> str:
    return compute_capability.replace(".", "")


@cache
def _log(flavor: Flavor) -> Any:
    """Return the logger of a flavor, which collects errors. TensorRT uses the first logger of a process for all."""
    trt = module(flavor)

    class ErrorLog(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return ErrorLog()
