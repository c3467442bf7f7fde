"""Quality of ×2 and ×3 results that are reduced from those of a ×4 model, and the effect of linear light.

The results are compared with bicubic enlargement and with the peers. Targets are the centres of the test photographs,
252×252: width and height are divisible by 2, 3 and 4.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import Crop, Judge, Picture, crop, psnr, read, resize
from peers import installed
from PIL import Image

from caflow_runtime.linear_light import reduce
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
SIDE = 252
SCALES = (2, 3)
TEMPERATURES = {"x4-photo, τ = 0": 0.0, "x4-photo, one sample, τ = 0.8": 0.8}

Reduce = Callable[[Picture, int, int], Picture]


def by_area(picture: Picture, height: int, width: int) -> Picture:
    """Reduce by means of the stored values, which are not means of light."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def by_lanczos(picture: Picture, height: int, width: int) -> Picture:
    """Reduce by Pillow's Lanczos filter of the stored values."""
    return resize(picture, (height, width), Image.Resampling.LANCZOS)


REDUCTIONS: dict[str, Reduce] = {
    "cubic, of light": reduce,
    "area, of values": by_area,
    "lanczos, of values": by_lanczos,
}


def centres(scale: int, photographs: int | None) -> list[Crop]:
    """Return the centres of the first test photographs, or of all if `photographs` is None, with their conditions."""
    found = []
    for path in sorted((PHOTOGRAPHS / "test").iterdir())[:photographs]:
        picture = read(path)
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        found.append(crop(path.stem, picture.crop((left, top, left + SIDE, top + SIDE)), scale))
    return found


def rows_of(pipe: Pipeline, judge: Judge, scale: int, given: list[Crop]) -> list[dict[str, Any]]:
    """Return a row for each method."""
    results = {(name, ""): [upscale(one.condition) for one in given] for name, upscale in installed(scale=scale)}
    for name, temperature in TEMPERATURES.items():
        drawn = [pipe.best_of(one.condition, 1, temperature, seed=k).images[0] for k, one in enumerate(given)]
        for how, function in REDUCTIONS.items():
            results[name, how] = [function(one, SIDE, SIDE) for one in drawn]
    targets = [one.target for one in given]
    return [
        {
            "scale": scale,
            "method": method,
            "reduced by": how,
            "psnr": float(np.mean(list(map(psnr, images, targets)))),
            "lpips": float(np.mean(judge.lpips(images, targets))),
        }
        for (method, how), images in results.items()
    ]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--photographs", type=int, help="Use only this number of photographs, for a quick look.")
@report.options
def main(bundle: Path, photographs: int | None, threads: int, json_file: Path | None) -> None:
    """Judge the ×4 model BUNDLE at ×2 and ×3.

    Download the files first: python models/photographs.py KIND build/photographs/KIND, where KIND is test and metrics.
    """
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    with load(bundle, "cpu", threads) as pipe:
        rows = [row for scale in SCALES for row in rows_of(pipe, judge, scale, centres(scale, photographs))]
    report.show(rows)
    packages = ("lpips", "onnxruntime", "opencv-python-headless", "pillow", "scikit-image")
    report.write(json_file, rows, packages, threads=threads, photographs=photographs)


if __name__ == "__main__":
    main()
