"""Verification of a bundle's graphs against the model in float64.

First each graph runs on the inputs that the float64 chain computes, and each output is compared. Then the whole chains
are compared with `CAFlow.sample` and `CAFlow.log_prob` at two sizes. Last, properties of every flow are checked with
the graphs alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from caflow_export.graphs import ModelGraphs
from caflow_export.levels import Precision
from caflow_export.measure import GroupedConvolutions, Measure
from caflow_export.to_onnx import GraphToTrace, graphs_to_trace
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.manifest import DEGRADE, Measurement, PrecisionName
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.selftest import flow_errors, likelihood_error
from caflow_runtime.flow.tolerances import TOLERANCES, Tolerances
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.results import to_integers

SIDES_IN_MULTIPLES = [(3, 2), (1, 3)]
"""Height and width of the tested targets, in size multiples of the model. Graphs are traced with other sizes."""
CONDITIONS, SAMPLES = 2, 3
TEMPERATURE = 0.8
SEED = 0


@dataclass(frozen=True)
class Case:
    """Test inputs of one size: conditions, index of each item's image, noise of each level, and integer targets."""

    condition: Array
    image: Array
    noise: list[Array]
    target: Array


def verify(
    model: CAFlow, graphs: Mapping[str, Graph], precision: PrecisionName, verified_with: str
) -> list[Measurement]:
    """Compare `graphs` with the model in float64, and return all measurements.

    Arguments:
        graphs: callables that accept float32 and convert it to their own types.
        verified_with: name of the backend that runs the graphs.

    Raises:
        VerificationFailed: at the first error that exceeds its tolerance. The message names the graph and the output.
    """
    tolerances = TOLERANCES[precision]
    exact_model = _double(model)
    exact = torch_graphs(exact_model, Precision(torch.float64, torch.float64))
    measure = Measure(verified_with)
    for number, (rows, columns) in enumerate(SIDES_IN_MULTIPLES):
        multiple = model.config.size_multiple
        height, width = rows * multiple, columns * multiple
        case = _case(exact_model, height, width)
        size = f"at {height}×{width}"
        if number == 0:
            beside = GroupedConvolutions(exact, _taking_doubles(graphs), measure, tolerances.graph, f" {size}")
            beside.run(model.config.levels, case.condition, case.image, case.noise)
        _measure_chain(graphs, exact_model, case, size, tolerances, measure)
        if DEGRADE in exact:
            given = {"target": case.target, "condition": case.condition[case.image]}
            given = {name: array.astype(np.float32) for name, array in given.items()}
            error = graphs[DEGRADE](given)["degraded"] - exact[DEGRADE](given)["degraded"]
            measure(DEGRADE, f"degraded {size}, share of full scale", error / 256, tolerances.pixels)
    _measure_flow(graphs, exact_model, case, tolerances, measure)
    return measure.measured


@torch.no_grad()
def _measure_chain(
    graphs: Mapping[str, Graph], model: CAFlow, case: Case, size: str, tolerances: Tolerances, measure: Measure
) -> None:
    """Compare the whole chains for sampling and scoring with `CAFlow.sample` and `CAFlow.log_prob`."""
    levels = model.config.levels
    by_item = torch.from_numpy(case.condition[case.image]).permute(0, 3, 1, 2)
    noise = _noise_by_block(model, case)
    expected = model.sample(by_item, noise)
    encoded = level_chain.encode(graphs, case.condition)
    drawn = level_chain.sample(graphs, levels, encoded, case.image, _singles(case.noise))
    pixels = expected.images.permute(0, 2, 3, 1).numpy()
    error = (drawn.pixels - pixels) / max(256.0, float(np.abs(pixels).max()))
    measure("sample", f"pixels {size}, share of full scale", error, tolerances.pixels)
    measure("sample", f"pixels {size}, root mean square", np.sqrt(np.square(error).mean()), tolerances.pixels_rms)
    if tolerances.rounded is not None:
        rounded = graphs["to_image"]({"pixels": drawn.pixels})["integers"]
        different = rounded != to_integers(torch.from_numpy(pixels)).numpy()
        measure("sample", f"8-bit values that differ {size}", different.mean(), tolerances.rounded)
    total = expected.log_likelihood.total.numpy()
    error = likelihood_error(drawn.log_likelihood.sum(1), total, pixels)
    measure("sample", f"log-likelihood {size}, relative", error, tolerances.log_likelihood)

    target = torch.from_numpy(case.target).permute(0, 3, 1, 2)
    total = model.log_prob(target, by_item).total.numpy()
    scored, extra = _score_integers(graphs, levels, encoded, case)
    error = likelihood_error(scored.log_likelihood.sum(1) + extra, total, case.target)
    measure("score", f"log-likelihood {size}, relative", error, tolerances.log_likelihood)


def _measure_flow(
    graphs: Mapping[str, Graph], model: CAFlow, case: Case, tolerances: Tolerances, measure: Measure
) -> None:
    """Check properties of every flow, with the graphs alone."""
    arguments = case.condition, case.image, _singles(case.noise)
    for kind, what, error in flow_errors(graphs, model.config.levels, *arguments, not model.config.reference):
        measure("flow", what, error, tolerances.flow[kind])


