"""Progressive best-of-N: the time that dropping samples between levels saves, and how much worse the winner is.

Conditions are reduced crops of photographs. Every schedule draws the best of N from the same noise; each crop has
different noise. Regret is how far the winner's log-likelihood is below that of the full best-of-N, in bits per
dimension. It is 0 where both choose the same sample.
"""

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from numpy.typing import NDArray

from caflow_deploy.images.image_files import read_image
from caflow_runtime.pipeline.pipeline import Pipeline, load

N = 10
SIDE = 64
CROPS_PER_PHOTOGRAPH = 4


def crops(folder: Path, pipe: Pipeline) -> list[NDArray[np.uint8]]:
    """Return conditions: crops of SIDE×SIDE of every photograph, reduced. A fixed seed chooses their places."""
    rng = np.random.default_rng(0)
    found = []
    for path in sorted(folder.glob("*.jpg")):
        image = read_image(path).rgb
        for _ in range(CROPS_PER_PHOTOGRAPH):
            top, left = (int(rng.integers(side - SIDE)) for side in image.shape[:2])
            found.append(pipe.consistency.degraded(np.asarray(image[top : top + SIDE, left : left + SIDE], np.uint8)))
    return found


def schedules(levels: int) -> list[tuple[int, ...]]:
    """Return all schedules: N samples at the first level, then one of a few numbers at each level, never increasing."""
    found = [(N, *rest) for rest in product((10, 7, 5, 3, 2), repeat=levels - 1)]
    return [keep for keep in found if list(keep) == sorted(keep, reverse=True)]


def measure(
    pipe: Pipeline, conditions: list[NDArray[np.uint8]], temperature: float, rounds: int
) -> list[dict[str, Any]]:
    """Return the speed-up and the regret of every schedule, a row for each."""

    def bits(keep: tuple[int, ...] | None) -> NDArray[np.float64]:
        results = [
            pipe.best_of(image, n=N, temperature=temperature, seed=k, keep=keep) for k, image in enumerate(conditions)
        ]
        return np.concatenate([result.bits_per_dim for result in results])

    full, rows = bits(None), []
    for keep in schedules(pipe.manifest.model.levels):
        regret = bits(keep) - full
        runs = {
            "full": partial(pipe.best_of, conditions[0], n=N, temperature=temperature),
            "pruned": partial(pipe.best_of, conditions[0], n=N, temperature=temperature, keep=keep),
        }
        seconds = report.side_by_side(runs, rounds)
        rows.append(
            {
                "keep": ", ".join(map(str, keep)),
                "temperature": temperature,
                "speed-up": seconds["full"] / seconds["pruned"],
                "same winner": float((regret == 0).mean()),
                "mean regret": float(regret.mean()),
                "largest regret": float(regret.max()),
            }
        )
    return rows


@click.command("progressive")
@report.BUNDLE
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=Path("tests/data/photographs"))
@report.options
@report.ROUNDS
def measure_progressive(bundle: Path, data: Path, threads: int, json_file: Path | None, rounds: int) -> None:
    """Measure what dropping samples between levels saves and costs, for photographs in --data."""
    with load(bundle, backend="cpu", threads=threads) as pipe:
        conditions = crops(data, pipe)
        rows = []
        for temperature in (0.8, 1.0):
            rows += measure(pipe, conditions, temperature, rounds)
    report.show(rows)
    report.write(json_file, rows, crops=len(conditions), threads=threads)
