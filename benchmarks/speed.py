"""How fast are sampling and its programs? Each command measures one part, and prints a table.

`sizes` measures the seconds that one core needs for a result, by model, size and N, and
for reading and writing the files; `docs/guides/many-machines.md` estimates the number of machines from them. `caflow
bench` measures how time grows with N.
"""

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import floors
import memory
import numpy as np
import precisions
import progressive
import report
import sampling

import cpp
from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load

SIDES, SAMPLES = (16, 64, 256), (1, 10)
PHOTOGRAPH = Path("tests/data/photographs/canyon-wren.jpg")
PLACE = 20
"""Distance of the crop from the top and the left border of the photograph, in pixels."""


@click.group()
def main() -> None:
    """Measure speed and memory."""


@main.command()
@report.BUNDLES
@click.option("--photograph", type=click.Path(exists=True, path_type=Path), default=PHOTOGRAPH, show_default=True)
@click.option("--side", "sides", type=int, multiple=True, default=SIDES, help="Sides of the crops, in pixels.")
@report.ROUNDS
@report.CPU_TIME
@report.options
def sizes(
    bundles: tuple[Path, ...],
    photograph: Path,
    sides: tuple[int, ...],
    rounds: int,
    cpu_time: bool,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure how long crops of a photograph take with each BUNDLE. The bundles have one scale."""
    cv2.setNumThreads(threads)
    picture, rows = read_image(photograph).rgb, []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        pipes = {bundle.stem: stack.enter_context(load(bundle, backend="cpu", threads=threads)) for bundle in bundles}
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
                cpu_time=cpu_time,
            )
            files |= {"bytes in": given.stat().st_size, "bytes out": png.stat().st_size}
            for n in SAMPLES:
                draws = {name: partial(pipe.best_of, crop, n=n) for name, pipe in pipes.items()}
                for name, took in report.side_by_side(draws, rounds, cpu_time=cpu_time).items():
                    of: dict[str, Any] = {"model": name, "result": f"{drawn.shape[1]}×{drawn.shape[0]}", "n": n}
                    rows.append({**of, "s": took, "images/hour": 3600 / took, **files})
    report.show(rows)
    report.write(json_file, rows, rounds=rounds, cpu_time=cpu_time, threads=threads)


main.add_command(sampling.measure_chains)
main.add_command(progressive.measure_progressive)
main.add_command(memory.measure_memory)
main.add_command(precisions.measure_precisions)
main.add_command(floors.measure_floors)
main.add_command(cpp.measure_cpp)

if __name__ == "__main__":
    main()
