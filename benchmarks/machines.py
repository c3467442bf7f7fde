"""Seconds that one core needs for a result, by model, size and N, and for reading and writing the files.

`docs/guides/many-machines.md` uses the figures to estimate the number of machines for a job.
"""

import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report

from caflow_runtime.image_io.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load

SIDES, SAMPLES = (16, 64, 256), (1, 10)
PLACE = 20
"""Distance of the crop from the top and the left border of the photograph, in pixels."""
PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")


@click.command()
@click.argument("photograph", type=click.Path(exists=True, path_type=Path))
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--side", "sides", type=int, multiple=True, default=SIDES, help="Sides of the crops, in pixels.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--cpu-time", is_flag=True, help="Count CPU seconds, for a machine that is busy with other work.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")
def main(
    photograph: Path,
    bundles: tuple[Path, ...],
    sides: tuple[int, ...],
    rounds: int,
    cpu_time: bool,
    json_file: Path | None,
) -> None:
    """Measure how long one core needs for crops of PHOTOGRAPH with each BUNDLE. The bundles have one scale."""
    cv2.setNumThreads(1)
    picture, clock = read_image(photograph).rgb, time.process_time if cpu_time else time.perf_counter
    rows = list[dict[str, Any]]()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        pipes = {bundle.stem: stack.enter_context(load(bundle, backend="cpu", threads=1)) for bundle in bundles}
        for side in sides:
            crop = np.ascontiguousarray(picture[PLACE : PLACE + side, PLACE : PLACE + side])
            (drawn,) = next(iter(pipes.values())).best_of(crop, n=1).images
            given, png, jpeg = (Path(folder) / name for name in ("given.png", "result.png", "result.jpg"))
            write_image(given, crop)
            files: dict[str, float] = report.side_by_side(
                {
                    "read s": partial(read_image, given),
                    "write PNG s": partial(write_image, png, drawn),
                    "write JPEG s": partial(write_image, jpeg, drawn),
                },
                5 * rounds,
                clock,
            )
            files |= {"bytes in": given.stat().st_size, "bytes out": png.stat().st_size}
            for n in SAMPLES:
                draws = {name: partial(pipe.best_of, crop, n=n) for name, pipe in pipes.items()}
                for name, took in report.side_by_side(draws, rounds, clock).items():
                    of = {"model": name, "result": f"{drawn.shape[1]}×{drawn.shape[0]}", "n": n}
                    rows.append({**of, "s": took, "images/hour": 3600 / took, **files})
    report.show(rows)
    report.write(json_file, rows, PACKAGES, rounds=rounds, clock=clock.__name__)


if __name__ == "__main__":
    main()
