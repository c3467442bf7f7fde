"""Masks: pictures that mark which pixels of an image are to be filled."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.image_files import ImageFile
from caflow_runtime.errors import UnreadableImage
from caflow_runtime.image_arrays import Image

MaskMarks = Literal["white", "black", "opaque", "transparent"]
"""What marks the pixels to fill: light or dark ones of a mask, or what was painted or erased on a layer."""

OTHER: dict[MaskMarks, MaskMarks] = {
    "white": "black",
    "black": "white",
    "opaque": "transparent",
    "transparent": "opaque",
}
HALF = 128
"""Smallest mean of the three colour values, 0…255, of a pixel that counts as white, and smallest alpha of one that
counts as opaque."""
FAINT = 32
"""Smallest alpha of paint that can be seen."""
DARK, LIGHT, PLAIN = 64, 192, 0.5
"""A mask is mostly dark or light: the mean colour values of at least this share of its pixels are below `DARK`, or at
least `LIGHT`. Most photographs are not."""
MOST = 0.5
"""Largest share of an image that is filled without being asked for: a mask that marks more may be inverted."""
SAME = 3.0
"""Largest mean difference, in grey levels, of what is left of an image from which something was erased."""
COLOURS, ALIKE, PAINTED = 2, 24, 0.98
"""Paint has at most this number of colours; values of pixels of one colour differ from it by at most `ALIKE`, as soft
edges do; and at least this share of the opaque pixels has one of them."""


def read_hole(path: Path, mask: ImageFile, image: Image, marks: MaskMarks | None = None) -> NDArray[np.bool_]:
    """Return the pixels that a mask marks, (H, W) bool.

    Arguments:
        path: of the mask, for messages.
        image: (H, W, 3) uint8 RGB, of the same size.
        marks: None finds out. In a mask without transparency, white marks. On a layer from which part of the image was
            erased, that part; on any other layer, paint of one or two colours.

    Raises:
        UnreadableImage: if nothing is marked, or if it is not clear what marks.
    """
    is_white = mask.rgb.mean(2) >= HALF
    has_layer = mask.alpha is not None and bool((mask.alpha != mask.alpha[0, 0]).any())
    is_opaque = mask.alpha >= HALF if has_layer and mask.alpha is not None else np.ones(is_white.shape, bool)
    holes: dict[MaskMarks, NDArray[np.bool_]] = {
        "white": is_white & is_opaque,
        "black": ~is_white & is_opaque,
        "opaque": is_opaque,
        "transparent": ~is_opaque,
    }
    chosen = marks or (_marks_of_layer(path, mask, image, is_opaque) if has_layer else _marks_of_mask(path, mask))
    hole = holes[chosen]
    if marks is None and chosen == "opaque" and mask.alpha is not None:
        _check_opacity(path, mask.alpha, hole)
    if not hole.any():
        raise UnreadableImage(path, f"the mask marks nothing: it has no {chosen} pixel")
    share, other = float(hole.mean()), OTHER[chosen]
    if marks is None and share > MOST:
        raise UnreadableImage(
            path,
            f"{chosen} pixels mark what to fill, and they cover {100 * share:.0f} % of this mask, so it may be "
            f"inverted: give `mask_marks` {other} if these mark, or {chosen} to fill so much",
        )
    return hole


def _marks_of_mask(path: Path, mask: ImageFile) -> MaskMarks:
    """Return what marks in a mask without transparency, unless it looks like a photograph."""
    mean = mask.rgb.mean(2)
    if float(((mean < DARK) | (mean >= LIGHT)).mean()) < PLAIN:
        raise UnreadableImage(
            path,
            "this looks like a photograph, not like a mask: paint what is to go white and everything else black, or "
            "export the painted layer without the photograph",
        )
    return "white"


def _marks_of_layer(path: Path, mask: ImageFile, image: Image, is_opaque: NDArray[np.bool_]) -> MaskMarks:
    """Return what marks on a layer with transparency."""
    opaque = mask.rgb[is_opaque]
    if not len(opaque):
        return "opaque"
    if is_opaque.all():
        return _marks_of_mask(path, mask)
    if float(cv2.absdiff(opaque, image[is_opaque]).mean()) <= SAME:
        return "transparent"
    if _is_paint(opaque):
        return "opaque"
    raise UnreadableImage(
        path,
        "part of the mask is transparent, and the rest is neither the image nor paint of one or two colours: give "
        "`mask_marks` opaque if that rest is to be filled, or transparent if what was erased is",
    )


def _check_opacity(path: Path, alpha: NDArray[np.uint8], hole: NDArray[np.bool_]) -> None:
    """Refuse paint most of which does not count, because it is less than half opaque."""
    if (alpha >= FAINT).sum() > 2 * hole.sum():
        raise UnreadableImage(
            path,
            "most of the paint is less than half opaque, and would not count: paint with full opacity, or give "
            "`mask_marks` opaque to fill only what is more than half opaque",
        )


def _is_paint(opaque: Image) -> bool:
    """Return whether pixels, (N, 3) uint8, have one or two colours."""
    left, count = opaque.astype(np.int16), len(opaque)
    for _ in range(COLOURS):
        if not len(left):
            return True
        packed = (left[:, 0].astype(np.int64) << 16) | (left[:, 1].astype(np.int64) << 8) | left[:, 2]
        values, numbers = np.unique(packed, return_counts=True)
        most = int(values[numbers.argmax()])
        colour = np.array([most >> 16, most >> 8 & 255, most & 255], np.int16)
        left = left[(np.abs(left - colour) > ALIKE).any(1)]
    return len(left) <= (1 - PAINTED) * count
