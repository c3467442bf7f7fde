"""Seconds that one core needs for a result, by size and N, and for reading and writing the files.

`docs/guides/many-machines.md` uses the figures to estimate the number of machines for a job.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import cv2
import numpy as np
import report

from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.image_io.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load

SIDES, SAMPLES = (16, 64, 256), (1, 10)
PLACE = 20
"""Distance of the crop from the top and the left border of the photograph, in pixels."""
PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")


def seconds(do: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of a call."""
    found = []
    for _ in range(rounds):
        began = perf_counter()
        do()
        found.append(perf_counter() - began)
    return median(found)


@click.command()
@click.argument("photograph", type=click.Path(exists=True, path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path), default=DEFAULT)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")
def main(photograph: Path, bundle: Path, rounds: int, json_file: Path | None) -> None:
    """Measure how long one core needs for crops of PHOTOGRAPH with BUNDLE."""
    cv2.setNumThreads(1)
    picture = read_image(photograph).rgb
    rows = []
    with load(bundle, backend="cpu", threads=1) as pipe, tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            crop = np.ascontiguousarray(picture[PLACE : PLACE + side, PLACE : PLACE + side])
            (drawn,) = pipe.best_of(crop, n=1).images
            given, png, jpeg = (Path(folder) / name for name in ("given.png", "result.png", "result.jpg"))
            write_image(given, crop)
            files = {
                "read s": seconds(partial(read_image, given), 5 * rounds),
                "write PNG s": seconds(partial(write_image, png, drawn), 5 * rounds),
                "write JPEG s": seconds(partial(write_image, jpeg, drawn), 5 * rounds),
                "bytes in": given.stat().st_size,
                "bytes out": png.stat().st_size,
            }
            for n in SAMPLES:
                took = seconds(partial(pipe.best_of, crop, n=n), rounds)
                size = f"{drawn.shape[1]}×{drawn.shape[0]}"
                rows.append({"result": size, "n": n, "s": took, "images/hour": 3600 / took, **files})
    report.show(rows)
    report.write(json_file, rows, PACKAGES, rounds=rounds)


if __name__ == "__main__":
    main()
