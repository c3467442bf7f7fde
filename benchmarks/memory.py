"""Memory and time of `caflow image` by the size of the image, compared with the command's own predictions.

One photograph is resized to each size and drawn by a separate process. The command predicts its memory before it
begins, and its time after the first windows. The peak is the peak memory that Linux reports for the process.
"""

import re
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report

from caflow_deploy.images.image_files import read_image, write_image

SIZES = (
    *((64, 64), (128, 128), (200, 150), (256, 256), (400, 300)),
    *((640, 480), (1024, 768), (1920, 1080), (2600, 1950), (4000, 3000)),
)
"""Widths and heights of the inputs, in pixels."""
PHOTOGRAPH = Path("tests/data/photographs/canyon-wren.jpg")
NEED = re.compile(r"→ (?P<result>\S+) in (?P<windows>\d+) tiles? .* about (?P<number>[\d.]+) (?P<unit>[MG]B) of mem")
LEFT = re.compile(r"done, about (?P<number>[\d.]+) (?P<unit>s|min|h) left")
PEAK = re.compile(r"peak (?P<bytes>\d+)")
UNITS = {"MB": 1e6, "GB": 1e9, "s": 1, "min": 60, "h": 3600}
COMMAND = """
import sys
from caflow_deploy.cli import main
from caflow_runtime.available_memory import peak_memory
try:
    main()
finally:
    print("peak", peak_memory(), file=sys.stderr)
"""


def measured(photograph: Path, result: Path, options: list[str]) -> dict[str, Any]:
    """Run `caflow image` in a process. Return its predictions and its real memory (MB) and time (s)."""
    line = [sys.executable, "-c", COMMAND, "image", str(photograph), "-o", str(result), *options]
    predicted_s: list[float] = []
    found, peak = None, 0
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if said := NEED.search(text):
                found, began = said, time.monotonic()
            if said := LEFT.search(text):
                predicted_s.append(time.monotonic() - began + _value(said))
            if said := PEAK.search(text):
                peak = int(said["bytes"])
    if process.returncode or found is None:
        raise click.ClickException(f"caflow image {photograph} failed: exit code {process.returncode}")
    took, memory = time.monotonic() - began, _value(found)
    return {
        "result": found["result"],
        "windows": int(found["windows"]),
        "predicted MB": memory / 1e6,
        "peak MB": peak / 1e6,
        "predicted / peak": memory / peak,
        "s": took,
        "predicted s / s": predicted_s[0] / took if predicted_s else "",
    }


def _value(said: re.Match[str]) -> float:
    return float(said["number"]) * UNITS[said["unit"]]


@click.command("memory")
@report.BUNDLES
@click.option("--largest", type=int, default=len(SIZES), show_default=True, help="Number of sizes, smallest first.")
@click.option("-n", "--samples", type=int, multiple=True, default=(1,), show_default=True)
@report.options
def measure_memory(
    bundles: tuple[Path, ...], largest: int, samples: tuple[int, ...], threads: int, json_file: Path | None
) -> None:
    """Draw a photograph at ten sizes with each BUNDLE."""
    picture, rows = read_image(PHOTOGRAPH).rgb, list[dict[str, Any]]()
    options = ["--threads", str(threads), "--backend", "cpu", "--force"]
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES[:largest]:
            given, result = Path(folder) / "given.png", Path(folder) / "result.png"
            resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            write_image(given, np.asarray(resized, np.uint8))
            for n, bundle in product(samples, bundles):
                found = measured(given, result, [*options, "-n", str(n), "--model", str(bundle)])
                rows.append({"model": bundle.stem, "input": f"{width}×{height}", "n": n, **found})
                click.echo(rows[-1], err=True)
    report.show(rows)
    report.write(json_file, rows, samples=samples, threads=threads)
