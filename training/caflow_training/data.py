"""Training data: photographs, and batches of random crops (condition and target) from them.

A batch depends on the seed and the step alone. So a run gets the same crops if it is stopped and resumed, or
distributed over several processes.
"""

from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from caflow_runtime.image_formats import MAX_PIXELS, claimed_size, images_below, is_cut_off
from caflow_training.degradations import BORDER, CONTEXT, Degradations
from caflow_training.recipe import TrainingConfig
from caflow_training.tasks import DegradingTask, Image, ImageToImage, SuperResolution, Task

CACHE_BYTES = 4 * 2**30
"""Largest total size of the decoded images in the cache."""
PREFETCHED_BATCHES = 4
"""Number of batches that are prepared in advance."""
TRAINING_STREAM, VALIDATION_STREAM = 0, 1
"""Numbers of the random streams, so that training and validation draw different random numbers."""
SHIFTS = 16
"""Number of different shifts in each direction before the perceptual distance. It is the product of the strides of the
first four pooling layers of VGG16."""


class DataError(ValueError):
    """Error for training data that cannot be used."""


class Unreadable(ValueError):
    """Error for a photograph that cannot be read. The message gives the reason, without the file's name."""


class Batch(NamedTuple):
    """Crops, and all random numbers that a training step uses for them."""

    targets: Tensor
    """Target crops, (B, 3, H, W) uint8."""
    conditions: Tensor
    """Condition crops before `prepare`, (B, 3, H / scale, W / scale) uint8."""
    target_u: Tensor
    """Positions in the targets' dequantization cells, (B, 3, H, W) float32 in [0, 1)."""
    condition_u: Tensor
    """Positions in the conditions' dequantization cells, (B, 3, H, W) float32 in [0, 1)."""
    noise: Tensor
    """Standard normal noise, (B, 3, H, W) float32."""
    noise_level: Tensor
    """Factor on the noise that is added to latents, one for each crop: (B, 1, 1, 1) float32 in [0, 1)."""
    shift: Tensor
    """Shift of an image before the perceptual distance, (B, 2) int64 in 0 … `SHIFTS` − 1: pixels down and to the
    right."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


@dataclass(frozen=True)
class Photographs:
    """Readable photographs of a folder."""

    targets: list[Path]
    """Files of the targets."""
    conditions: list[Path] | None
    """Files of the conditions, in the order of the targets; None if conditions are made from the targets."""
    skipped: dict[Path, str]
    """Files that were skipped, each with the reason."""


def find_photographs(
    folder: Path, task: Task, smallest_side: int, max_pixels: int = MAX_PIXELS, shows_progress: bool = False
) -> Photographs:
    """Find all photographs in `folder` and its subfolders. Every file is decoded once as a check.

    For image-to-image, a pair consists of two files with the same relative path in the folders `A` (conditions) and `B`
    (targets).

    Arguments:
        smallest_side: smallest width and height of a photograph, in pixels; smaller photographs are skipped.
        max_pixels: largest number of pixels of a photograph, as in `read_rgb`; larger photographs are skipped.

    Raises:
        DataError: if no photograph can be used.
    """
    paired = isinstance(task, ImageToImage)
    root = folder / "B" if paired else folder
    if not root.is_dir():
        raise DataError(
            f"{root}: expected a folder of photographs" + (", with the folder A next to it" if paired else "")
        )
    try:
        candidates = images_below(root)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}") from None
    skipped: dict[Path, str] = {}
    targets: list[Path] = []
    with ThreadPoolExecutor() as pool:
        sizes = track(
            pool.map(partial(_size, max_pixels=max_pixels), candidates),
            "reading photographs",
            total=len(candidates),
            console=Console(stderr=True),
            transient=True,
            disable=not shows_progress,
        )
        for path, size in zip(candidates, sizes, strict=True):
            reason = size if isinstance(size, str) else None
            if not isinstance(size, str) and min(size) < smallest_side:
                reason = f"is {size[1]}×{size[0]}, but both sides must have at least {smallest_side} pixels"
            if reason is None and paired and _size(_partner(path, folder), max_pixels) != size:
                reason = f"has no condition: {_partner(path, folder)} is not a readable image of the same size"
            if reason is None:
                targets.append(path)
            else:
                skipped[path] = reason
    if not targets:
        first = "; the first one: " + "{} {}".format(*next(iter(skipped.items()))) if skipped else ""
        raise DataError(f"{folder}: none of the {len(candidates)} image files in this folder can be used{first}")
    return Photographs(targets, [_partner(path, folder) for path in targets] if paired else None, skipped)


def split_by_file(photographs: Photographs, validation_share: float) -> tuple[Photographs, Photographs]:
    """Split photographs into a part for training and a part for validation, by a hash of the files' names.

    Raises:
        DataError: if there are fewer than two photographs.
    """
    count = len(photographs.targets)
    if count < 2:
        raise DataError(
            f"expected at least two photographs, one of them for validation; got {photographs.targets[0]} alone"
        )
    order = sorted(range(count), key=lambda k: sha256(photographs.targets[k].name.encode()).digest())
    held_out = sorted(order[: max(1, round(count * validation_share))])
    kept = sorted(set(order) - set(held_out))

    def part(indices: list[int]) -> Photographs:
        conditions = photographs.conditions
        return Photographs(
            [photographs.targets[k] for k in indices],
            None if conditions is None else [conditions[k] for k in indices],
            {},
        )

    return part(kept), part(held_out)


class Crops:
    """Source of random crops of photographs, flipped at random, with their conditions.

    Arguments:
        stream: number of the random stream: TRAINING_STREAM or VALIDATION_STREAM.
    """

    def __init__(
        self,
        photographs: Photographs,
        task: Task,
        config: TrainingConfig,
        stream: int,
        degradations: Degradations | None = None,
    ) -> None:
        self.photographs = photographs
        self.task = task
        self.config = config
        self.stream = stream
        self.degradations = degradations or Degradations()
        self._cache = _ImageCache(CACHE_BYTES, config.max_pixels)

    def batch(self, step: int, rows: range) -> Batch:
        """Return the given rows of the global batch of a step. A row depends on (seed, stream, step, row) alone."""
        parts = [self._row(step, row) for row in rows]
        targets, conditions, *drawn = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        # Copy with NumPy. In this background thread, PyTorch would start further OpenMP threads. With more threads than
        # cores, OpenMP's threads sleep instead of spinning, and a training step takes twice as long.
        planes = (np.ascontiguousarray(images.transpose(0, 3, 1, 2)) for images in (targets, conditions))
        return Batch(*map(torch.from_numpy, (*planes, *drawn)))

    def batches(self, first_step: int, rows: range) -> Generator[Batch]:
        """Yield the batches of step `first_step` and all further steps. A thread prepares them in advance."""
        with ThreadPoolExecutor(1) as pool:
            pending: list[Future[Batch]] = []
            step = first_step
            while True:
                while len(pending) < PREFETCHED_BATCHES:
                    pending.append(pool.submit(self.batch, step, rows))
                    step += 1
                yield pending.pop(0).result()

    def _row(self, step: int, row: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((self.config.seed, self.stream, step, row))
        k = int(rng.integers(len(self.photographs.targets)))
        photograph = self._cache.read(self.photographs.targets[k])
        window = self._window(photograph, rng)
        target = window.cut(photograph)
        if isinstance(self.task, ImageToImage):
            assert self.photographs.conditions is not None
            condition = window.cut(self._cache.read(self.photographs.conditions[k]))
        else:
            condition = self._degraded(self.task, target, photograph, window, rng)
        side = self.config.crop
        u = rng.random((2, 3, side, side), dtype=np.float32)
        noise = rng.standard_normal((3, side, side), dtype=np.float32)
        noise_level = rng.random((1, 1, 1), dtype=np.float32)
        return target, condition, u[0], u[1], noise, noise_level, rng.integers(SHIFTS, size=2)

    def _window(self, photograph: Image, rng: np.random.Generator) -> "_Window":
        """Draw the window of a crop. Of several random positions, the one with the largest variation is used."""
        side = self.config.crop
        scales = [scale for scale in self.config.crop_scales if min(photograph.shape[:2]) * scale >= side] or [1.0]
        taken = round(side / scales[rng.integers(len(scales))])
        height, width = (extent - taken + 1 for extent in photograph.shape[:2])
        places = [(int(rng.integers(height)), int(rng.integers(width))) for _ in range(self.config.crop_candidates)]
        top, left = (
            max(places, key=lambda place: _variation(photograph, place[0], place[1], taken))
            if places[1:]
            else places[0]
        )
        return _Window(top, left, taken, side, flipped=bool(rng.integers(2)))

    def _degraded(
        self, task: DegradingTask, target: Image, photograph: Image, window: "_Window", rng: np.random.Generator
    ) -> Image:
        """Return the condition of a crop: made by the task, or degraded together with the surroundings of the crop."""
        degradations = self.degradations
        is_clean = degradations.clean_share == 1 or rng.random() < degradations.clean_share
        if is_clean or not isinstance(task, SuperResolution):
            return task.degrade(target, rng)
        top, left = (int(rng.integers(BORDER, CONTEXT - BORDER + 1)) for _ in range(2))
        around = window.with_context(top * task.scale, left * task.scale, CONTEXT * task.scale)
        small = degradations.degrade(around.cut(photograph), task.scale, rng)
        side = window.side // task.scale
        if window.flipped:
            left = CONTEXT - left
        return np.ascontiguousarray(small[top : top + side, left : left + side])


@dataclass(frozen=True)
class _Window:
    """Square window of a photograph, which is resized to `side` × `side` pixels."""

    top: int
    left: int
    taken: int
    """Side of the window in the photograph, in pixels."""
    side: int
    """Side of the crop after resizing, in pixels."""
    flipped: bool
    """Whether the crop is flipped horizontally."""

    def with_context(self, top: int, left: int, both: int) -> "_Window":
        """Return a larger window. Arguments are in pixels of the crop.

        Arguments:
            top, left: additional pixels above the window and to its left.
            both: additional pixels in total in each direction.
        """
        factor = self.taken / self.side
        taken = round((self.side + both) * factor)
        return _Window(
            self.top - round(top * factor), self.left - round(left * factor), taken, self.side + both, self.flipped
        )

    def cut(self, image: Image) -> Image:
        """Return the crop of an image, (side, side, 3). Pixels outside the image are filled by reflection."""
        height, width = image.shape[:2]
        bottom, right = self.top + self.taken, self.left + self.taken
        part = image[max(0, self.top) : min(height, bottom), max(0, self.left) : min(width, right)]
        outside = (max(0, -self.top), max(0, bottom - height), max(0, -self.left), max(0, right - width))
        if any(outside):
            part = np.pad(part, (outside[:2], outside[2:], (0, 0)), mode="symmetric")
        if self.taken != self.side:
            part = cv2.resize(part, (self.side, self.side), interpolation=cv2.INTER_AREA).astype(np.uint8)
        return np.ascontiguousarray(part[:, ::-1] if self.flipped else part)


def read_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file as (H, W, 3) uint8 RGB.

    Arguments:
        max_pixels: largest allowed number of pixels. Larger files are rejected before they are decoded. OpenCV's own
            limit is 2³⁰.

    Raises:
        Unreadable: if the file is damaged, incomplete, not supported, or too large.
    """
    try:
        contents = path.read_bytes()
        claimed = claimed_size(contents)
        width, height = claimed or (0, 0)
        if width * height > max_pixels:
            raise Unreadable(
                f"is {width}×{height}, {width * height / 1e6:.4g} megapixels, but the limit is {max_pixels / 1e6:.4g} "
                "megapixels: reduce the image, or raise max_pixels in the recipe"
            )
        is_image = width * height > 0 and not is_cut_off(contents)
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR_RGB) if is_image else None
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise Unreadable("cannot be read: the file is damaged, incomplete, not accessible or of an unsupported format")
    return image.astype(np.uint8, copy=False)


