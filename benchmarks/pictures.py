"""Pictures of the README: results of the built-in model and of the small models of other tasks for a photograph.

The photograph is `docs/images/chelsea.png`, a cat. No model was trained on it.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image_io.image_files import read_image, write_image
from caflow_runtime.image_io.maps import pictures
from caflow_runtime.image_io.sheet import sheet
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.results import Samples

IMAGES = Path("docs/images")
FACE = slice(4, 68), slice(24, 88)
HOLE = slice(34, 56), slice(6, 30)
"""Rows and columns of the hole: 13 % of 64×64 pixels, as in docs/images/face-mask.png."""
SAMPLES = 3

Picture = NDArray[np.uint8]


def of_task(bundle: str | Path, condition: Picture) -> Picture:
    """Return the sheet of one of the small models for a condition."""
    with load(bundle, backend="cpu") as pipe:
        return sheet(condition, pipe.sample(condition, n=SAMPLES, temperature=0.8))


def maps(drawn: Samples) -> Picture:
    """Return the best sample and its maps of likelihood and uncertainty, side by side."""
    found = {name: picture for name, picture, _, _ in pictures(drawn)}
    return np.concatenate([drawn.images[0][0], found["likelihood"], found["uncertainty"]], 1)


def main() -> None:
    """Write docs/images/demo.jpg, maps.jpg and tasks.jpg."""
    cat = read_image(IMAGES / "chelsea.png").rgb
    with load(backend="cpu") as pipe:
        drawn = pipe.sample(cat, n=SAMPLES, temperature=0.8)
    write_image(IMAGES / "demo.jpg", sheet(cat, drawn))
    write_image(IMAGES / "maps.jpg", maps(drawn))
    face = np.ascontiguousarray(cat[FACE])
    grey = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    with_hole = face.copy()
    with_hole[HOLE] = 0
    rows = [of_task("colorization-demo", grey), of_task("inpainting-demo", with_hole)]
    write_image(IMAGES / "tasks.jpg", np.concatenate(rows))


if __name__ == "__main__":
    main()
