"""Entries of a bundle's manifest: the model, its graphs, and the checkpoint that they come from."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import msgspec
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from caflow_export.to_onnx import GraphToTrace, Port
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle import stored_checkpoint
from caflow_runtime.bundle.reading import sha256_of
from caflow_training import checkpoint as checkpoints
from caflow_training import reference_checkpoint
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.resuming import ADVERSARY

TYPE_NAMES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT64: "int64",
}


def numbers_of(model: CAFlow, sampling: bundle.Sampling) -> bundle.Model:
    """Return what a manifest says of a model: its task, sizes, levels and channels, and how it is best used."""
    config, task = model.config, model.config.task
    shapes = model.conditional_flow.latent_shapes(CHANNELS, config.size_multiple, config.size_multiple)
    return bundle.Model(
        task=task.task,
        description=task.description.format(scale=task.scale),
        condition_color=task.condition_color,
        keeps_gray=task.keeps_gray,
        inputs=msgspec.convert(
            [{"name": name, "preparation": how} for name, how in task.inputs.items()], list[bundle.ModelInput]
        ),
        can_be_tiled=task.can_be_tiled,
        sampling=sampling,
        scale=task.scale,
        size_multiple=config.size_multiple,
        levels=config.levels,
        channels=CHANNELS,
        residual=config.residual,
        dependencies=cast(Any, config.dependencies),
        noise_channels=[
            [shapes[i, j][0] for i in range(config.levels) if (i, j) in shapes] for j in range(config.levels)
        ],
        condition_channels=cast(Any, task.condition_channels),
        known_channels=cast(Any, list(task.known_channels)),
        color_space=task.color_space,
        reduction=task.reduction,
    )


def graph_entry(graph: GraphToTrace, proto: onnx.ModelProto, file: bundle.File, cell: int) -> bundle.Graph:
    """Return a graph's entry in the manifest.

    Inputs are as declared in `graph.ports`, and outputs as the tracer found them. The tracer's names of dynamic sizes
    are replaced by the names in the declared inputs.
    """
    names: dict[str, str] = {}
    for port, value in zip(graph.ports, proto.graph.input, strict=True):
        for wanted, dim in zip(port.shape, value.type.tensor_type.shape.dim, strict=True):
            if isinstance(wanted, str) and "*" not in dim.dim_param:
                names[dim.dim_param] = wanted
    inputs = [
        bundle.Port(port.name, TYPE_NAMES[value.type.tensor_type.elem_type], list(port.shape))
        for port, value in zip(graph.ports, proto.graph.input, strict=True)
    ]
    outputs = [_output(value, names) for value in proto.graph.output]
    return bundle.Graph(graph.name, file, inputs, outputs, count_operations(graph, cell))


def _output(value: onnx.ValueInfoProto, names: Mapping[str, str]) -> bundle.Port:
    def size(dim: Any) -> int | str:
        if not dim.dim_param:
            return int(dim.dim_value)
        factor, _, name = dim.dim_param.rpartition("*")
        named = names.get(name, name)
        return f"{factor}*{named}" if factor else named

    tensor = value.type.tensor_type
    return bundle.Port(value.name, TYPE_NAMES[tensor.elem_type], [size(dim) for dim in tensor.shape.dim])


def source_of(path: Path) -> bundle.Source:
    """Return what a manifest says of a checkpoint: its hash, its format, and the training that it stores."""
    contents = checkpoints.read(path)
    is_reference = reference_checkpoint.is_reference(contents)
    training = {} if is_reference or contents["training"] is None else dict(contents["training"])
    for state in ("optimizer", ADVERSARY):  # only a resumed training needs them
        training.pop(state, None)
    return bundle.Source(
        checkpoint_sha256=sha256_of(path / stored_checkpoint.NAME if path.is_dir() else path),
        checkpoint_format="public reference implementation" if is_reference else checkpoints.FORMAT,
        training=training,
        exporter_version=version("caflow-deploy"),
    )


@torch.no_grad()
def count_operations(graph: GraphToTrace, cell: int) -> float:
    """Return the number of multiplications and additions in a graph's convolutions.

    The number is per target pixel and item; for `encode` it is per target pixel and image.

    Arguments:
        cell: number of target pixels, along one axis, that correspond to h = 1 in the shapes of the graph.
    """
    arguments = [port and _smallest(port) for port in (*graph.inputs, *graph.terms)]
    with FlopCounterMode(display=False) as counter:
        graph.module(*arguments)
    return float(counter.get_total_flops()) / cell**2


def _smallest(port: Port) -> torch.Tensor:
    """Return an input of zeros for a port, with every named size set to 1."""
    sizes = [size if isinstance(size, int) else int(size.rpartition("*")[0] or 1) for size in port.shape]
    return torch.zeros(sizes, dtype=port.dtype)
