"""Coverage: do samples of degraded photographs differ as much as the true image is uncertain?

19 samples of each condition of `quality.py`, 64→256, are drawn at τ = 1. If the true image were one more sample, the
mean of a block would lie between those of the lowest and the highest sample in 90 % of the blocks. `caflow calibrate`
measures one block of each crop, relative to the block around it. Here all blocks count, with absolute means, for each
degradation separately.
"""

from pathlib import Path

import click
import cv2
import numpy as np
import report
from degradations import DEGRADATIONS, degraded
from metrics import WHOLE, Crop, crops
from numpy.typing import NDArray
from quality import PHOTOGRAPHS, Row, mean_difference

from caflow_runtime.jobs.coverage import SAMPLES
from caflow_runtime.ood.coverage import rank_of
from caflow_runtime.pipeline.pipeline import Pipeline, load

SIDES = (4, 16, 64)
"""Sides of the blocks, in pixels."""
TEMPERATURE = 1.0
PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow")


def block_means(image: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """Return the mean grey level of each block of side×side pixels of an image, (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    rows, columns = (length // side for length in grey.shape)
    return np.asarray(grey.reshape(rows, side, columns, side).mean((1, 3)).ravel())


def covered(pipe: Pipeline, given: list[Crop]) -> dict[int, list[float]]:
    """Return the fraction of covered blocks in each photograph, by the side of the blocks.

    Ties are broken at random.
    """
    rng, found = np.random.default_rng(0), {side: list[float]() for side in SIDES}
    for k, crop in enumerate(given):
        samples = pipe.sample(crop.condition, n=SAMPLES, temperature=TEMPERATURE, seed=k).images[0]
        for side, fractions in found.items():
            truth, means = block_means(crop.target, side), np.stack([block_means(one, side) for one in samples], 1)
            ranks = [rank_of(value, around, rng) for value, around in zip(truth, means, strict=True)]
            fractions.append(float(np.mean([0 < rank < SAMPLES for rank in ranks])))
    return found


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@report.options
def main(bundle: Path, names: tuple[str, ...], threads: int, json_file: Path | None) -> None:
    """Measure the coverage of the samples of BUNDLE.

    Download the photographs first: python models/photographs.py test build/photographs/test.
    """
    rows = list[Row]()
    with load(bundle, "cpu", threads) as pipe:
        clean = crops(PHOTOGRAPHS / "test", WHOLE, pipe.manifest.model.scale)
        for name in names:
            row: Row = {"degradation": name, "photographs": len(clean)}
            for side, fractions in covered(pipe, [degraded(crop, name) for crop in clean]).items():
                row[f"side {side}"], row[f"side {side} ±"] = mean_difference(fractions, [0] * len(fractions))
            rows.append(row)
    report.show(rows)
    report.write(json_file, rows, PACKAGES, samples=SAMPLES, temperature=TEMPERATURE, threads=threads)


if __name__ == "__main__":
    main()
