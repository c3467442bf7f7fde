"""Largest errors of samples on photographs and on hard inputs: noise, dithering, checkerboards and text.

All conditions are reproducible. Those that are not made from photographs have 64×64 pixels. Checkerboards have
several colours, since a model may be stable for grey and not for red.

The error of a sample is measured in 8×8 blocks: the mean of a channel in the block is compared with that of the
condition, enlarged by Pillow's bicubic filter. The largest difference of the sample counts. True images differ from
the enlarged condition too, as the last column shows.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
from degradations import generator, noisy
from metrics import WHOLE, Crop, Picture, crops, folder_of, resize
from numpy.typing import NDArray

from caflow_runtime.degradation import Dither
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training.degradations import dithered

SIDE = 64
BLOCK = 8
PAIRS = (((0, 0, 0), (255, 255, 255)), ((64, 64, 64), (192, 192, 192)), ((255, 0, 0), (0, 255, 255)))
"""Pairs of RGB colours of the checkerboards."""
SHIFTS = ((0, 0), (1, 0), (1, 1))
"""Shifts of the checkerboards, in pixels up and to the left. A model may be stable only for cells that begin at even
pixels, because it divides images into squares of 2×2 pixels."""
WORDS = ("The quick", "brown fox", "jumps over", "13 lazy dogs")
FONTS = ((cv2.FONT_HERSHEY_SIMPLEX, 0.3), (cv2.FONT_HERSHEY_COMPLEX, 0.4), (cv2.FONT_HERSHEY_PLAIN, 0.6))
"""Fonts of OpenCV with their scales. Capital letters are about 6 to 9 pixels high."""


def checkerboards(cell: int) -> Iterator[Picture]:
    """Generate checkerboards with cells of cell×cell pixels, for each pair of colours and each shift."""
    for a, b in PAIRS:
        for down, right in SHIFTS[: cell + 1]:  # with cells of 1, the last shift shows the first checkerboard again
            y, x = np.mgrid[down : down + SIDE, right : right + SIDE] // cell
            yield np.where(((y + x) % 2)[..., None], np.array(a), np.array(b)).astype(np.uint8)


def text() -> Iterator[Picture]:
    """Generate pictures of text in each font, black on white and white on black."""
    for font, scale in FONTS:
        page = np.full((SIDE, SIDE, 3), 255, np.uint8)
        for line, words in enumerate(WORDS):
            cv2.putText(page, words, (1, 14 + 15 * line), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
        yield page
        yield 255 - page


def hard_photographs(photographs: list[Crop]) -> dict[str, list[Picture]]:
    """Return conditions by kind: those of the photographs, noisy or dithered. Each list has the photographs' order."""
    conditions = [crop.condition for crop in photographs]
    dithers: dict[str, Dither] = {"ordered dithering": "ordered", "Floyd–Steinberg": "diffused"}
    found = {"photographs": conditions}
    for sigma in (5, 10):
        noises = [noisy(crop.condition, sigma, generator(crop.name)) for crop in photographs]
        found[f"photographs, noise σ = {sigma}"] = noises
    for (name, dither), bits in product(dithers.items(), (1, 2)):
        found[f"{name}, {bits} bit"] = [dithered(condition, bits, dither) for condition in conditions]
    return found


def hard_checkerboards() -> dict[str, list[Picture]]:
    """Return checkerboards as conditions, by the side of their cells."""
    return {f"checkerboards of {cell}": [*checkerboards(cell)] for cell in (1, 2, 4)}


def off_by(images: NDArray[np.uint8], condition: Picture) -> NDArray[np.float64]:
    """Return the largest difference of a block's mean from the enlarged condition for each image, (N,), in grey levels.

    Arguments:
        images: (N, H, W, 3). H and W are multiples of 8, and equal multiples of the condition's height and width.
    """
    n, height, width, _ = images.shape
    difference = images.astype(np.float64) - resize(condition, (height, width))
    means = difference.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean((2, 4))
    largest: NDArray[np.float64] = np.abs(means).max((1, 2, 3))
    return largest


def measure(pipe: Pipeline, samples: int) -> list[dict[str, Any]]:
    """Return a row for each kind of condition, with samples at the bundle's own temperature.

    Targets are 256×256 photographs. The target of a checkerboard has the same cells, enlarged.
    """
    scale = pipe.manifest.model.scale
    whole = crops(folder_of("test"), WHOLE, scale)
    targets = [crop.target for crop in whole]
    kinds: dict[str, tuple[list[Picture], list[Picture]]] = {
        **{kind: (conditions, targets) for kind, conditions in hard_photographs(whole).items()},
        **{
            kind: (of, [one.repeat(scale, 0).repeat(scale, 1) for one in of])
            for kind, of in hard_checkerboards().items()
        },
        "text": ([*text()], []),
    }
    rows = []
    for kind, (conditions, true_images) in kinds.items():
        true = [float(off_by(image[None], of)[0]) for image, of in zip(true_images, conditions, strict=False)]
        drawn = [pipe.sample(condition, n=samples, seed=k).images[0] for k, condition in enumerate(conditions)]
        every = np.concatenate([off_by(images, of) for images, of in zip(drawn, conditions, strict=True)])
        rows.append(
            {
                "conditions": kind,
                "samples": len(every),
                "median": float(np.median(every)),
                "99.9 %": float(np.quantile(every, 0.999)),
                "largest": float(every.max()),
                "largest of the truth": max(true, default=None),
            }
        )
    return rows


@click.command("hard")
@report.BUNDLES
@click.option("--samples", default=10, show_default=True, help="Number of samples of each condition; seeds are fixed.")
@report.options
def judge_hard_inputs(bundles: tuple[Path, ...], samples: int, threads: int, json_file: Path | None) -> None:
    """Measure the largest errors of each BUNDLE on hard inputs. Fail if a sample is not finite."""
    rows = []
    for folder in bundles:
        with load(folder, backend="cpu", threads=threads) as pipe:
            rows += [{"method": f"caflow {folder.stem}", **row} for row in measure(pipe, samples)]
    report.show(rows)
    report.write(json_file, rows, block=BLOCK, threads=threads)
