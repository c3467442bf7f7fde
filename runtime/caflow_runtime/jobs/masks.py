"""Masks for inpainting: image files whose white pixels mark the hole that a model fills in another image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.image_formats import READABLE, images_below
from caflow_runtime.image_io.image_files import ImageFile, read_image

WHITE = 128
"""Smallest mean of the three colour values, 0…255, of a pixel that counts as white."""

Hole = NDArray[np.bool_]
"""Pixels to fill in an image: (H, W) bool, True inside the hole."""


@dataclass(frozen=True)
class Masked:
    """Image and the hole to fill in it."""

    given: ImageFile
    hole: Hole

    def filled_from(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the image with its hole filled from each of `images`.

        Arguments:
            images: (…, H, W, 3) uint8 or uint16. The result has the same shape and dtype.
        """
        return np.where(self.hole[..., None], images, self.given.pixels(8 * images.itemsize))


def find_masks(place: Path, sources: Sequence[Path]) -> list[Path]:
    """Return the mask of each source image.

    Arguments:
        place: a file, which is the mask of all images; or a folder with one mask for each image. In a folder, a mask
            has the name of its image and any image suffix.

    Raises:
        InputError: if the folder has no mask for an image, or several.
        OSError: if the folder cannot be read.
    """
    if not place.is_dir():
        return [place] * len(sources)
    found: dict[str, list[Path]] = {}
    for path in images_below(place, READABLE):
        found.setdefault(path.stem, []).append(path)
    masks = []
    for source in sources:
        named = found.get(source.stem, [])
        if len(named) != 1:
            what = " and ".join(map(str, named)) or "none"
            raise InputError(f"{source}: expected one mask in {place}, named like {source.stem}.png; found {what}")
        masks += named
    return masks


def read_masked(path: Path, given: ImageFile) -> Masked:
    """Read the mask of an image. Transparency of the mask is ignored.

    Raises:
        InputError: if mask and image differ in size, or the mask has no white pixel.
        UnreadableImage: if the mask is not a readable image.
    """
    mask = read_image(path).rgb
    if mask.shape != given.rgb.shape:
        height, width, _ = given.rgb.shape
        raise InputError(
            f"{path}: the mask must be as large as its image, {width}×{height}; got {mask.shape[1]}×{mask.shape[0]}"
        )
    hole: Hole = mask.mean(2) >= WHITE
    if not hole.any():
        raise InputError(f"{path}: the mask has no white pixel; the area to fill must be white")
    return Masked(given, hole)
