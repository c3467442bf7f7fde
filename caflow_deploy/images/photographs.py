"""True images with their conditions, cut from photographs. Models are calibrated and evaluated with them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS, READABLE, originals_below
from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.input_files import pair_of
from caflow_deploy.images.pairs import TARGETS, FilePair, holds_pairs, list_pairs
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.named_inputs import target_of

CROPS = 4
"""Number of crops of each size from one photograph."""
Degrade = Callable[[Image], Image]
"""Function that makes the condition of a true image."""


@dataclass(frozen=True)
class Pair:
    """True image and its condition."""

    photograph: str
    """Name of the photograph. Pairs of one photograph are similar, so calibration keeps them in one fold."""
    target: Image
    condition: Image


@dataclass(frozen=True)
class Photograph:
    """File that true images are made from."""

    name: str
    """Name in `Pair.photograph`."""
    path: Path
    condition: Path | None = None
    """File of the condition. Without one, the model defines how conditions are made."""


def photographs_in(folder: Path) -> list[Photograph]:
    """Return the photographs in a folder and its subfolders, sorted by their paths, without results of earlier jobs.

    If the folder contains pairs (subfolders `A` and `B`), return the targets with their conditions, as `list_pairs`
    finds them. Pairs in one subfolder count as one photograph, since they are usually its crops, or frames of one
    video.

    Raises:
        InputError: if there are no photographs, or a target has several conditions.
        OSError: if a folder cannot be read.
    """
    if holds_pairs(folder):
        return sorted((_of_pair(pair, folder) for pair in list_pairs(folder)), key=lambda one: one.path)
    found = [Photograph(str(path.relative_to(folder)), path) for path in originals_below(folder, READABLE)]
    if not found:
        raise InputError(f"{folder}: expected photographs ({', '.join(sorted(READABLE))}); found none")
    return found


def _of_pair(pair: FilePair, folder: Path) -> Photograph:
    target, condition = map(Path, pair)
    name = target.relative_to(folder / TARGETS)
    return Photograph(str(name if name.parent == Path() else name.parent), target, condition)


def pairs_of(
    photograph: Photograph, model: Model, degrade: Degrade, sides: Sequence[int], max_pixels: int = MAX_IMAGE_PIXELS
) -> list[Pair]:
    """Return pairs of true images and conditions made from one photograph.

    Usually, the true images are what a model would have to draw for square crops of several sizes and scales, and
    `degrade` makes their conditions. Sizes larger than the photograph are skipped.

    If the photograph has a condition, return one pair: the whole photograph, and its condition, as `pair_of` does.

    Arguments:
        degrade: makes the condition of a target, (H, W, 3) uint8, such as `Consistency.degraded` of a pipeline.
        sides: sides of the crops, in pixels. They are rounded down to multiples that the model can draw.
        max_pixels: largest number of pixels of each file, as in `read_image`.

    Raises:
        UnreadableImage: if a file cannot be read, or the sizes of target and condition do not fit together.
        InputError: as `degrade` does, if the model does not define how conditions are made.
    """
    image, name = read_image(photograph.path, max_pixels).rgb, photograph.name
    if photograph.condition is not None:
        files = FilePair(str(photograph.path), str(photograph.condition))
        return [Pair(name, *pair_of(image, files, model, max_pixels))]
    multiple = model.size_multiple * model.reduction
    wanted = sorted({max(multiple, side // multiple * multiple) for side in sides})
    fitting = [side for side in wanted if side <= min(image.shape[:2])]
    crops = [_crop(image, side, f"{name} {side} {k}") for side in fitting for k in range(CROPS)]
    targets = [target_of(model, crop) for crop in crops]
    return [Pair(name, target, degrade(target)) for target in targets]


def with_grey_copies(model: Model, pairs: Iterable[Pair], first: int = 0) -> Iterator[Pair]:
    """Yield pairs. If results of grey inputs are grey, every second pair is followed by a grey copy.

    Arguments:
        first: number of the first pair, if others come before it.
    """
    for k, pair in enumerate(pairs, first):
        yield pair
        if k % 2 == 0 and model.keeps_gray:
            mask = pair.condition[..., VALUES:]
            yield Pair(pair.photograph, _grey(pair.target), np.dstack([_grey(pair.condition[..., :VALUES]), mask]))


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
