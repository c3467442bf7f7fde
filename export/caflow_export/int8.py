"""Quantization of the networks' convolutions to 8-bit integers, with ranges learned from photographs.

Weights are symmetric, with one scale per output channel. Activations have one scale and one zero point per tensor.
Each convolution stays a Conv node, with QuantizeLinear and DequantizeLinear nodes around it, and runtimes fuse these
nodes into an integer convolution. Everything else stays float32.

Both directions of a level use the same ranges, and so the same quantized networks. The flow therefore stays a
bijection: the quantized model differs slightly from the original model, but it is still inverted exactly.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from caflow_deploy.images.photographs import Pair
from caflow_export.networks import Mixings
from caflow_export.to_onnx import GraphToTrace
from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.bundle.manifest import Model, cell_side
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise

TEMPERATURE = 0.8
LEVELS, LARGEST_WEIGHT = 255, 63
"""Largest integer of an activation, and largest absolute integer of a weight.

Weights have 7 bits, because CPUs without VNNI add two products in 16 bits, and 8-bit weights could overflow.
"""
SMALLEST_SCALE = np.float32(1e-12)
SAME_NETWORKS = {"likelihood": "decode", "forward": "reverse"}
"""Kind of the sampling graphs that share their networks with each kind of scoring graphs."""
KINDS = ("decode", "likelihood", "reverse", "forward")


@dataclass
class Ranges:
    """Smallest and largest value of the input and of the output of each convolution. Each range includes 0."""

    found: dict[tuple[str, str, int], tuple[float, float]] = field(default_factory=dict)
    """Ranges. A key is the sampling graph's name, the weight's name, and 0 for the input or 1 for the output."""

    def widen(self, graph: str, weight: str, port: int, values: Array) -> None:
        """Extend a range to include the values."""
        key = _networks_of(graph), weight, port
        low, high = self.found.get(key, (0.0, 0.0))
        self.found[key] = min(low, float(values.min())), max(high, float(values.max()))

    def step(self, graph: str, weight: str, port: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the scale, float32, and the zero point, uint8, that map a range to 0…255."""
        low, high = self.found[_networks_of(graph), weight, port]
        scale = max(SMALLEST_SCALE, np.float32((high - low) / LEVELS))
        return np.array(scale), np.array(np.clip(np.rint(-low / scale), 0, LEVELS), np.uint8)


def in_int8(
    traced: Sequence[GraphToTrace], protos: Sequence[onnx.ModelProto], model: Model, pairs: Iterable[Pair]
) -> list[onnx.ModelProto]:
    """Quantize the convolutions of each level's networks to 8 bits. The graphs are changed in place and returned.

    Arguments:
        protos: traced graphs with their weights inside, in the order of `traced`.
        pairs: targets and conditions. Ranges are learned from scoring each target and sampling for each condition.
    """
    weights = {graph.name: _network_weights(graph.module) for graph in traced if graph.name.startswith(KINDS)}
    ranges = _learn({graph.name: proto for graph, proto in zip(traced, protos, strict=True)}, weights, model, pairs)
    for graph, proto in zip(traced, protos, strict=True):
        if graph.name in weights:
            _Quantizer(graph.name, proto, ranges).quantize(weights[graph.name])
    return list(protos)


def _network_weights(module: nn.Module) -> set[str]:
    """Return the names of the weights of all convolutions except the mixings, which act on the flow's state."""
    mixings = {part for one in module.modules() if isinstance(one, Mixings) for part in one.modules()}
    convolutions = {name: part for name, part in module.named_modules() if isinstance(part, nn.Conv2d)}
    return {f"{name}.weight" for name, part in convolutions.items() if part not in mixings}