class _ImageCache:
    """Cache of decoded images for several threads. Above `budget_bytes`, the least recently used images are removed."""

    def __init__(self, budget_bytes: int, max_pixels: int) -> None:
        self._budget, self._max_pixels = budget_bytes, max_pixels
        self._images: OrderedDict[Path, Image] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, path: Path) -> Image:
        with self._lock:
            if path in self._images:
                self._images.move_to_end(path)
                return self._images[path]
        try:
            image = read_rgb(path, self._max_pixels)
        except Unreadable as error:
            raise DataError(f"{path} was readable when training started, but now it {error}") from None
        with self._lock:
            self._images[path] = image
            self._bytes = sum(cached.nbytes for cached in self._images.values())
            while self._bytes > self._budget and len(self._images) > 1:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image


def _variation(image: Image, top: int, left: int, side: int) -> float:
    """Return the standard deviation of the values in a window, computed from every fourth pixel in both directions."""
    return float(image[top : top + side : 4, left : left + side : 4].std())


def _size(path: Path, max_pixels: int) -> tuple[int, int] | str:
    """Return the height and width of an image file, or the reason why it cannot be read."""
    try:
        height, width = read_rgb(path, max_pixels).shape[:2]
    except Unreadable as error:
        return str(error)
    return height, width


def _partner(target: Path, folder: Path) -> Path:
    return folder / "A" / target.relative_to(folder / "B")
