"""Tracing of a model's graphs to ONNX."""

import logging
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnxscript import opset18
from torch import Tensor, nn
from torch.export import Dim

from caflow_cli.stops import ended_by_ctrl_c
from caflow_export.graphs import Degrade, Encode, ModelGraphs, ToImage
from caflow_runtime.bundle.manifest import DEGRADE, size_of
from caflow_runtime.degradation import PARAMETERS
from caflow_training.image_flow import latent_channels
from caflow_training.model import CHANNELS, CAFlow

OPSET = 18
"""Opset of the graphs. With a later one, ONNX Runtime's CUDA provider would run `Resize` and others on the CPU."""
BFLOAT16_OPSET = 22
"""Opset of graphs with bfloat16: the first opset whose convolutions support this type."""

Shape = tuple[int | str, ...]

# Sizes of the example inputs. Items and images differ, and so do h and w, because the tracer could take equal sizes for
# the same symbol. None is 1, which the tracer would take for a constant.
ITEMS, IMAGES, H, W = 3, 2, 2, 3


@dataclass(frozen=True)
class Port:
    """Input or output of a graph. In its shape, a text such as "h" or "2*h" is a dynamic size."""

    name: str
    dtype: torch.dtype
    shape: Shape


@dataclass(frozen=True)
class GraphToTrace:
    """Module to trace, with the ports of its arguments and the names of its outputs, both in order.

    A port is None if the module has the argument, but this graph does not use it.
    """

    name: str
    module: nn.Module
    inputs: tuple[Port | None, ...]
    outputs: tuple[str, ...]
    terms: tuple[Port, ...] = ()
    """Ports of the level's terms, which are the variadic last arguments of the module."""

    @property
    def ports(self) -> list[Port]:
        """All ports that are not None."""
        return [port for port in (*self.inputs, *self.terms) if port is not None]


def graphs_to_trace(model: CAFlow, graphs: ModelGraphs, state: torch.dtype) -> Iterator[GraphToTrace]:
    """Yield all graphs of a bundle, `encode` first. `state` is the type of the flow's state."""
    multiple = model.config.size_multiple // model.config.task.scale
    sides = ("h", "w") if multiple == 1 else (f"{multiple}*h", f"{multiple}*w")
    condition = Port("condition", torch.uint8, ("images", *sides, model.config.task.condition_channels))
    degradation = Port("degradation", state, ("images", len(PARAMETERS)))
    told = (degradation,) if graphs.estimate is not None else ()
    yield GraphToTrace("encode", graphs.encode, (condition, *told), encode_outputs(graphs))
    if graphs.estimate is not None:
        yield GraphToTrace("estimate", graphs.estimate, (condition,), ("degradation",))
    for j, terms in enumerate(_term_ports(model, graphs.encode)):
        yield from _conditional_graphs(model, graphs, j, terms, state)
        yield from _target_graphs(model, graphs, j, state)
    full = ("items", "2*h", "2*w", CHANNELS)
    if graphs.dequantize is not None:
        integers = Port("integers", torch.uint8, full)
        yield GraphToTrace("dequantize", graphs.dequantize, (integers,), ("pixels", "log_likelihood_map"))
    yield GraphToTrace("to_image", ToImage(), (Port("pixels", state, full),), ("integers",))
    if graphs.degrade is not None:
        yield degrade_graph(graphs.degrade)


