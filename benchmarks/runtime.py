"""Cost of the runtime: a cold start, the likelihoods that come with every sample, and the growth of time with N.

The cost of likelihoods is the time of the graphs with their log-likelihood maps, compared with the same graphs without
them. The growth with N compares calls of the pipeline with the number of operations in the manifest.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx
import report

from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.flow import scan
from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.health.bench import bench
from caflow_runtime.pipeline.pipeline import load

SIDE = 64
SAMPLES = (1, 10)
PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")
NO_MAP: scan.Array = np.zeros((1, 1, 1), np.float32)


def cold_starts(folder: Path, scratch: Path, rounds: int) -> list[dict[str, Any]]:
    """Return the seconds of fresh processes, from start to end, a row for each."""
    (condition,) = smooth_conditions(1, SIDE // 4, SIDE // 4)
    cv2.imwrite(str(scratch / "small.png"), condition)
    command = [sys.executable, "-m", "caflow_deploy.cli"]
    image = ["image", str(scratch / "small.png"), "-o", str(scratch / "large.png"), "--bundle", str(folder), "--force"]
    processes = {
        "python alone": [sys.executable, "-c", "pass"],
        "import caflow_deploy": [sys.executable, "-c", "import caflow_deploy"],
        "caflow --help": [*command, "--help"],
        f"caflow image, best of 10 at {SIDE}×{SIDE}": [*command, *image],
    }
    runs = {name: partial(subprocess.run, argv, check=True, capture_output=True) for name, argv in processes.items()}
    return [{"process": name, "seconds": value} for name, value in report.side_by_side(runs, rounds).items()]


def without_maps(folder: Path, scratch: Path) -> Path:
    """Write a copy of a bundle whose sampling graphs do not compute log-likelihood maps. Return its folder."""
    copy = Path(shutil.copytree(folder, scratch / "without.caflow"))
    for graph in read_manifest(folder).graphs:
        if graph.name.startswith(("decode", "reverse")):
            proto = onnx.load(folder / graph.file.path, load_external_data=False)
            kept = [output for output in proto.graph.output if output.name != "log_likelihood_map"]
            del proto.graph.output[:]
            proto.graph.output.extend(kept)
            # ONNX Runtime removes the nodes that only the map needed, since they lead to no output.
            (copy / graph.file.path).write_bytes(proto.SerializeToString())
    return copy


def sampling(folder: Path, threads: int) -> Mapping[str, scan.Graph]:
    """Load the graphs of a bundle. The log-likelihood map of a graph that has none is a single zero."""
    backend = OnnxRuntimeCpu(threads)
    graphs = {g.name: backend.load(folder / g.file.path) for g in read_manifest(folder).graphs}

    def run(name: str, arrays: scan.Arrays) -> dict[str, scan.Array]:
        return {"log_likelihood_map": NO_MAP} | graphs[name](arrays)

    return {name: partial(run, name) for name in graphs}


def likelihood_cost(folder: Path, scratch: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return the seconds of sampling with and without log-likelihood maps, for each N.

    The time is from encoding the condition to the pixels of the samples. With maps it includes their sums.
    """
    model = read_manifest(folder).model
    (condition,) = smooth_conditions(1, SIDE // model.scale, SIDE // model.scale)
    chains = {"with": sampling(folder, threads), "without": sampling(without_maps(folder, scratch), threads)}
    rows = []
    for n in SAMPLES:
        noise = []
        for j, channels in enumerate(model.noise_channels):
            side = SIDE // bundle.cell_side(model, f"decode_{j}")
            noise.append(draw_window_noise(channels, j, NoiseWindow(0, 0, side, side, tuple(range(n))), seed=0))

        def chain(name: str, n: int = n, noise: list[scan.Array] = noise) -> None:
            graphs = chains[name]
            encoded = scan.encode(graphs, condition[None])
            drawn = scan.sample(graphs, model.levels, encoded, np.zeros(n, np.int64), noise)
            graphs["to_image"]({"pixels": drawn.pixels})
            if name == "with":
                drawn.log_likelihood.sum(1)

        seconds = report.side_by_side({name: partial(chain, name) for name in chains}, rounds)
        rows.append({"n": n, "threads": threads, **seconds, "with / without": seconds["with"] / seconds["without"]})
    return rows


def growth(folder: Path, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Return the time of best-of-N through the pipeline for several N, as `caflow bench` measures it."""
    with load(folder, backend="cpu", threads=threads) as pipe:
        return [
            {
                "n": timing.samples,
                "threads": threads,
                "ms": 1e3 * timing.median_s,
                "samples/s": timing.samples_per_s,
                "GFLOP/s": timing.gflop_per_s,
                "× n = 1": timing.times_first,
                "× counted": timing.counted_times_first,
            }
            for timing in bench(pipe, SIDE, (1, 2, 5, 10, 20), seconds)
        ]


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@report.options
@click.option("--rounds", default=15, show_default=True, help="Number of timed rounds; the median is reported.")
def main(folder: Path, threads: int, json_file: Path | None, rounds: int) -> None:
    """Measure the ×4 model BUNDLE with each number of threads from 1 to --threads."""
    counts = range(1, threads + 1)
    with tempfile.TemporaryDirectory() as name:
        starts = cold_starts(folder, Path(name), rounds)
        cost = []
        for count in counts:
            with tempfile.TemporaryDirectory() as scratch:
                cost += likelihood_cost(folder, Path(scratch), count, 10 * rounds)
    grown = [row for count in counts for row in growth(folder, count, seconds=rounds / 5)]
    for rows in (starts, cost, grown):
        report.show(rows)
        print()
    report.write(json_file, starts, PACKAGES, likelihood=cost, growth=grown, rounds=rounds)


if __name__ == "__main__":
    main()
