"""Speed and errors of a model on this CPU, in ONNX Runtime and in OpenVINO, for each precision.

Each combination of backend and precision draws the same samples of the same photographs. Errors are differences from
ONNX Runtime in float32.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from numpy.typing import NDArray

from caflow_deploy.images.photographs import Pair, pairs_of, photographs_in
from caflow_runtime.pipeline.pipeline import Pipeline, load

SAMPLES = (1, 10)
SIDE, IMAGES = 256, 4
"""Width and height of the results in pixels, and number of photographs that are drawn in one call."""
Results = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Way:
    """A bundle that is loaded by one backend."""

    name: str
    pipe: Pipeline

    def draw(self, pairs: list[Pair], n: int) -> None:
        """Draw the best of `n` samples for the condition of each pair."""
        self.pipe.best_of([pair.condition for pair in pairs], n=n)

    def results(self, pairs: list[Pair]) -> Results:
        """Return a sample of each pair, (N, H, W, 3), and (N,) bits/dim of the samples and of the true images."""
        conditions, targets = [pair.condition for pair in pairs], [pair.target for pair in pairs]
        drawn, scored = self.pipe.best_of(conditions, n=1), self.pipe.score(targets, conditions)
        return np.stack(list(drawn.images)).astype(np.float64), drawn.bits_per_dim, scored.bits_per_dim


def ways(bundles: dict[str, Path | None], threads: int, stack: ExitStack) -> Iterator[Way]:
    """Load each bundle with each backend that supports its precision. float32 in ONNX Runtime comes first."""
    for precision, bundle in bundles.items():
        for backend in ("cpu", "openvino"):
            if bundle is not None and (precision, backend) != ("bf16", "cpu"):  # not in ONNX Runtime on CPUs
                pipe = stack.enter_context(load(bundle, backend=backend, threads=threads))
                yield Way(f"{pipe.backend} {precision}", pipe)


def errors(way: Way, exact: Results, pairs: list[Pair]) -> dict[str, float]:
    """Return the differences of the results from the exact results, by name of the column."""
    pixels, drawn, scored = way.results(pairs)
    difference = pixels - exact[0]
    return {
        "largest error, grey levels": float(np.abs(difference).max()),
        "RMS error": float(np.sqrt(np.square(difference).mean())),
        "samples, bits/dim": float(np.abs(drawn - exact[1]).max()),
        "true images, bits/dim": float((scored - exact[2]).mean()),
    }


@click.command("precisions")
@report.BUNDLE
@click.argument("folder", metavar="PHOTOGRAPHS", type=click.Path(path_type=Path, exists=True))
@click.option("--fp16", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in fp16.")
@click.option("--bf16", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in bf16.")
@click.option("--int8", type=click.Path(path_type=Path, exists=True), help="Bundle of the same model in int8.")
@report.ROUNDS
@report.CPU_TIME
@report.options
def measure_precisions(
    bundle: Path,
    folder: Path,
    fp16: Path | None,
    bf16: Path | None,
    int8: Path | None,
    rounds: int,
    cpu_time: bool,
    threads: int,
    json_file: Path | None,
) -> None:
    """Time the float32 model BUNDLE and its versions in other precisions on crops of the photographs in a folder."""
    bundles = {"fp32": bundle, "fp16": fp16, "bf16": bf16, "int8": int8}
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        found = list(ways(bundles, threads, stack))
        model, degrade = found[0].pipe.manifest.model, found[0].pipe.consistency.degraded
        pairs = [pair for one in photographs_in(folder)[:IMAGES] for pair in pairs_of(one, model, degrade, [SIDE])[:1]]
        exact = found[0].results(pairs)
        seconds = {
            n: report.side_by_side({way.name: partial(way.draw, pairs, n) for way in found}, rounds, cpu_time=cpu_time)
            for n in SAMPLES
        }
        for way in found:
            first, best = ({n: seconds[n][name] for n in SAMPLES} for name in (found[0].name, way.name))
            times = {f"s, n = {n}": best[n] for n in SAMPLES} | {f"×, n = {n}": first[n] / best[n] for n in SAMPLES}
            rows.append({"way": way.name, **times, **errors(way, exact, pairs)})
    report.show(rows)
    settings: dict[str, Any] = {"threads": threads, "side": SIDE, "images": len(pairs)}
    report.write(json_file, rows, **settings, rounds=rounds, cpu_time=cpu_time)