def _learn(
    protos: Mapping[str, onnx.ModelProto], weights: Mapping[str, set[str]], model: Model, pairs: Iterable[Pair]
) -> Ranges:
    ranges = Ranges()
    graphs = {name: _observed(name, proto, weights.get(name, set()), ranges) for name, proto in protos.items()}
    for pair in pairs:
        height, width = (side // model.size_multiple * model.size_multiple for side in pair.target.shape[:2])
        condition = pair.condition[None, : height // model.scale, : width // model.scale]
        target = pair.target[None, :height, :width]
        encoded, image = level_chain.encode(graphs, condition), np.zeros(1, np.int64)
        noise = []
        for j, channels in enumerate(model.noise_channels):
            cell = cell_side(model, f"decode_{j}")
            place = NoiseWindow(0, 0, height // cell, width // cell, (0,))
            noise.append(np.float32(TEMPERATURE) * draw_window_noise(channels, j, place, seed=0))
        level_chain.sample(graphs, model.levels, encoded, image, noise)
        level_chain.score(graphs, model.levels, encoded, image, target.astype(np.float32) + np.float32(0.5))
    return ranges


def _observed(name: str, proto: onnx.ModelProto, weights: set[str], ranges: Ranges) -> Graph:
    """Return a graph as a callable that extends the ranges of its convolutions in every run."""
    watched = [
        (node.input[1], port, value)
        for node in proto.graph.node
        if node.op_type == "Conv" and node.input[1] in weights
        for port, value in enumerate((node.input[0], node.output[0]))
    ]
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    given = {value.name for value in (*proto.graph.output, *proto.graph.input)}
    for value in {value for *_, value in watched} - given:
        copy.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    session = import_onnxruntime().InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))

    def run(arrays: Arrays) -> dict[str, Array]:
        out = dict(zip(outputs, session.run(outputs, {one: arrays[one] for one in inputs}), strict=True))
        for weight, port, value in watched:
            ranges.widen(name, weight, port, out[value] if value in out else arrays[value])
        return out

    return run


def _networks_of(graph: str) -> str:
    """Return the name of the sampling graph that shares its networks with a graph."""
    kind, _, level = graph.partition("_")
    return f"{SAME_NETWORKS.get(kind, kind)}_{level}"


class _Quantizer:
    """Inserts QuantizeLinear and DequantizeLinear nodes around the convolutions of one graph."""

    def __init__(self, name: str, proto: onnx.ModelProto, ranges: Ranges) -> None:
        self.name, self.graph, self.ranges = name, proto.graph, ranges
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.readers = Counter(name for node in self.graph.node for name in node.input)
        self.rectified = {node.input[0] for node in self.graph.node if node.op_type == "Relu"}
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()

    def quantize(self, weights: set[str]) -> None:
        """Quantize the convolutions with these weights, and remove initializers that no node reads any more."""
        for node in list(self.graph.node):
            if node.op_type == "Conv" and node.input[1] in weights:
                self._convolution(node)
            else:
                self.nodes.append(node)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _convolution(self, node: onnx.NodeProto) -> None:
        weight, output = node.input[1], node.output[0]
        step = self.ranges.step(self.name, weight, 0)
        values = numpy_helper.to_array(self.stored[weight]).astype(np.float32)
        largest = np.abs(values).reshape(len(values), -1).max(1)
        scales = np.maximum(SMALLEST_SCALE, largest / np.float32(LARGEST_WEIGHT))
        integers = np.rint(values / scales[:, None, None, None]).astype(np.int8)
        node.input[0] = self._rounded(node.input[0], weight, step)
        if len(node.input) > 2:
            bias = numpy_helper.to_array(self.stored[node.input[2]]).astype(np.float64)
            units = step[0] * scales
            node.input[2] = self._stored_as(node.input[2], np.rint(bias / units).astype(np.int32), units)
        node.input[1] = self._stored_as(weight, integers, scales)
        self.nodes.append(node)
        # An output that only a Relu reads is not quantized here: the node that reads the Relu quantizes the value.
        if not (output in self.rectified and self.readers[output] == 1):
            node.output[0] = f"{output}_exact"
            self._rounded(f"{output}_exact", f"{weight}_out", self.ranges.step(self.name, weight, 1), output)

    def _rounded(self, value: str, name: str, step: tuple[NDArray[Any], NDArray[Any]], result: str = "") -> str:
        """Add nodes that quantize a value to uint8 and dequantize it. Return the name of the result."""
        scale, zero = self._constant(f"{name}_scale", step[0]), self._constant(f"{name}_zero", step[1])
        result = result or f"{value}_rounded_{name}"
        self.nodes += [
            helper.make_node("QuantizeLinear", [value, scale, zero], [f"{result}_uint8"]),
            helper.make_node("DequantizeLinear", [f"{result}_uint8", scale, zero], [result]),
        ]
        return result

    def _stored_as(self, name: str, integers: NDArray[Any], scales: NDArray[np.float32]) -> str:
        """Store a weight or bias as integers with one scale per output channel. Return its dequantized name."""
        inputs = [
            self._constant(f"{name}_int", integers),
            self._constant(f"{name}_units", scales.astype(np.float32)),
            self._constant(f"{name}_zeros", np.zeros(len(scales), integers.dtype)),
        ]
        if f"{name}_float" not in self.made:
            self.made.add(f"{name}_float")
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], axis=0))
        return f"{name}_float"

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(values, name)
            self.graph.initializer.append(self.stored[name])
        return name
