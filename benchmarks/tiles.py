"""Comparison of tiled with untiled results by overlap: errors, likelihood and seams, as a table and a picture.

A visible seam has larger steps between neighbouring pixels across the borders of tiles. "seam" is the mean step there,
divided by the mean step at the same places of the untiled result.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
from numpy.typing import NDArray

from caflow_runtime.flow.tiles import Tile, cut
from caflow_runtime.pipeline.pipeline import load

TILE = 128
OVERLAPS = (0, 16, 32, 48)
PHOTOGRAPHS = 4
AMPLIFIED = 32
TEMPERATURE = 0.8
PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")


def conditions(folder: Path, scale: int) -> list[NDArray[np.uint8]]:
    """Return whole photographs, reduced so that the results have about the size of the photographs."""
    found = []
    for path in sorted(folder.glob("*.jpg"))[:PHOTOGRAPHS]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        size = (image.shape[1] // scale, image.shape[0] // scale)
        found.append(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
    return found


def borders(windows: list[Tile], axis: int) -> list[int]:
    """Return where tiles meet along an axis: the last pixel before the middle of each overlap."""
    axes = [window.y if axis == 0 else window.x for window in windows]
    starts, side = sorted({place.start for place in axes}), axes[0].length
    return [(before + side + after) // 2 - 1 for before, after in pairwise(starts)]


def seam(tiled: NDArray[np.integer[Any]], whole: NDArray[np.integer[Any]], windows: list[Tile]) -> float:
    """Return the mean step across borders of tiles, tiled divided by untiled, averaged over both axes."""
    ratios = []
    for axis in (0, 1):
        places = borders(windows, axis)
        steps = [np.abs(np.diff(image.astype(int), axis=axis)).take(places, axis).mean() for image in (tiled, whole)]
        ratios.append(steps[0] / steps[1])
    return float(np.mean(ratios))


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=Path("tests/data/photographs"))
@click.option("--picture", type=click.Path(path_type=Path), help="Write a picture of the errors to this file.")
@report.options
def main(folder: Path, data: Path, picture: Path | None, threads: int, json_file: Path | None) -> None:
    """Measure BUNDLE on whole photographs in tiles of 128×128.

    Small tiles are the hardest case: most users' tiles are larger.
    """
    with load(folder, backend="cpu", threads=threads, pixel_budget=2**24) as pipe:
        model = pipe.manifest.model
        given = conditions(data, model.scale)
        whole = [pipe.best_of(image, n=1, temperature=TEMPERATURE) for image in given]
    rows: list[dict[str, Any]] = []
    errors = [whole[0].images[0]]
    for overlap in OVERLAPS:
        with load(folder, backend="cpu", threads=threads, pixel_budget=TILE**2, overlap=overlap) as pipe:
            tiled = [pipe.best_of(image, n=1, temperature=TEMPERATURE) for image in given]
        pairs = [(a.images[0], b.images[0]) for a, b in zip(tiled, whole, strict=True)]
        error = [np.abs(a.astype(int) - b) for a, b in pairs]
        flat = np.concatenate([e.ravel() for e in error])
        off = [abs(float(a.log_likelihood[0] / b.log_likelihood[0] - 1)) for a, b in zip(tiled, whole, strict=True)]
        seams = [seam(a, b, cut(a.shape[0], a.shape[1], model.size_multiple, TILE**2, overlap)) for a, b in pairs]
        rows.append(
            {
                "overlap": overlap,
                "RMS error, grey levels": float(np.sqrt(np.square(flat).mean())),
                "largest": int(flat.max()),
                "equal bytes": float((flat == 0).mean()),
                "log-likelihood, relative": max(off),
                "seam": float(np.mean(seams)),
            }
        )
        errors.append(np.asarray(np.clip(AMPLIFIED * error[0], 0, 255), np.uint8))
    report.show(rows)
    report.write(json_file, rows, PACKAGES, tile=TILE, photographs=PHOTOGRAPHS, temperature=TEMPERATURE)
    if picture:
        half = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in errors]
        cv2.imwrite(str(picture), cv2.cvtColor(np.hstack(half), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()
