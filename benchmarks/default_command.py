"""Speed of `caflow image` with its defaults, from file to file, beside other programs."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import numpy as np
import peers
import report
from PIL import Image

PHOTOGRAPH = Path("tests/data/photographs/canyon-wren.jpg")
INPUTS = {"0.3": (640, 480), "2": (1632, 1224), "12": (4000, 3000)}
CROP = (320, 240)
"""Width and height of the crop that peers enlarge. Their seconds for a photograph are computed from it, in proportion
to the area, because large photographs would take too long."""
PEERS = ("realesr-animevideov3", "real-esrgan x4plus")
CAFLOW = Path(sys.executable).with_name("caflow")


@click.command("photographs")
@click.option("--megapixels", type=click.Choice(list(INPUTS)), multiple=True, default=list(INPUTS), show_default=True)
@report.options
def measure_photographs(megapixels: tuple[str, ...], threads: int, json_file: Path | None) -> None:
    """Measure the seconds of the default command; those of peers are computed from a crop, without files."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    photograph, rows = Image.open(PHOTOGRAPH).convert("RGB"), list[report.Row]()
    crop = np.asarray(photograph.resize(CROP))
    for factor in (4, 2):
        runs = {name: partial(upscale, crop) for name, upscale in peers.installed(PEERS, factor)}
        taken = report.side_by_side(runs, 1)
        for size in megapixels:
            width, height = INPUTS[size]
            about = {"megapixels": float(size), "factor": factor}
            seconds = _command(photograph.resize((width, height)), factor, threads)
            rows.append({**about, "method": "caflow image", "s": seconds, "images/hour": 3600 / seconds})
            area = width * height / (CROP[0] * CROP[1])
            rows += [{**about, "method": name, "s": area * of_crop} for name, of_crop in taken.items()]
    report.show(rows)
    report.write(json_file, rows, threads=threads)


def _command(photograph: Image.Image, factor: int, threads: int) -> float:
    """Return the seconds of the command."""
    with tempfile.TemporaryDirectory() as folder:
        photograph.save(f"{folder}/in.jpg", quality=97)
        options = ["-o", f"{folder}/out.jpg", "--threads", str(threads), *(["--scale", "2"] if factor == 2 else [])]
        began = time.perf_counter()
        subprocess.run([CAFLOW, "image", f"{folder}/in.jpg", "--quiet", *options], check=True, capture_output=True)
        return time.perf_counter() - began
