"""True images with their conditions, cut from photographs. Models are calibrated and evaluated with them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.image import Image, check_pair
from caflow_runtime.image_formats import MAX_PIXELS, SUFFIXES, images_below
from caflow_runtime.judge.consistency import degrade
from caflow_runtime.pictures.image_files import read_image

CROPS = 4
"""Number of crops of each size from one photograph."""
KEEPS_COLOURS = ("super-resolution", "inpainting")
"""Tasks whose result is grey if the input is grey."""


@dataclass(frozen=True)
class Pair:
    """True image and its condition."""

    photograph: str
    """Name of the photograph. Pairs of one photograph are similar, so calibration keeps them in one fold."""
    target: Image
    condition: Image


def photographs_in(folder: Path) -> list[Path]:
    """Return the photographs in a folder and its subfolders.

    If the folder contains pairs as in training (subfolders `A` and `B`), return the targets, in `B`.

    Raises:
        InputError: if there are no photographs.
        OSError: if a folder cannot be read.
    """
    root = folder / "B" if _holds_pairs(folder) else folder
    paths = images_below(root)
    if not paths:
        raise InputError(f"{root}: expected photographs ({', '.join(sorted(SUFFIXES))}); found none")
    return paths


def pairs_of(path: Path, folder: Path, model: Model, sides: Sequence[int], max_pixels: int = MAX_PIXELS) -> list[Pair]:
    """Return pairs of true images and conditions made from one photograph.

    Usually, the true images are square crops of several sizes and scales, and the model's task defines how their
    conditions are made. Sizes larger than the photograph are skipped.

    If `folder` contains pairs as in training, return one pair: the whole target, and the file of the same name in `A`
    as its condition. Pairs in one subfolder count as one photograph, since they are usually its crops, or frames of one
    video.

    Arguments:
        path: the photograph, or a target in `folder/B`.
        sides: sides of the crops, in pixels. They are rounded down to multiples of the model's size multiple.
        max_pixels: largest number of pixels of each file, as in `read_image`.

    Raises:
        UnreadableImage: if a file cannot be read, or the sizes of target and condition do not fit together.
        InputError: if the task does not define how conditions are made.
    """
    image = read_image(path, max_pixels).rgb
    if _holds_pairs(folder):
        name = path.relative_to(folder / "B")
        condition = read_image(folder / "A" / name, max_pixels).rgb
        try:
            check_pair(str(path), image, condition, model.scale)
        except InputError as error:
            raise UnreadableImage(str(error)) from None
        return [Pair(str(name if name.parent == Path() else name.parent), image, condition)]
    name, multiple = path.relative_to(folder), model.size_multiple
    wanted = sorted({max(multiple, side // multiple * multiple) for side in sides})
    fitting = [side for side in wanted if side <= min(image.shape[:2])]
    crops = [_crop(image, side, f"{name} {side} {k}") for side in fitting for k in range(CROPS)]
    return [Pair(str(name), crop, degrade(model, crop)) for crop in crops]


def with_grey_copies(model: Model, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield pairs. For tasks in `KEEPS_COLOURS`, every second pair is followed by a grey copy."""
    for k, pair in enumerate(pairs):
        yield pair
        if k % 2 == 0 and model.task in KEEPS_COLOURS:
            yield Pair(pair.photograph, _grey(pair.target), _grey(pair.condition))


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _crop(photograph: Image, side: int, name: str) -> Image:
    """Return a square crop of a photograph that was first reduced by a random factor. `name` is the random seed.

    Reduction makes a photograph sharper and removes compression artifacts. The crop then resembles a typical small
    image.
    """
    digest = hashlib.sha256(name.encode()).digest()
    at_top, at_left, at_scale = (int.from_bytes(digest[k : k + 4], "little") / 2**32 for k in (0, 4, 8))
    reduction = (side / min(photograph.shape[:2])) ** at_scale
    height, width = (max(side, round(reduction * length)) for length in photograph.shape[:2])
    reduced = np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    top, left = int(at_top * (height - side + 1)), int(at_left * (width - side + 1))
    return np.ascontiguousarray(reduced[top : top + side, left : left + side])


def _holds_pairs(folder: Path) -> bool:
    return (folder / "A").is_dir() and (folder / "B").is_dir()
