"""Sheets for the documentation: results of peers and bundles for clean and degraded photographs, side by side.

There is one sheet for each degradation, with one row for each test photograph. A rule chooses the region that is shown:
in the centre 256×256, the 128×128 region whose variance of luma is the median of all regions on a grid of 8 pixels. The
whole 256×256 are restored before the region is cut out.
"""

from contextlib import ExitStack
from pathlib import Path

import click
import cv2
import numpy as np
import report
from degradations import DEGRADATIONS, degraded
from metrics import LUMA, PHOTOGRAPHS, WHOLE, Crop, Picture, crops, resize
from peers import PEERS, Upscale, installed
from PIL import Image

from caflow_runtime.pipeline.pipeline import Pipeline, load

REGION, GRID = 128, 8
GAP, CAPTION = 4, 18
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
QUALITY = 85
"""Quality of the JPEG files."""


def median_region(target: Picture, side: int = REGION, grid: int = GRID) -> tuple[slice, slice]:
    """Return the rows and columns of the square region whose variance of luma is the median of all on the grid.

    Regions of equal variance are ordered as in reading. For an even number of regions, the lower of the two middle
    ones is returned.
    """
    luma = target @ LUMA
    ys, xs = (range(0, length - side + 1, grid) for length in luma.shape)
    places = [(y, x) for y in ys for x in xs]
    variances = [luma[y : y + side, x : x + side].var() for y, x in places]
    y, x = places[int(np.argsort(variances, kind="stable")[(len(places) - 1) // 2])]
    return slice(y, y + side), slice(x, x + side)


def sampled(pipe: Pipeline, temperature: float | None) -> Upscale:
    """Return a function that draws one sample, with seed 0. The default temperature is the bundle's."""
    return lambda small: np.asarray(pipe.best_of(small, n=1, temperature=temperature, seed=0).images[0])


def row(crop: Crop, methods: dict[str, Upscale]) -> list[Picture]:
    """Return the region of one photograph in the condition's pixels, every result, and the truth."""
    region = median_region(crop.target)
    condition = resize(crop.condition, crop.target.shape[:2], Image.Resampling.NEAREST)
    pictures = [condition, *(upscale(crop.condition) for upscale in methods.values()), crop.target]
    return [picture[region] for picture in pictures]


def sheet(rows: list[list[Picture]], captions: list[str]) -> Picture:
    """Arrange square pictures of equal size in rows on white, with a caption above each column."""
    of_picture = len(rows[0][0])
    side = of_picture + GAP
    page = np.full((CAPTION + len(rows) * side, len(captions) * side - GAP, 3), 255, np.uint8)
    for column, caption in enumerate(captions):
        cv2.putText(page, caption, (column * side + 1, CAPTION - 6), FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    for line, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, left = CAPTION + line * side, column * side
            page[top : top + of_picture, left : left + of_picture] = picture
    return page


@click.command("sheets")
@report.BUNDLES
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/sheets"), show_default=True)
@click.option("--degradation", "names", type=click.Choice(list(DEGRADATIONS)), multiple=True, default=[*DEGRADATIONS])
@click.option("--peer", "peer_names", type=click.Choice(list(PEERS)), multiple=True, default=[*PEERS])
@click.option("--temperature", type=float, help="Temperature of the samples.  [default: that of each bundle]")
@click.option("--photographs", type=int, help="Use only this number of photographs, in alphabetical order.")
@click.option("--threads", default=1, show_default=True, help="Number of CPU threads.")
def write_sheets(
    bundles: tuple[Path, ...],
    out: Path,
    names: tuple[str, ...],
    peer_names: tuple[str, ...],
    temperature: float | None,
    photographs: int | None,
    threads: int,
) -> None:
    """Write DEGRADATION.jpg to the folder --out for each degradation. All BUNDLEs must have the same scale."""
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        pipes = [stack.enter_context(load(folder, "cpu", threads)) for folder in bundles]
        scales = {pipe.manifest.model.scale for pipe in pipes}
        if len(scales) > 1:
            raise click.UsageError(f"all bundles must have the same scale; got {sorted(scales)}")
        (scale,) = scales
        methods = dict(installed(peer_names, scale))
        for folder, pipe in zip(bundles, pipes, strict=True):
            methods[folder.stem] = sampled(pipe, temperature)
        given = crops(PHOTOGRAPHS / "test", WHOLE, scale)[:photographs]
        for name in names:
            page = sheet([row(degraded(crop, name), methods) for crop in given], ["input", *methods, "truth"])
            Image.fromarray(page).save(out / f"{name}.jpg", quality=QUALITY)
            print(out / f"{name}.jpg", flush=True)
