"""Benchmark of best of N on a GPU: what each step towards deployment gains.

The models are the public implementation's default size and x4-photo. The variants are:

* `published`: the procedure of the paper in eager PyTorch. N samples are drawn one after the other, and a second pass
  scores each of them.
* `batched`: the same procedure in one batch.
* `transformed`: the graphs of the export in PyTorch, also with the whole chain as one CUDA graph.
* `onnxruntime`: the graphs of the export in ONNX Runtime, with all values on the GPU (`gpu_onnx.py`).

All variants except `published` and `batched` also show their errors, compared with the model in float64 with the same
noise. Beside each time stands the floor of the transformed graphs on this device (`gpu_floors.py`). Only PyTorch is
required; ways that cannot run are skipped. With `--device cpu` the benchmark can be tried without a GPU.
"""

import copy
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import report
import torch
from gpu_cases import (
    FRAME,
    FRAME_SAMPLES,
    NAMES,
    ROUNDS,
    SAMPLES,
    SIDE,
    WARM_UP,
    Case,
    Comparison,
    Subject,
    chain,
    seconds,
    truth,
)
from gpu_floors import Rates, Work
from gpu_onnx import onnx_rows
from sampling import batched, published, the_model
from torch import Tensor

from caflow_export.export import PRECISIONS
from caflow_export.graphs import ModelGraphs
from caflow_export.to_onnx import GraphToTrace, graphs_to_trace
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow import level_chain
from caflow_training import checkpoint
from caflow_training.model import CAFlow

LAYOUTS = {"": torch.contiguous_format, ", NHWC": torch.channels_last}
"""Memory layouts of weights, which convolutions also use for their results. NHWC suits the matrix units of GPUs."""

Graph = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def runner(graph: GraphToTrace, device: torch.device, layout: torch.memory_format) -> Graph:
    """Return a graph's module on a device as a callable for `flow.level_chain`. Its weights have this memory layout."""
    module = copy.deepcopy(graph.module).to(device).to(memory_format=layout)  # type: ignore[call-overload]

    def run(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = [port and arrays[port.name].to(port.dtype) for port in (*graph.inputs, *graph.terms)]
        results = module(*given)
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(graph.outputs, results, strict=True))

    return run


def captured(run: Callable[[], level_chain.ChainResult]) -> tuple[Callable[[], None], level_chain.ChainResult]:
    """Capture a chain as one CUDA graph. Return the function that replays it, and the tensors with its results."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        rows = run()
    return graph.replay, rows


def in_pytorch(
    model: CAFlow, case: Case, precision: PrecisionName, layout: torch.memory_format = LAYOUTS[""]
) -> Callable[[], level_chain.ChainResult]:
    """Return a function that runs the chain of transformed graphs in PyTorch."""
    device = case.condition.device
    traced = graphs_to_trace(model, ModelGraphs.of(model, PRECISIONS[precision]), torch.float32)
    graphs = {graph.name: runner(graph, device, layout) for graph in traced}
    condition = case.condition.permute(0, 2, 3, 1).contiguous()
    image = torch.zeros(case.samples, dtype=torch.int64, device=device)
    noise = case.per_level(model.config.levels)
    return lambda: chain(graphs, model.config.levels, condition, image, noise)


@torch.no_grad()
def small(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield a row for each variant: N samples of 64×64 pixels."""
    model, device = subject.model, subject.device
    slow = replace(subject, rounds=max(3, subject.rounds // 3))
    on_device = copy.deepcopy(model).to(device)
    for n in SAMPLES:
        case = Case.of(model, SIDE, SIDE, n, device)
        exact = truth(model, case)
        conditions = case.condition.expand(n, -1, -1, -1)
        chains = {precision: in_pytorch(model, case, precision) for precision in NAMES}
        floors = {precision: Work.of(run).floor(subject.rates) for precision, run in chains.items()}
        base = slow.seconds(partial(published, on_device, case.condition, n))
        compared = Comparison(subject.name, n, base, floors)
        yield compared.row("published", "fp32", base)
        yield compared.row("batched", "fp32", subject.seconds(partial(batched, on_device, conditions)))
        for precision, run in chains.items():
            errors = exact.errors(run(), lambda tensor: tensor)
            yield compared.row("transformed", precision, subject.seconds(run)) | errors
            if device.type == "cuda":
                for name, layout in LAYOUTS.items():
                    replay, rows = captured(in_pytorch(model, case, precision, layout))
                    row = compared.row(f"transformed, CUDA graph{name}", precision, subject.seconds(replay))
                    yield row | exact.errors(rows, torch.as_tensor)
        yield from onnx_rows(subject, case, exact, compared)


@torch.no_grad()
def frames(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield a row for each precision and layout: frames of 1080p per second by the transformed graphs."""
    model, device = subject.model, subject.device
    for n, precision, name in itertools.product(FRAME_SAMPLES, NAMES, LAYOUTS):
        case = Case.of(model, *FRAME, n, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = in_pytorch(model, case, precision, LAYOUTS[name])
        floor = Work.of(run).floor(subject.rates)
        took = subject.seconds(captured(run)[0] if device.type == "cuda" else run)
        row = {"model": subject.name, "way": f"transformed{name}", "precision": precision, "n": n}
        row |= {"ms": 1e3 * took, "frames/s": 1 / took} | floor.beside(took)
        yield row | ({"GiB": torch.cuda.max_memory_allocated() / 2**30} if device.type == "cuda" else {})


@click.command()
@click.option("--device", "device_name", default="cuda", show_default=True)
@click.option("--rounds", default=ROUNDS, show_default=True, help="Number of rounds; medians are reported.")
@click.option(
    "--frames/--no-frames", "with_frames", default=True, show_default=True, help="Also measure frames of 1080p."
)
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    help="Folder of the bundles MODEL-PRECISION.caflow. Missing ones are exported to it.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the results to this JSON file.")
def main(device_name: str, rounds: int, with_frames: bool, bundles: Path | None, json_file: Path | None) -> None:
    """Measure all variants that this machine can run."""
    device = torch.device(device_name)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    models = {"default": the_model(), "x4-photo": checkpoint.load(find_bundle("x4-photo"))}
    rates = Rates.measured(device, partial(seconds, device=device, rounds=rounds))
    print(json.dumps(rates.figures()), flush=True)
    rows: list[dict[str, Any]] = []
    frame_rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in models.items():
            subject = Subject(name, model, device, rounds, bundles or Path(scratch), rates)
            for row in small(subject):
                rows.append(row)
                print(json.dumps(row), flush=True)
            if with_frames:
                slow = replace(subject, rounds=max(3, rounds // 3))
                for row in frames(slow):
                    frame_rows.append(row)
                    print(json.dumps(row), flush=True)
    print(f"{card}, PyTorch {torch.__version__}\n")
    report.show(rows)
    report.show(frame_rows)
    figures = {"rates": rates.figures(), "frames": frame_rows}
    report.write(json_file, rows, figures, card=card, rounds=rounds)


if __name__ == "__main__":
    main()
