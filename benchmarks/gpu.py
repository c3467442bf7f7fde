"""Best of N on a GPU, the public implementation's default size and x4-photo: what each step to deployment gains.

`published` is the paper's procedure in eager PyTorch, N sequential samples, each scored by a second pass; `batched` the
same in one batch; `transformed` the graphs of the export in PyTorch, and with the whole chain as one CUDA graph;
`onnxruntime cuda` where that is installed. Beside every time is the error against the model in float64 with the same
noise. PyTorch is enough to run it; with `--device cpu` it shows what it would do.
"""

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import report
import torch
from sampling import TEMPERATURE, batched, published, the_model
from torch import Tensor

from caflow_export.export import PRECISIONS, PrecisionName, export
from caflow_export.graphs import ModelGraphs
from caflow_export.to_onnx import GraphToTrace, graphs_to_trace
from caflow_runtime import bundle, scan
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound
from caflow_runtime.builtin import find_checkpoint
from caflow_runtime.errors import BackendError
from caflow_training import checkpoint
from caflow_training.model import CHANNELS, CAFlow

SIDE = 64
SAMPLES = (1, 10)
FRAME = (1088, 1920)
"""1080p, rounded up to what every model here can make."""
FRAME_SAMPLES = (1, 4)
ROUNDS, WARM_UP = 15, 3
NAMES: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")

Graph = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A condition, and noise for N samples of it."""

    condition: Tensor
    """(1, 3, h, w) uint8."""
    noise: dict[tuple[int, int], Tensor]
    samples: int

    @classmethod
    def of(cls, model: CAFlow, height: int, width: int, samples: int, device: torch.device) -> "Case":
        generator = torch.Generator().manual_seed(0)
        scale = model.config.task.scale
        condition = torch.randint(0, 256, (1, CHANNELS, height // scale, width // scale), generator=generator)
        noise = model.draw_noise(samples, height, width, generator)
        moved = {key: z.to(device, torch.float32) for key, z in noise.items()}
        return cls(condition.to(device, torch.uint8), moved, samples)

    def per_level(self, levels: int) -> list[Tensor]:
        """z of each level, as the graphs take it."""
        return [TEMPERATURE * torch.cat([self.noise[i, j] for i in range(j, levels)], 1) for j in range(levels)]


def runner(graph: GraphToTrace, device: torch.device) -> Graph:
    """A graph's module, as the scan calls it."""
    module = copy.deepcopy(graph.module).to(device)

    def run(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = [port and arrays[port.name].to(port.dtype) for port in (*graph.inputs, *graph.terms)]
        results = module(*given)
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(graph.outputs, results, strict=True))

    return run


def chain(graphs: Mapping[str, Any], levels: int, condition: Any, image: Any, noise: list[Any]) -> scan.Rows:
    """One condition to N samples with their likelihoods."""
    rows = scan.sample(graphs, levels, scan.encode(graphs, condition), image, noise)
    graphs["to_image"]({"pixels": rows.pixels})
    return rows


def captured(run: Callable[[], scan.Rows]) -> tuple[Callable[[], None], scan.Rows]:
    """A chain as one CUDA graph: its replay, and where its results are."""
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


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median, with the device's work finished."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for _ in range(rounds + WARM_UP):
        finish()
        started = time.perf_counter()
        run()
        finish()
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


@dataclass(frozen=True)
class Truth:
    """Of one case, in float64."""

    pixels: Tensor
    log_likelihood: Tensor

    def errors(self, rows: scan.Rows, device_to_tensor: Callable[[Any], Tensor]) -> dict[str, float]:
        """Of pixels as a share of full scale, root mean square, and of log-likelihoods, relative: the largest."""
        pixels = device_to_tensor(rows.pixels).double().cpu()
        shares = [device_to_tensor(share).double().cpu().sum((1, 2)) for maps in rows.shares for share in maps]
        relative = (torch.stack(shares).sum(0) / self.log_likelihood - 1).abs().max()
        rms = (pixels - self.pixels).square().mean().sqrt() / 256
        return {"pixel error": float(rms), "likelihood error": float(relative)}


def truth(model: CAFlow, case: Case) -> Truth:
    """The model itself, on the device, in float64."""
    exact = copy.deepcopy(model).double().to(case.condition.device)
    noise = {key: z.double() for key, z in case.noise.items()}
    drawn = exact.sample(case.condition.expand(case.samples, -1, -1, -1), noise, TEMPERATURE)
    return Truth(drawn.images.permute(0, 2, 3, 1).cpu(), drawn.log_likelihood.total.cpu())


def in_pytorch(model: CAFlow, case: Case, precision: PrecisionName, device: torch.device) -> Callable[[], scan.Rows]:
    """The transformed graphs."""
    traced = graphs_to_trace(model, ModelGraphs.of(model, PRECISIONS[precision]), torch.float32)
    graphs = {graph.name: runner(graph, device) for graph in traced}
    condition = case.condition.permute(0, 2, 3, 1).contiguous()
    image = torch.zeros(case.samples, dtype=torch.int64, device=device)
    noise = case.per_level(model.config.levels)
    return lambda: chain(graphs, model.config.levels, condition, image, noise)


