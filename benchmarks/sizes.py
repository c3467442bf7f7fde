"""Are ×2 and ×3 by a ×4 model, reduced, better than bicubic enlargement? And does linear light matter?

Targets are the centres of the test photographs, 252×252, so that 2, 3 and 4 divide their sides.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import Crop, Judge, Picture, crop, mean, read, resize
from peers import installed
from PIL import Image

from caflow_runtime.linear_light import reduce
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
SIDE = 252
SCALES = (2, 3)
SAMPLES = {"τ = 0": (1, 0.0), "one sample, τ = 0.8": (1, 0.8), "likeliest of 10, τ = 0.8": (10, 0.8)}

Reduce = Callable[[Picture, int, int], Picture]


def by_area(picture: Picture, height: int, width: int) -> Picture:
    """Means of values, which are not means of light."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def by_lanczos(picture: Picture, height: int, width: int) -> Picture:
    """Pillow's filter, of values."""
    return resize(picture, (height, width), Image.Resampling.LANCZOS)


REDUCTIONS: dict[str, Reduce] = {
    "cubic, of light": reduce,
    "area, of values": by_area,
    "lanczos, of values": by_lanczos,
}


def centres(scale: int) -> list[Crop]:
    """Of all test photographs."""
    found = []
    for path in sorted((PHOTOGRAPHS / "test").iterdir()):
        picture = read(path)
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        found.append(crop(path.stem, picture.crop((left, top, left + SIDE, top + SIDE)), scale))
    return found


def rows_of(pipe: Pipeline, judge: Judge, scale: int) -> list[dict[str, Any]]:
    """One for each method."""
    given = centres(scale)
    results = {(name, ""): [upscale(one.condition) for one in given] for name, upscale in installed(scale=scale)}
    for name, (n, temperature) in SAMPLES.items():
        drawn = [pipe.best_of(one.condition, n, temperature, seed=k).images[0] for k, one in enumerate(given)]
        for how, function in REDUCTIONS.items():
            results[f"x4-photo, {name}", how] = [function(one, SIDE, SIDE) for one in drawn]
    return [
        {"scale": scale, "method": method, "reduced by": how, **asdict(mean(judge.scores(images, given)))}
        for (method, how), images in results.items()
    ]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@report.options
def main(bundle: Path, threads: int, json_file: Path | None) -> None:
    """Judge a ×4 BUNDLE at ×2 and ×3; first: python models/photographs.py KIND build/photographs/KIND for test and
    metrics."""
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    with load(bundle, "cpu", threads) as pipe:
        rows = [row for scale in SCALES for row in rows_of(pipe, judge, scale)]
    report.show(rows)
    packages = ("lpips", "onnxruntime", "opencv-python-headless", "pillow", "scikit-image")
    report.write(json_file, rows, packages, threads=threads)


if __name__ == "__main__":
    main()