def _conditional_graphs(
    model: CAFlow, graphs: ModelGraphs, j: int, terms: tuple[Port, ...], state: torch.dtype
) -> Iterator[GraphToTrace]:
    """Yield `decode_j` and `likelihood_j`."""
    level, depth = graphs.decode[j].level, latent_channels(CHANNELS, model.config.levels, j)
    flows = level.cross_flows
    z = Port("z", state, ("items", noise_channels(model, j), "h", "w"))
    latent = Port("latent", state, ("items", depth, "2*h", "2*w"))
    image = Port("image", torch.int64, ("items",))

    def passing(channels: int, *sides: str) -> Port:
        return Port("passing", state, ("items", channels, *sides))

    from_coarser = passing(level.own.channels // 2 * (1 + flows), "h", "w") if level.splits else None
    from_finer = passing((depth // 2 if j == 0 else depth) * flows, "2*h", "2*w") if flows else None
    to_finer, to_coarser = (("next_passing",) if there else () for there in (flows, level.splits))
    inputs, outputs = (z, from_coarser, image), ("latent", *to_finer, "log_likelihood_map")
    yield GraphToTrace(f"decode_{j}", graphs.decode[j], inputs, outputs, terms)
    inputs, outputs = (latent, from_finer, image), ("z", *to_coarser, "log_likelihood_map")
    yield GraphToTrace(f"likelihood_{j}", graphs.likelihood[j], inputs, outputs, terms)


def _target_graphs(model: CAFlow, graphs: ModelGraphs, j: int, state: torch.dtype) -> Iterator[GraphToTrace]:
    """Yield `reverse_j` and `forward_j`."""
    n = model.config.levels
    finest = j == n - 1
    depth = latent_channels(CHANNELS, n, j)
    latent, carry = (Port(name, state, ("items", depth, "h", "w")) for name in ("latent", "carry"))
    larger = (
        Port("pixels", state, ("items", "2*h", "2*w", CHANNELS))
        if finest
        else Port("carry", state, ("items", latent_channels(CHANNELS, n, j + 1), "2*h", "2*w"))
    )
    residual: tuple[Port, ...] = ()
    if finest and model.config.residual:
        name, dtype = ("prepared", torch.uint8) if model.mean_network is None else ("mean", state)
        channels = CHANNELS * 2 if model.config.task.condition_channels > CHANNELS else CHANNELS  # and what is known
        mean = Port(name, dtype, ("images", "2*h", "2*w", channels))
        residual = (mean, Port("image", torch.int64, ("items",)))
    inputs, out = (latent, carry if j > 0 else None, *residual), "pixels" if finest else "next_carry"
    yield GraphToTrace(f"reverse_{j}", graphs.reverse[j], inputs, (out, "log_likelihood_map"))
    outputs = ("latent", *(("next_carry",) if j > 0 else ()), "log_likelihood_map")
    yield GraphToTrace(f"forward_{j}", graphs.forward[j], (larger, *residual), outputs)


def degrade_graph(degrade: Degrade) -> GraphToTrace:
    """Return the graph `degrade`, whose images have any size that the scale divides."""
    scale = degrade.task.scale
    large = ("h", "w") if scale == 1 else (f"{scale}*h", f"{scale}*w")
    target = Port("target", torch.float32, ("images", *large, CHANNELS))
    condition = Port("condition", torch.float32, ("images", "h", "w", degrade.task.condition_channels))
    inputs = (target, condition) if degrade.task.needs_condition else (target,)
    return GraphToTrace(DEGRADE, degrade, inputs, ("degraded",))


def noise_channels(model: CAFlow, j: int) -> int:
    """Return the number of channels of z at level j, which consists of z[i, j], i = j … n−1, side by side."""
    side = model.config.size_multiple
    shapes = model.conditional_flow.latent_shapes(CHANNELS, side, side)
    return sum(shape[0] for (_, level), shape in shapes.items() if level == j)


def trace(graph: GraphToTrace) -> onnx.ModelProto:
    """Trace one graph to ONNX, with dynamic sizes and with its weights inside."""
    dims = {name: Dim(name) for name in ("items", "images", "h", "w")}
    arguments = tuple(None if port is None else _example(port) for port in (*graph.inputs, *graph.terms))
    shapes: list[Any] = [None if port is None else _dynamic(port, dims) for port in graph.inputs]
    if graph.terms:
        shapes.append(tuple(_dynamic(port, dims) for port in graph.terms))
    uses_bfloat16 = any(tensor.dtype == torch.bfloat16 for tensor in graph.module.state_dict().values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # hide that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of the tracer itself
        program = torch.onnx.export(
            graph.module.eval(),
            arguments,
            dynamo=True,
            opset_version=BFLOAT16_OPSET if uses_bfloat16 else OPSET,
            input_names=[port.name for port in graph.ports],
            output_names=list(graph.outputs),
            dynamic_shapes=tuple(shapes),
            custom_translation_table={torch.ops.aten.atan.default: arctangent},
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.graph.name = graph.name
    _strip(proto)
    return proto


def trace_to_bytes(pickled: bytes) -> bytes:
    """Trace one graph to serialized ONNX, in a worker process that ignores Ctrl-C at other times.

    While it traces, Ctrl-C ends the process at once and without a message.

    Arguments:
        pickled: the `GraphToTrace`.
    """
    with ended_by_ctrl_c():
        contents: bytes = trace(pickle.loads(pickled)).SerializeToString()
    return contents


def term_names(level_has_cross: bool) -> tuple[str, ...]:
    """Return the names of the terms of one level, without the level's number."""
    own = ("own_scale", "own_shift", "own_log_det", "own_first")
    return (*own, "cross_injector_first", "cross_coupling_first") if level_has_cross else own


def encode_outputs(graphs: ModelGraphs) -> tuple[str, ...]:
    """Return the names of the outputs of `encode`.

    These are the prepared condition, the mean if the model has a mean network, then the terms of each level with the
    level's number as suffix.
    """
    per_level = [
        f"{name}_{j}" for j, decode in enumerate(graphs.decode) for name in term_names(decode.level.cross_flows > 0)
    ]
    return ("prepared", *(() if graphs.encode.mean is None else ("mean",)), *per_level)


@torch.no_grad()
def _term_ports(model: CAFlow, encode: Encode) -> list[tuple[Port, ...]]:
    """Return the ports of each level's terms. Running `encode` on a small condition shows their channels."""
    side = model.config.size_multiple // model.config.task.scale
    condition = torch.zeros(1, side, side, model.config.task.condition_channels, dtype=torch.uint8)
    outputs = encode(condition, torch.zeros(1, len(PARAMETERS)))  # ignored by models that are not told of degradations
    terms = list(outputs[1 if encode.mean is None else 2 :])
    ports = []
    for level in encode.levels:
        names = term_names(bool(level.cross_flows))
        own, terms = terms[: len(names)], terms[len(names) :]
        ports.append(
            tuple(
                Port(name, term.dtype, ("images", *((term.shape[1],) if term.ndim == 4 else ()), "h", "w"))
                for name, term in zip(names, own, strict=True)
            )
        )
    return ports


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what the bundle does not require: source lines, node names, and shapes that can be inferred."""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = ""
    for value in (*proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]


def _example(port: Port) -> Tensor:
    sizes = {"items": ITEMS, "images": IMAGES, "h": H, "w": W}
    shape = [size_of(size, sizes) for size in port.shape]
    if port.dtype == torch.int64:
        return torch.arange(shape[0]) % IMAGES
    if port.dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=torch.uint8)
    return torch.rand(shape).to(port.dtype)


def _dynamic(port: Port, dims: dict[str, Any]) -> dict[int, Any]:
    shape = {}
    for axis, size in enumerate(port.shape):
        if isinstance(size, str):
            factor, _, name = size.rpartition("*")
            shape[axis] = int(factor) * dims[name] if factor else dims[name]
    return shape


op: Any = opset18  # whose types do not include Python's numbers
LARGEST = 1e9
"""Larger inputs are replaced by this number, because their squares overflow. Both have the same arctangent."""
K, A, B, C, D, E = 0.63661978525, 0.40528339664, -0.06027502173, 0.48132677349, -0.05858037439, 0.36580780668


def arctangent(x: Any) -> Any:
    """Return the arctangent of x as x / (K s + A + B / (s + C + D / (s + E))), where s = √(1 + x²).

    This is the continued fraction of a rational function. Its coefficients minimize the largest relative error, which
    is 2.0e-8. With the rounding of float32 the error is at most 3e-7, as that of ONNX Runtime's own Atan on CPUs. The
    form has no branches, and fewer operations than a polynomial of the same accuracy.
    """
    x = op.Clip(x, -LARGEST, LARGEST)
    s = op.Sqrt(op.Add(op.Mul(x, x), 1.0))
    inner = op.Add(op.Add(s, C), op.Div(D, op.Add(s, E)))
    return op.Div(x, op.Add(op.Add(op.Mul(s, K), A), op.Div(B, inner)))