def in_onnx_runtime(backend: OnnxRuntimeBound, folder: Path, case: Case, levels: int) -> Callable[[], scan.Rows]:
    """The graphs of a bundle through ONNX Runtime's CUDA provider, values kept on the GPU."""
    manifest = bundle.read_manifest(folder)
    graphs = {graph.name: backend.load(folder / graph.file.path) for graph in manifest.graphs}
    condition = backend.to_device(case.condition.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    image = backend.to_device(torch.zeros(case.samples, dtype=torch.int64).numpy())
    noise = [backend.to_device(z.cpu().numpy()) for z in case.per_level(levels)]
    return lambda: chain(graphs, levels, condition, image, noise)


@torch.no_grad()
def small(name: str, model: CAFlow, device: torch.device, rounds: int, scratch: Path) -> Iterator[dict[str, Any]]:
    """N samples at 64×64 by every way."""
    on_device = copy.deepcopy(model).to(device)
    for n in SAMPLES:
        case = Case.of(model, SIDE, SIDE, n, device)
        exact = truth(model, case)
        conditions = case.condition.expand(n, -1, -1, -1)
        base = seconds(partial(published, on_device, case.condition, n), device, max(3, rounds // 3))
        yield line(name, "published", "fp32", n, base, base)
        yield line(name, "batched", "fp32", n, seconds(partial(batched, on_device, conditions), device, rounds), base)
        for precision in NAMES:
            run = in_pytorch(model, case, precision, device)
            errors = exact.errors(run(), lambda tensor: tensor)
            yield line(name, "transformed", precision, n, seconds(run, device, rounds), base) | errors
            if device.type == "cuda":
                replay, rows = captured(run)
                row = line(name, "transformed, CUDA graph", precision, n, seconds(replay, device, rounds), base)
                yield row | exact.errors(rows, torch.as_tensor)
        yield from onnx_lines(name, model, case, exact, base, device, rounds, scratch)


def onnx_lines(
    name: str, model: CAFlow, case: Case, exact: Truth, base: float, device: torch.device, rounds: int, scratch: Path
) -> Iterator[dict[str, Any]]:
    """ONNX Runtime, where its CUDA provider works."""
    try:
        backend = OnnxRuntimeBound("cuda")
    except BackendError as error:
        print(f"onnxruntime cuda is left out: {error}")
        return
    for precision in NAMES[::2]:  # ONNX Runtime has no convolution in bf16
        folder = scratch / f"{name}-{precision}.caflow"
        if not folder.is_dir():
            checkpoint.save(scratch / f"{name}.pt", model)
            export(scratch / f"{name}.pt", folder, precision)
        run = in_onnx_runtime(backend, folder, case, model.config.levels)
        errors = exact.errors(run(), lambda value: torch.from_numpy(value.numpy()))
        yield line(name, "onnxruntime cuda", precision, case.samples, seconds(run, device, rounds), base) | errors


@torch.no_grad()
def frames(name: str, model: CAFlow, device: torch.device, rounds: int) -> Iterator[dict[str, Any]]:
    """Frames of 1080p per second by the transformed graphs."""
    for n in FRAME_SAMPLES:
        case = Case.of(model, *FRAME, n, device)
        for precision in NAMES:
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            run = in_pytorch(model, case, precision, device)
            took = seconds(captured(run)[0] if device.type == "cuda" else run, device, rounds)
            row = {"model": name, "precision": precision, "n": n, "ms": 1e3 * took, "frames/s": 1 / took}
            yield row | ({"GiB": torch.cuda.max_memory_allocated() / 2**30} if device.type == "cuda" else {})


def line(model: str, way: str, precision: str, n: int, took: float, base: float) -> dict[str, Any]:
    """One row of the first table."""
    return {"model": model, "way": way, "precision": precision, "n": n, "ms": 1e3 * took, "over published": base / took}


@click.command()
@click.option("--device", "device_name", default="cuda", show_default=True)
@click.option("--rounds", default=ROUNDS, show_default=True, help="Of which the median counts.")
@click.option("--frames/--no-frames", "with_frames", default=True, show_default=True, help="1080p too.")
@click.option("--bundles", type=click.Path(path_type=Path), help="Where MODEL-PRECISION.caflow are, or will be.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here.")
def main(device_name: str, rounds: int, with_frames: bool, bundles: Path | None, json_file: Path | None) -> None:
    """Measure everything that this machine can run."""
    device = torch.device(device_name)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    models = {"default": the_model(), "x4-photo": checkpoint.load(find_checkpoint("x4-photo"))}
    rows: list[dict[str, Any]] = []
    frame_rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in models.items():
            for row in small(name, model, device, rounds, bundles or Path(scratch)):
                rows.append(row)
                print(json.dumps(row), flush=True)
            for row in frames(name, model, device, max(3, rounds // 3)) if with_frames else ():
                frame_rows.append(row)
                print(json.dumps(row), flush=True)
    print(f"{card}, PyTorch {torch.__version__}\n")
    errors = ("pixel error", "likelihood error")
    report.show([row | {key: row.get(key, "") for key in errors} for row in rows])
    if frame_rows:
        print()
        report.show(frame_rows)
    report.write(json_file, rows, ("torch",), card=card, frames=frame_rows, rounds=rounds)


if __name__ == "__main__":
    main()
