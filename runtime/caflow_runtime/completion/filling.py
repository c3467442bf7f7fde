"""First fillings of holes, which an inpainting model refines.

A filling depends on the image, the hole and the seed alone. Where PyPatchMatch is installed, a hole is filled with
patches from elsewhere in the image; otherwise it is filled smoothly.
"""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image_arrays import Image

Hole = NDArray[np.bool_]
"""(H, W) bool, True where pixels are missing."""
RADIUS = 3
"""Radius of the smooth filling, in pixels: how far around a pixel known ones count."""
PATCH_RADII = (2, 3, 5)
"""Radius of the patches of each search, in pixels. Near the rim of a hole, the mean of the searches has a lower LPIPS
than each of them. Deep inside, where they disagree, it is blurred."""
MEAN_DEPTH = 12
"""Distance from the rim of a hole, in pixels, at which the weight of the mean reaches 0, and the first search counts
alone."""
CONTEXT = 256
"""Greatest distance from a hole, along either axis, from which patches are taken, in pixels. So a small hole in a large
image does not take long."""
MIN_KNOWN_PIXELS = 1024
"""Fewest known pixels from which patches are taken. With fewer, the hole is filled smoothly."""
MAX_HOLE_PIXELS = 2**17
"""Largest hole that is filled with patches, which may take a minute."""
_one_search = Lock()  # the seed of PyPatchMatch is global


def has_patches() -> bool:
    """Return whether PyPatchMatch is installed and works on this machine."""
    return _patch_match() is not None


def fill(image: Image, hole: Hole, seed: int = 0) -> Image:
    """Fill a hole with patches if PyPatchMatch is installed and it is not too large, otherwise smoothly.

    Arguments:
        image: (H, W, 3) uint8 RGB. Values in the hole do not matter.
        hole: (H, W) bool, True for the pixels to fill.
        seed: seed of the searches.
    """
    if uses_patches(hole):
        return fill_with_patches(image, hole, seed)
    return fill_smoothly(image, hole)


def uses_patches(hole: Hole) -> bool:
    """Return whether `fill` fills a hole with patches."""
    return has_patches() and bool((~hole).sum() >= MIN_KNOWN_PIXELS and hole.sum() <= MAX_HOLE_PIXELS)


def fill_smoothly(image: Image, hole: Hole) -> Image:
    """Fill a hole by the method of Navier and Stokes, of OpenCV. If no pixel is known, the result is grey."""
    if hole.all():
        return np.full_like(image, 128)
    return np.asarray(cv2.inpaint(image, hole.astype(np.uint8), RADIUS, cv2.INPAINT_NS), np.uint8)


def fill_with_patches(image: Image, hole: Hole, seed: int = 0, radii: tuple[int, ...] = PATCH_RADII) -> Image:
    """Fill a hole with several searches of PyPatchMatch: near its rim with their mean, deep inside with the first one.

    Patches come from at most `CONTEXT` pixels away.

    Arguments:
        radii: radius of the patches of each search, in pixels.
    """
    search: Any = _patch_match()
    filled = np.where(hole[..., None], np.uint8(0), image)
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    for part, own in _parts(hole):
        blank, mask = filled[part].copy(), 255 * hole[part].astype(np.uint8)
        found = list[Image]()
        for k, radius in enumerate(radii):
            with _one_search:
                search.set_random_seed(seed + k)
                found.append(search.inpaint(blank, mask, patch_size=radius)[own])
        weight = np.clip(1 - depth[part][own] / MEAN_DEPTH, 0, 1)[:, None]
        mixed = weight * np.mean(found, axis=0) + (1 - weight) * found[0]
        filled[part][own] = np.rint(mixed).astype(np.uint8)
    return filled


def _parts(hole: Hole) -> Iterator[tuple[tuple[slice, slice], Hole]]:
    """Yield the parts of an image in which holes are filled: rows and columns, and the pixels that are filled there.

    Holes that are close to each other share a part.
    """
    side = 2 * CONTEXT + 1
    around = cv2.boxFilter(hole.astype(np.float32), -1, (side, side), borderType=cv2.BORDER_CONSTANT) > 0.5 / side**2
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(around.astype(np.uint8))
    for k in range(1, count):
        left, top, width, height = (int(value) for value in boxes[k, :4])
        part = slice(top, top + height), slice(left, left + width)
        yield part, (labels[part] == k) & hole[part]


def _patch_match() -> Any:
    try:
        from patchmatch import patch_match
    except ImportError:
        return None
    return patch_match if patch_match.patchmatch_available else None