def torch_graphs(model: CAFlow, precision: Precision) -> dict[str, Graph]:
    """Return the graphs of a model as callables for `flow.level_chain` that run in PyTorch."""
    traced = graphs_to_trace(model, ModelGraphs.of(model, precision), precision.state)
    return {graph.name: _torch_graph(graph) for graph in traced}


def converting(graphs: Mapping[str, Graph], described: list[bundle.Graph]) -> dict[str, Graph]:
    """Return graphs that convert each input to its declared type, so that callers may pass any float type."""
    return {graph.name: _converting(graphs[graph.name], graph.inputs) for graph in described}


def _converting(run: Graph, inputs: list[bundle.Port]) -> Graph:
    return lambda arrays: run({port.name: arrays[port.name].astype(port.type, copy=False) for port in inputs})


def _torch_graph(graph: GraphToTrace) -> Graph:
    @torch.no_grad()
    def run(arrays: Arrays) -> dict[str, Array]:
        ports = (*graph.inputs, *graph.terms)
        results = graph.module(*(port and torch.from_numpy(arrays[port.name]).to(port.dtype) for port in ports))
        results = results if isinstance(results, tuple) else (results,)
        return {name: _array(result) for name, result in zip(graph.outputs, results, strict=True)}

    return run


def _array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array. bfloat16 becomes float32, because NumPy has no bfloat16."""
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _score_integers(
    graphs: Mapping[str, Graph], levels: int, encoded: Arrays, case: Case
) -> tuple[level_chain.ChainResult, Array | float]:
    if "dequantize" not in graphs:
        return level_chain.score(
            graphs, levels, encoded, case.image, case.target.astype(np.float32) + np.float32(0.5)
        ), 0.0
    out = graphs["dequantize"]({"integers": case.target})
    scored = level_chain.score(graphs, levels, encoded, case.image, out["pixels"])
    return scored, out["log_likelihood_map"].sum((1, 2), dtype=np.float64)


def _case(model: CAFlow, height: int, width: int) -> Case:
    """Return smooth conditions, noise, and as targets the samples that the model draws with them."""
    generator = torch.Generator().manual_seed(SEED)
    multiple = model.config.size_multiple
    condition = smooth_conditions(model, height // multiple, width // multiple)
    image = torch.arange(CONDITIONS).repeat_interleave(SAMPLES)
    blocks = model.draw_noise(len(image), height, width, generator)
    noise = [
        torch.cat([TEMPERATURE * blocks[i, j] for i in range(model.config.levels) if (i, j) in blocks], 1)
        for j in range(model.config.levels)
    ]
    with torch.no_grad():
        drawn = model.sample(condition[image], blocks, TEMPERATURE).images
    target = to_integers(drawn).permute(0, 2, 3, 1).contiguous()
    nhwc = condition.permute(0, 2, 3, 1).contiguous()
    return Case(nhwc.numpy(), image.numpy(), [z.numpy() for z in noise], target.numpy())


def smooth_conditions(model: CAFlow, rows: int, columns: int) -> torch.Tensor:
    """Return random conditions that are as smooth as photographs, (2, 3, h, w) uint8.

    Arguments:
        rows, columns: height and width of the targets, in size multiples of the model.
    """
    multiple, scale = model.config.size_multiple, model.config.task.scale
    coarse = torch.rand(
        CONDITIONS, model.config.task.condition_channels, 5, 5, generator=torch.Generator().manual_seed(SEED)
    )
    sides = (rows * multiple // scale, columns * multiple // scale)
    smooth = nn.functional.interpolate(coarse, sides, mode="bicubic", align_corners=True)
    return (255 * smooth).clamp(0, 255).to(torch.uint8)


def _noise_by_block(model: CAFlow, case: Case) -> dict[tuple[int, int], torch.Tensor]:
    """Return the noise z[i, j] of each block, which stands side by side in `case.noise`."""
    blocks: dict[tuple[int, int], torch.Tensor] = {}
    shapes = model.conditional_flow.latent_shapes(CHANNELS, model.config.size_multiple, model.config.size_multiple)
    for j, z in enumerate(case.noise):
        flows = [i for i in range(model.config.levels) if (i, j) in shapes]
        parts = torch.from_numpy(z).split([shapes[i, j][0] for i in flows], 1)
        blocks |= {(i, j): part for i, part in zip(flows, parts, strict=True)}
    return blocks


def _double(model: CAFlow) -> CAFlow:
    double = CAFlow(model.config).double()
    double.load_state_dict(model.state_dict())
    return double.eval()


def _singles(arrays: list[Array]) -> list[Array]:
    return [array.astype(np.float32) for array in arrays]


def _taking_doubles(graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    return {name: _taking_double(graph) for name, graph in graphs.items()}


def _taking_double(graph: Graph) -> Graph:
    return lambda arrays: graph({k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in arrays.items()})
