"""Floors of the times of a bundle's graphs on this CPU, and how far from them ONNX Runtime and OpenVINO are.

The floor of a graph is the time of its convolutions alone, one after the other, by the fastest kernels known
(`convolutions.py`), without the time that PyTorch takes to call an operator. It is measured in float32 and, where the
processor supports it, in bfloat16, in turns with the graph itself in each runtime.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from convolutions import CALL, HAS_BF16, Convolution, convolutions_of, one_by_one
from precisions import Way, ways
from sampling import Graphs

from caflow_export.export import PRECISIONS
from caflow_export.verify import torch_graphs
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.flow import scan, selftest
from caflow_training import checkpoint

DTYPES = {"fp32": torch.float32, **({"bf16": torch.bfloat16} if HAS_BF16 else {})}
FLOOR = "floor"
FLOORS = {FLOOR: torch.float32, **({"floor bf16": torch.bfloat16} if HAS_BF16 else {})}
CALLS, MANY = "calls", 100
"""Name of the runs that time the call of an operator, and the number of calls in a run."""
PRODUCT_SIDE = 1536
"""Side of the square matrices of the product."""
PACKAGES = ("torch", "onnxruntime", "openvino")

Row = dict[str, Any]
Size = tuple[int, int]
"""Height and width of the result in pixels."""


def inputs_of(graphs: Graphs, model: Model, n: int, size: Size) -> dict[str, scan.Arrays]:
    """Return the inputs of each graph that runs when `n` samples of one image are drawn, by name."""
    given: dict[str, scan.Arrays] = {}

    def recording(name: str, arrays: scan.Arrays) -> dict[str, scan.Array]:
        given[name] = arrays
        return graphs[name](arrays)

    recorded = {name: partial(recording, name) for name in graphs}
    condition, _, noise = selftest.case(model, n, size)
    drawn = scan.sample(recorded, model.levels, scan.encode(recorded, condition[:1]), np.zeros(n, np.int64), noise)
    recorded["to_image"]({"pixels": drawn.pixels})
    return given


def convolutions_by_graph(bundle: Path, model: Model, n: int, size: Size) -> dict[str, list[Convolution]]:
    """Return the convolutions of each graph that runs when `n` samples of one image are drawn and that has any."""
    graphs = torch_graphs(checkpoint.load(bundle).eval(), PRECISIONS["fp32"])
    given = inputs_of(graphs, model, n, size)
    found = {name: convolutions_of(partial(graphs[name], arrays)) for name, arrays in given.items()}
    return {name: convolutions for name, convolutions in found.items() if convolutions}


def measured(
    found: list[Way], convolutions: dict[str, list[Convolution]], inputs: tuple[int, Size], **timing: Any
) -> list[Row]:
    """Return a row for each graph, and one for all: the floor in float32, and all times relative to it.

    Arguments:
        inputs: number of samples, and size of the result.
        timing: arguments of `report.side_by_side`.
    """
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, dtype in FLOORS.items():
        runs[name, CALLS] = one_by_one([CALL] * MANY, dtype)
        runs |= {(name, graph): one_by_one(of_graph, dtype) for graph, of_graph in convolutions.items()}
    for way in found:
        graphs = way.pipe.runner.graphs
        given = inputs_of(graphs, way.pipe.manifest.model, *inputs)
        runs |= {(way.name, graph): partial(graphs[graph], given[graph]) for graph in convolutions}
    seconds = report.side_by_side(runs, **timing)
    for name in FLOORS:
        call = seconds.pop((name, CALLS)) / MANY
        for graph, of_graph in convolutions.items():
            seconds[name, graph] -= call * len(of_graph)
    return [
        row(label, inputs[0], of, seconds, sum(one.operations for graph in of for one in convolutions[graph]))
        for label, of in (*((graph, [graph]) for graph in convolutions), ("all", list(convolutions)))
    ]


def row(label: str, n: int, graphs: list[str], seconds: dict[tuple[str, str], float], operations: int) -> Row:
    """Return the row of some graphs together. `seconds` are by name of the floor or way, and by graph."""
    took = {name: sum(seconds[name, graph] for graph in graphs) for name, _ in seconds}
    floor = took.pop(FLOOR)
    of_floor = {"GFLOP": operations / 1e9, "floor, s": floor, "GFLOP/s": operations / floor / 1e9}
    return {"graph": label, "n": n, **of_floor, **{name: value / floor for name, value in took.items()}}


def fastest(convolutions: Collection[Convolution], **timing: Any) -> dict[str, float]:
    """Return the rate of the fastest of some convolutions, in GFLOP/s, by precision."""
    rates = {}
    for name, dtype in DTYPES.items():
        took = report.side_by_side({one: one.prepare(dtype) for one in convolutions}, **timing)
        rates[name] = max(one.operations / seconds for one, seconds in took.items()) / 1e9
    return rates


def products(**timing: Any) -> dict[str, float]:
    """Return the rate of a large matrix product in PyTorch, in GFLOP/s, by precision.

    It depends on the library that computes it, so it is no bound: MKL's on processors of another vendor may be slower
    than convolutions.
    """
    matrices = {name: torch.randn(PRODUCT_SIDE, PRODUCT_SIDE).to(dtype) for name, dtype in DTYPES.items()}
    runs = {name: partial(torch.mm, matrix, matrix) for name, matrix in matrices.items()}
    return {name: 2 * PRODUCT_SIDE**3 / took / 1e9 for name, took in report.side_by_side(runs, **timing).items()}


@click.command("floors")
@report.BUNDLE
@click.option("--bf16", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in bf16.")
@click.option("--int8", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in int8.")
@click.option("--size", type=(int, int), default=(64, 64), show_default=True, help="Height and width of the results.")
@click.option("--samples", type=int, multiple=True, default=(1, 10), show_default=True, help="Numbers of samples.")
@report.ROUNDS
@report.CPU_TIME
@report.options
def measure_floors(
    bundle: Path,
    bf16: Path | None,
    int8: Path | None,
    size: Size,
    samples: tuple[int, ...],
    rounds: int,
    cpu_time: bool,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure the float32 model BUNDLE and its versions in other precisions."""
    torch.set_num_threads(threads)
    timing: dict[str, Any] = {"rounds": rounds, "cpu_time": cpu_time}
    rows: list[Row] = []
    seen = set[Convolution]()
    with ExitStack() as stack:
        found = list(ways({"fp32": bundle, "bf16": bf16, "int8": int8}, threads, stack))
        for n in samples:
            convolutions = convolutions_by_graph(bundle, found[0].pipe.manifest.model, n, size)
            rows += measured(found, convolutions, (n, size), **timing)
            seen |= {one for of_graph in convolutions.values() for one in of_graph}
    report.show(rows)
    rates = {"fastest convolution": fastest(seen, **timing), "matrix product": products(**timing)}
    report.show([{"GFLOP/s": name, **of_type} for name, of_type in rates.items()])
    settings: dict[str, Any] = {"bundle": bundle.stem, "size": size, "threads": threads, **timing}
    report.write(json_file, rows, PACKAGES, {"rates": rates}, **settings)
