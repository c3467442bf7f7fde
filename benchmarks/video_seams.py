"""Visibility of the borders of tiles in a video: in its frames, and in the changes between frames.

A clip is restored in tiles and in one piece, with the same noise.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from flicker import Clip, change, read
from metrics import Picture
from numpy.typing import NDArray
from quality import PHOTOGRAPHS
from tiles import borders, seam

from caflow_runtime.flow.tiles import cut
from caflow_runtime.pipeline.pipeline import load

TILED, TILE, OVERLAPS, FRAMES, NEAR = "cockatoo.mp4", 256, (0, 64), 8, 4


def seams(folder: Path, clip: Clip, threads: int) -> list[dict[str, Any]]:
    """Compare a clip that is restored in tiles with the same clip in one piece. Return a row for each overlap.

    The rows are about the frames and about the changes between frames.
    """
    height, width = clip.truth[0].shape[:2]

    def drawn(pixel_budget: int, overlap: int) -> list[Picture]:
        with load(folder, "cpu", threads, pixel_budget, overlap) as pipe:
            given = clip.conditions(pipe.manifest.model.scale, 0)
            return [frame.image for frame in pipe.stream(given)]

    whole, rows = drawn(2 * height * width, 0), []
    for overlap in OVERLAPS:
        tiled = drawn(TILE**2, overlap)
        with load(folder, "cpu", threads) as pipe:
            windows = cut(height, width, pipe.manifest.model.size_multiple, TILE**2, overlap)
        error = np.abs(np.stack(tiled).astype(int) - np.stack(whole))
        changes = [[change(*pair) for pair in pairwise(images)] for images in (tiled, whole)]
        flicker = [np.mean([np.abs(c - w) for c, w in zip(of, truth_changes(clip), strict=False)], 0) for of in changes]
        near = [beside_borders(of.mean(2), windows) for of in flicker]
        rows.append(
            {
                "overlap": overlap,
                "tiles": len(windows),
                "RMS error, grey levels": float(np.sqrt(np.square(error).mean())),
                "largest": int(error.max()),
                "seam": float(np.mean([seam(a, b, windows) for a, b in zip(tiled, whole, strict=True)])),
                "seam of changes": float(np.mean([seam(a, b, windows) for a, b in zip(*changes, strict=True)])),
                "flicker at borders / elsewhere": near[0],
                "the same, one piece": near[1],
            }
        )
    return rows


def truth_changes(clip: Clip) -> Iterator[NDArray[np.int16]]:
    """Generate the change from each frame of the truth to the next."""
    return (change(*pair) for pair in pairwise(clip.truth))


def beside_borders(values: NDArray[np.float64], windows: list[Any]) -> float:
    """Return the mean of the pixels beside the borders of tiles, divided by the mean of the other pixels."""
    beside = np.zeros(values.shape, bool)
    for axis in (0, 1):
        for place in borders(windows, axis):
            beside.swapaxes(0, axis)[place + 1 - NEAR : place + 1 + NEAR] = True
    return float(values[beside].mean() / values[~beside].mean())


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@report.options
def main(folder: Path, threads: int, json_file: Path | None) -> None:
    """Measure the seams of BUNDLE.

    Download the clips first: python models/photographs.py clips build/photographs/clips.
    """
    rows = seams(folder, read(PHOTOGRAPHS / "clips" / TILED, FRAMES), threads)
    report.show(rows)
    report.write(json_file, rows, ("onnxruntime", "numpy"), frames=FRAMES, tile=TILE, threads=threads)


if __name__ == "__main__":
    main()
