"""Photographs to train on: finding readable ones in a folder, dividing them for validation, and reading them."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from caflow_cli.console import CommandConsole
from caflow_deploy.images.decoding import within_limits
from caflow_deploy.images.file_search import (
    MAX_IMAGE_PIXELS,
    SUFFIXES,
    images_below,
    job_folders_below,
    originals_below,
    partners,
)
from caflow_deploy.images.image_headers import is_cut_off, read_header
from caflow_runtime.errors import InputError
from caflow_runtime.interruptible import abandoned
from caflow_training.task_traits import Image
from caflow_training.tasks import Task


class DataError(ValueError):
    """Error for training data that cannot be used."""


class Unreadable(ValueError):
    """Error for a photograph that cannot be read. The message gives the reason, without the file's name."""


@dataclass(frozen=True)
class Photographs:
    """Readable photographs of a folder."""

    targets: list[Path]
    """Files of the targets."""
    conditions: list[Path] | None
    """Files of the conditions, in the order of the targets; None if conditions are made from the targets."""
    skipped: dict[Path, str]
    """Files and folders that were skipped, each with the reason."""


def find_photographs(
    folder: Path, task: Task, smallest_side: int, max_pixels: int = MAX_IMAGE_PIXELS, shows_progress: bool = False
) -> Photographs:
    """Find all photographs in `folder` and its subfolders. Every file is decoded once as a check.

    For tasks with pairs, a pair consists of two files with the same relative path in the folders `A` (conditions) and
    `B` (targets). Without such a pair, a different suffix is accepted.

    Arguments:
        smallest_side: smallest width and height of a photograph, in pixels; smaller photographs are skipped.
        max_pixels: largest number of pixels of a photograph, as in `read_rgb`; larger photographs are skipped.

    Raises:
        DataError: if no photograph can be used.
    """
    paired = task.is_paired
    root = searched_folder(folder, task)
    if not root.is_dir():
        raise DataError(
            f"{root}: expected a folder of photographs" + (", with the folder A next to it" if paired else "")
        )
    try:
        candidates = originals_below(root, SUFFIXES)
        conditions = _conditions(candidates, folder) if paired else {}
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}") from None
    skipped: dict[Path, str] = {}
    targets: list[Path] = []
    console = CommandConsole()
    console.shows_messages = shows_progress
    with abandoned(ThreadPoolExecutor()) as pool, console.progress_bar() as bar:
        read = pool.map(partial(_size, max_pixels=max_pixels), candidates)
        sizes = bar.track(read, total=len(candidates), description="reading photographs")
        for path, size in zip(candidates, sizes, strict=True):
            if isinstance(size, str):
                reason: str | None = size
            elif min(size) < smallest_side:
                reason = f"is {size[1]}×{size[0]}, but both sides must have at least {smallest_side} pixels"
            else:
                reason = _why_no_pair(conditions[path], size, task.scale, max_pixels) if paired else None
            if reason is None:
                targets.append(path)
            else:
                skipped[path] = reason
    skipped |= dict.fromkeys(sorted(job_folders_below(root)), "contains results of an earlier job")
    if not candidates:
        raise DataError(
            f"{root}: expected photographs; neither this folder nor its subfolders contain a file whose name ends in "
            f"{', '.join(sorted(SUFFIXES))}. Links to folders are not followed, and results of earlier jobs are "
            "skipped."
        )
    if not targets:
        first = "; the first one: " + "{} {}".format(*next(iter(skipped.items()))) if skipped else ""
        raise DataError(f"{folder}: none of the {len(candidates)} image files in this folder can be used{first}")
    return Photographs(targets, [conditions[path][0] for path in targets] if paired else None, skipped)


def searched_folder(folder: Path, task: Task) -> Path:
    """Return the folder in which `find_photographs` searches for targets."""
    return folder / "B" if task.is_paired else folder


def split_by_file(photographs: Photographs, validation_share: float) -> tuple[Photographs, Photographs]:
    """Split photographs into a part for training and a part for validation, by a hash of the files' names.

    Each part has at least one photograph.

    Raises:
        DataError: if there are fewer than two photographs.
    """
    count = len(photographs.targets)
    if count < 2:
        raise DataError(
            f"expected at least two photographs, one of them for validation; got {photographs.targets[0]} alone"
        )
    # A name that is not valid UTF-8 contains surrogates, which only `fsencode` encodes.
    order = sorted(range(count), key=lambda k: sha256(os.fsencode(photographs.targets[k].name)).digest())
    held_out = sorted(order[: min(count - 1, max(1, round(count * validation_share)))])
    kept = sorted(set(order) - set(held_out))

    def part(indices: list[int]) -> Photographs:
        conditions = photographs.conditions
        return Photographs(
            [photographs.targets[k] for k in indices],
            None if conditions is None else [conditions[k] for k in indices],
            {},
        )

    return part(kept), part(held_out)


def read_rgb(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> Image:
    """Read an image file as (H, W, 3) uint8 RGB.

    Arguments:
        max_pixels: largest allowed number of pixels. Larger files are rejected before they are decoded. OpenCV's own
            limit is 2³⁰.

    Raises:
        Unreadable: if the file is damaged, incomplete, not supported, or too large.
    """
    try:
        contents = path.read_bytes()
        header = read_header(contents)
        width, height = header.size if header else (0, 0)
        if width * height > max_pixels:
            raise Unreadable(
                f"is {width}×{height}, {width * height / 1e6:.4g} megapixels, but the limit is {max_pixels / 1e6:.4g} "
                "megapixels: reduce the image, or raise max_pixels in the recipe"
            )
        image = within_limits(_decoded, contents, header) if header and not is_cut_off(contents) else None
    except InputError as error:
        raise Unreadable(f"cannot be read: {error}") from None
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise Unreadable("cannot be read: the file is damaged, incomplete, not accessible or of an unsupported format")
    return image.astype(np.uint8, copy=False)


def _decoded(contents: bytes) -> Image | None:
    return cast(Image | None, cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR_RGB))


def _size(path: Path, max_pixels: int) -> tuple[int, int] | str:
    """Return the height and width of an image file, or the reason why it cannot be read."""
    try:
        height, width = read_rgb(path, max_pixels).shape[:2]
    except Unreadable as error:
        return str(error)
    return height, width


def _conditions(targets: list[Path], folder: Path) -> dict[Path, list[Path]]:
    """Return the files in the folder `A` that may be the condition of each target in `B`: one, if all is well."""
    sources, root = folder / "A", folder / "B"
    found = {str(path.relative_to(sources)) for path in images_below(sources)} if sources.is_dir() else set()
    alike = partners((str(path.relative_to(root)) for path in targets), found)
    return {root / name: [sources / condition for condition in matching] for name, matching in alike.items()}


def _why_no_pair(conditions: list[Path], size: tuple[int, int], scale: int, max_pixels: int) -> str | None:
    """Return why the files that may be the condition of a target of the given height and width are not, or None.

    Arguments:
        scale: width and height of the target, divided by those of its condition.
    """
    if not conditions:
        return "has no condition: the folder A contains no image file of this name"
    if len(conditions) > 1:
        return f"has several conditions: {' and '.join(map(str, conditions))}"
    found, wanted = _size(conditions[0], max_pixels), (size[0] // scale, size[1] // scale)
    if found == wanted:
        return None
    return f"has no condition: {conditions[0]} " + (
        found if isinstance(found, str) else f"is {found[1]}×{found[0]}, but must be {wanted[1]}×{wanted[0]}"
    )
