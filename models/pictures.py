"""Pictures of the README and of the guides: results of the built-in models for a photograph of a cat.

No model was trained on it. Download it first: python models/photographs.py test build/photographs/test
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.result_pictures import pictures, sheet, with_rings
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.completion.color_space import rgb_to_ycbcr
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.results import Samples

IMAGES = Path("docs/images")
LARGE = Path("build/photographs/test/chelsea.png")
SAMPLES = 3
GAP = 8
"""Distance between pictures that are shown side by side, in pixels."""
SCRATCHES = (((40, 0), (75, 150), (60, 299)), ((0, 205), (220, 190), (450, 222)), ((330, 0), (300, 140), (345, 299)))
"""Points of each scratch: column and row."""
DOTS = (
    Point(148, 108, (150, 150, 70)),
    Point(312, 125, (150, 150, 70)),
    Point(262, 240, (205, 95, 60)),
    Point(372, 25, (205, 125, 125)),
    Point(245, 60, (170, 130, 95)),
    Point(85, 125, (180, 128, 85)),
    Point(195, 270, (205, 180, 160)),
    Point(420, 60, (165, 140, 120)),
    Point(14, 60, (190, 180, 175)),
    Point(425, 260, (165, 135, 110)),
)
"""Colours as a user would guess them from the grey photograph, and places for them."""
SUGGESTED = 5

Picture = NDArray[np.uint8]


def maps(drawn: Samples) -> Picture:
    """Return the best sample and its maps of likelihood and uncertainty, side by side."""
    found = {name: picture for name, picture, _, _ in pictures(drawn)}
    return np.concatenate([drawn.images[0][0], found["likelihood"], found["uncertainty"]], 1)


def side_by_side(*shown: Picture) -> Picture:
    """Return pictures of the same height, with white gaps between them."""
    gap = np.full((len(shown[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in shown for part in (gap, picture)][1:], 1)


def damaged(picture: Picture) -> tuple[Picture, NDArray[np.bool_]]:
    """Return a photograph with scratches and a date stamp, and the hole that covers them."""
    scratched, stamp = picture.copy(), np.zeros(picture.shape[:2], np.uint8)
    lines = np.zeros_like(stamp)
    for points in SCRATCHES:
        cv2.polylines(lines, [np.array(points, np.int32)], isClosed=False, color=1, thickness=2)
    cv2.putText(stamp, "12. 10. 98", (318, 285), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1, 2)
    scratched[lines > 0], scratched[stamp > 0] = (235, 230, 220), (255, 150, 60)
    hole = cv2.dilate(lines | stamp, np.ones((7, 7), np.uint8)) > 0
    return scratched, hole


def write_inpainting(cat: Picture) -> None:
    """Write the example of the guide to inpainting: photograph, mask, and a picture of both with the result."""
    given, hole = damaged(cat)
    mask = np.repeat(np.where(hole, np.uint8(255), np.uint8(0))[..., None], 3, 2)
    write_image(IMAGES / "scratched.jpg", given)
    write_image(IMAGES / "scratched-mask.png", mask)
    given = read_image(IMAGES / "scratched.jpg").rgb
    with load("inpaint-photo", backend="cpu") as pipe:
        filled = pipe.best_of(pipe.prepare(given, mask=hole)).images[0]
    write_image(IMAGES / "inpainting.jpg", side_by_side(given, mask, filled))


def write_colorization(cat: Picture) -> None:
    """Write the example of the guide to colorization: grey photograph, hints, and a picture of them with the result."""
    write_image(IMAGES / "grey.jpg", np.repeat(rgb_to_ycbcr(cat)[..., :1], 3, 2))
    given = read_image(IMAGES / "grey.jpg").rgb
    hints = draw_hints(given.shape[0], given.shape[1], DOTS, radius=5)
    write_image(IMAGES / "grey-hints.png", hints[..., :3], hints[..., 3])
    dotted = np.where(hints[..., 3:] > 0, hints[..., :3], given)
    with load("colour-hints", backend="cpu") as pipe:
        colored = pipe.finish(given, pipe.best_of(pipe.prepare(given, hints=hints)).images[0])
    places = suggest_hints(given, SUGGESTED, hints)
    write_image(IMAGES / "colorization.jpg", side_by_side(dotted, colored, with_rings(colored, places)))


def main() -> None:
    """Write demo.jpg, maps.jpg, and the examples of inpainting and colorization, to docs/images."""
    small, cat = read_image(IMAGES / "chelsea.png").rgb, read_image(LARGE).rgb
    with load(backend="cpu") as pipe:
        drawn = pipe.sample(small, n=SAMPLES, temperature=0.8)
    write_image(IMAGES / "demo.jpg", sheet(small, drawn))
    write_image(IMAGES / "maps.jpg", maps(drawn))
    write_inpainting(cat)
    write_colorization(cat)


if __name__ == "__main__":
    main()
