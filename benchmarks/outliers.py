"""How far samples go astray at worst: many of each 16→64 test crop, and how far 8×8 blocks are from the enlarged input.

The true image is held against the enlarged input too: what it differs by is no fault.
"""

from pathlib import Path

import click
import numpy as np
import report
from metrics import SCALE, Crop, crops
from numpy.typing import NDArray
from PIL import Image

from caflow_runtime.pipeline import load

CROPS = Path("build/photographs/test")
SIDE, BLOCK = 64, 8
TEMPERATURES = (0.8, 0.9, 1.0)


def off_by(images: NDArray[np.uint8], crop: Crop) -> NDArray[np.float64]:
    """Of (N, 64, 64, 3) images the largest difference of a block's mean, (N,) grey levels."""
    size = (SCALE * crop.condition.shape[1], SCALE * crop.condition.shape[0])
    enlarged = np.asarray(Image.fromarray(crop.condition).resize(size, Image.Resampling.BICUBIC))
    difference = images.astype(np.float64) - enlarged
    means = difference.reshape(len(images), SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK, 3).mean((2, 4))
    largest: NDArray[np.float64] = np.abs(means).max((1, 2, 3))
    return largest


@click.command()
@click.option("--samples", default=105, show_default=True, help="Of each of the 48 crops.")
@report.options
def main(samples: int, threads: int, json_file: Path | None) -> None:
    """Measure the built-in model; a sample that is not finite ends it. First fetch the test photographs."""
    given = crops(CROPS, SIDE)
    rows = []
    with load(backend="cpu", threads=threads) as pipe:
        for temperature in TEMPERATURES:
            drawn = [
                off_by(pipe.sample(crop.condition, n=samples, temperature=temperature, seed=k).images[0], crop)
                for k, crop in enumerate(given)
            ]
            every = np.concatenate(drawn)
            truth = np.concatenate([off_by(crop.target[None], crop) for crop in given])
            rows.append(
                {
                    "temperature": temperature,
                    "samples": len(every),
                    "median": float(np.median(every)),
                    "99.9 %": float(np.quantile(every, 0.999)),
                    "largest": float(every.max()),
                    "largest of the truth": float(truth.max()),
                }
            )
    report.show(rows)
    report.write(json_file, rows, ("onnxruntime",), block=BLOCK, threads=threads)


if __name__ == "__main__":
    main()
