"""Masks: image files whose white pixels say what a model of inpainting is to fill in other image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.image_formats import images_below
from caflow_runtime.pictures.image_files import ImageFile, read_image

WHITE = 128
"""The least mean of the colours of a white pixel."""

Hole = NDArray[np.bool_]
"""(H, W) bool, True where pixels are to be filled."""


@dataclass(frozen=True)
class Masked:
    """An image and the hole in it."""

    given: ImageFile
    hole: Hole

    @property
    def condition(self) -> Image:
        """The image with its hole black: what a model of inpainting takes."""
        return np.where(self.hole[..., None], np.uint8(0), self.given.rgb)

    def filled_from(self, images: NDArray[Any]) -> NDArray[Any]:
        """The image, its hole filled from each of others, (…, H, W, 3) uint8 or uint16, with as many bits."""
        return np.where(self.hole[..., None], images, self.given.pixels(8 * images.itemsize))


def check_fills(model: Model) -> None:
    """Whether a model fills the holes that masks describe.

    Raises:
        InputError
    """
    if model.task != "inpainting":
        raise InputError(f"masks are for models of inpainting: this is one of {model.task}")
    if model.task_settings["mask"] == "central":
        raise InputError(
            'this model fills the square in the middle of any image, as its recipe has mask = "central": leave out the '
            "mask, or use a model that was trained with box or free-form"
        )


def find_masks(place: Path, sources: Sequence[Path]) -> list[Path]:
    """The mask of each image.

    Arguments:
        place: one mask for all of them, or a folder that has for each a mask of its name, whatever the suffix.

    Raises:
        InputError: if one is missing, or if a folder has two of that name.
        OSError: if the folder cannot be read.
    """
    if not place.is_dir():
        return [place] * len(sources)
    found: dict[str, list[Path]] = {}
    for path in images_below(place):
        found.setdefault(path.stem, []).append(path)
    masks = []
    for source in sources:
        named = found.get(source.stem, [])
        if len(named) != 1:
            what = " and ".join(map(str, named)) or "none"
            raise InputError(f"{source}: wanted one mask in {place}, called {source.stem}.png or so, found {what}")
        masks += named
    return masks


def read_masked(path: Path, given: ImageFile) -> Masked:
    """Read the mask of an image. The mask's transparency does not count.

    Raises:
        InputError: if it is not as large as the image, or has no white pixel.
        UnreadableImage: if it is no image.
    """
    mask = read_image(path).rgb
    if mask.shape != given.rgb.shape:
        height, width, _ = given.rgb.shape
        raise InputError(
            f"{path}: wanted a mask as large as its image, {width}×{height} pixels, got {mask.shape[1]}×{mask.shape[0]}"
        )
    hole: Hole = mask.mean(2) >= WHITE
    if not hole.any():
        raise InputError(f"{path}: no pixel of this mask is white, so there is nothing to fill")
    return Masked(given, hole)
