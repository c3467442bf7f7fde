"""Floors of the times of a bundle's graphs on this CPU, and how far from them ONNX Runtime and OpenVINO are.

The floor of a graph is that of `gpu_floors.py`: no runtime that computes the layers one after the other is faster than
their operations at the rate of a large convolution, or than their bytes at the rate of a large copy.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from gpu_floors import Rates, Work
from precisions import ways
from sampling import Graphs

from caflow_export.export import PRECISIONS
from caflow_export.verify import torch_graphs
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.flow import level_chain, selftest
from caflow_training import checkpoint

Size = tuple[int, int]
"""Height and width of the result in pixels."""


def inputs_of(graphs: Graphs, model: Model, n: int, size: Size) -> dict[str, level_chain.Arrays]:
    """Return the inputs of each graph that runs when `n` samples of one image are drawn, by name."""
    given: dict[str, level_chain.Arrays] = {}

    def recording(name: str, arrays: level_chain.Arrays) -> dict[str, level_chain.Array]:
        given[name] = arrays
        return graphs[name](arrays)

    recorded = {name: partial(recording, name) for name in graphs}
    condition, _, noise = selftest.case(model, n, size)
    level_chain.sample(
        recorded, model.levels, level_chain.encode(recorded, condition[:1]), np.zeros(n, np.int64), noise
    )
    return given


@torch.no_grad()
def work_of(bundle: Path, model: Model, n: int, size: Size) -> dict[str, Work]:
    """Return the work of each graph that runs when `n` samples of one image are drawn."""
    graphs = torch_graphs(checkpoint.load(bundle).eval(), PRECISIONS["fp32"])
    return {name: Work.of(partial(graphs[name], arrays)) for name, arrays in inputs_of(graphs, model, n, size).items()}


@click.command("floors")
@report.BUNDLE
@click.option("--bf16", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in bf16.")
@click.option("--size", type=(int, int), default=(64, 64), show_default=True, help="Height and width of the results.")
@click.option("--samples", type=int, multiple=True, default=(1, 10), show_default=True, help="Numbers of samples.")
@report.ROUNDS
@report.CPU_TIME
@report.options
def measure_floors(
    bundle: Path,
    bf16: Path | None,
    size: Size,
    samples: tuple[int, ...],
    rounds: int,
    cpu_time: bool,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure the float32 model BUNDLE and its version in bf16. Times are relative to the floor in float32."""
    torch.set_num_threads(threads)
    timing: dict[str, Any] = {"rounds": rounds, "cpu_time": cpu_time}
    rates = Rates.measured(torch.device("cpu"), lambda run: report.side_by_side({"": run}, **timing)[""])
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        found = list(ways({"fp32": bundle, "bf16": bf16}, threads, stack))
        for n in samples:
            work = work_of(bundle, found[0].pipe.manifest.model, n, size)
            runs: dict[tuple[str, str], Callable[[], object]] = {}
            for way in found:
                graphs = way.pipe.runner.graphs
                given = inputs_of(graphs, way.pipe.manifest.model, n, size)
                runs |= {(way.name, name): partial(graphs[name], given[name]) for name in work}
            seconds = report.side_by_side(runs, **timing)
            for label, names in (*((name, [name]) for name in work), ("all", list(work))):
                floor = sum(work[name].floor(rates).seconds for name in names)
                took = {way.name: sum(seconds[way.name, name] for name in names) for way in found}
                rows.append({"graph": label, "n": n, "floor, s": floor} | {w: t / floor for w, t in took.items()})
    report.show(rows)
    figures = {"rates": rates.figures()}
    report.write(json_file, rows, figures, bundle=bundle.stem, size=size, threads=threads, **timing)
