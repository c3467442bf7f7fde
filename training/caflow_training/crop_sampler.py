"""Batches of random crops of photographs: targets, with their conditions.

A batch depends on the seed and the step alone. So a run gets the same crops if it is stopped and resumed, or
distributed over several processes.
"""

from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from caflow_runtime.degradation import GROUPS, Degradation
from caflow_runtime.interruptible import abandoned
from caflow_training.degradations import BORDER, CONTEXT, Degradations, checkerboard
from caflow_training.photographs import DataError, Photographs, Unreadable, read_rgb
from caflow_training.recipe import SHIFTS, TrainingConfig
from caflow_training.task_traits import Image
from caflow_training.tasks import DegradingTask, ImageToImage, SuperResolution, Task

CACHE_BYTES = 4 * 2**30
"""Largest total size of the decoded images in the cache."""
PREFETCHED_BATCHES = 4
"""Number of batches that one thread prepares in advance. Each further thread prepares one more."""
TRAINING_STREAM, VALIDATION_STREAM = 0, 1
"""Numbers of the random streams, so that training and validation draw different random numbers."""


class TrainingBatch(NamedTuple):
    """Crops, and all random numbers that a training step uses for them."""

    targets: Tensor
    """Target crops, (B, 3, H, W) uint8."""
    conditions: Tensor
    """Condition crops before `prepare`, (B, 3 or 4, H / scale, W / scale) uint8."""
    target_u: Tensor
    """Positions in the targets' dequantization intervals, (B, 3, H, W) float32 in [0, 1)."""
    condition_u: Tensor
    """Positions in the conditions' dequantization intervals, (B, 3, H, W) float32 in [0, 1)."""
    noise: Tensor
    """Standard normal noise, (B, 3, H, W) float32."""
    noise_level: Tensor
    """Position in the range of standard deviations of `latent_noise`, and in that of temperatures of samples that are
    compared: one for each crop, (B, 1, 1, 1) float32 in [0, 1)."""
    shift: Tensor
    """Shift of an image before the perceptual distance, (B, 2) int64 in 0 … `SHIFTS` − 1: pixels down and to the right.
    With `feature_side`, the upper left corner of the part that it sees, in 0 … `crop` − `feature_side`."""
    degradation: Tensor
    """How the conditions were degraded: `Degradation.vector` of each crop, (B, 13) float32; 0 for clean conditions."""
    is_known: Tensor
    """Which values of `degradation` the model is told, (B, 13) bool. It has to estimate the others."""

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device."""
        return TrainingBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


class CropSampler:
    """Source of random crops of photographs, with their conditions.

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

    def batch(self, step: int, rows: range) -> TrainingBatch:
        """Return the given rows of the global batch of a step. A row depends on (seed, stream, step, row) alone."""
        parts = [self._row(step, row) for row in rows]
        targets, conditions, *drawn = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        # Copy with NumPy. In this background thread, PyTorch would start further OpenMP threads. With more threads than
        # cores, OpenMP's threads sleep instead of spinning, and a training step takes twice as long.
        planes = (np.ascontiguousarray(images.transpose(0, 3, 1, 2)) for images in (targets, conditions))
        return TrainingBatch(*map(torch.from_numpy, (*planes, *drawn)))

    def batches(self, first_step: int, rows: range, threads: int = 1) -> Generator[TrainingBatch]:
        """Yield the batches of step `first_step` and all further steps.

        Arguments:
            threads: number of threads that prepare batches in advance, each another batch.
        """
        with abandoned(ThreadPoolExecutor(threads)) as pool:
            pending: list[Future[TrainingBatch]] = []
            step = first_step
            while True:
                while len(pending) < PREFETCHED_BATCHES + threads - 1:
                    pending.append(pool.submit(self.batch, step, rows))
                    step += 1
                yield pending.pop(0).result()

    def _row(self, step: int, row: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((self.config.seed, self.stream, step, row))
        k = int(rng.integers(len(self.photographs.targets)))
        photograph = self._cache.read(self.photographs.targets[k])
        window, degradations = self._window(photograph, rng), self.degradations
        if degradations.pattern_share and rng.random() < degradations.pattern_share:
            margin, side = CONTEXT * self.task.scale, self.config.crop
            photograph = checkerboard(side + 2 * margin, self.task.scale, rng)
            window = CropWindow(margin, margin, side, side, flipped=False)
            degradations = degradations.for_pattern(rng)
        target, degradation = self.task.target_of(window.cut(photograph)), Degradation()
        if self.photographs.conditions is not None:
            condition = window.reduced(self.task.scale).cut(self._cache.read(self.photographs.conditions[k]))
        else:
            assert not isinstance(self.task, ImageToImage)
            condition, degradation = _degraded(self.task, degradations, target, photograph, window, rng)
        side = self.config.crop
        u = rng.random((2, 3, side, side), dtype=np.float32)
        noise = rng.standard_normal((3, side, side), dtype=np.float32)
        noise_level = rng.random((1, 1, 1), dtype=np.float32)
        shift = self._shift(rng)
        is_known = (rng.random(1 + max(GROUPS)) < self.config.known_share)[list(GROUPS)]
        return target, condition, u[0], u[1], noise, noise_level, shift, degradation.vector(), is_known

    def _shift(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the shift of a crop, or the position of the part of it that the perceptual distance sees.

        Positions of the part may be drawn up to half a part outside the crop, and are then moved to its border. If the
        distance seldom saw the borders, results would be blurred there.
        """
        side, free = self.config.feature_side, self.config.crop - self.config.feature_side
        if not side:
            return rng.integers(SHIFTS, size=2)
        return np.clip(rng.integers(-(side // 2), free + side // 2 + 1, size=2), 0, free)

    def _window(self, photograph: Image, rng: np.random.Generator) -> "CropWindow":
        """Draw the window of a crop. Of several random positions, the one with the largest variation is used."""
        side = self.config.crop
        scales = [scale for scale in self.config.crop_scales if min(photograph.shape[:2]) * scale >= side] or [1.0]
        taken = round(side / scales[rng.integers(len(scales))])
        # In pairs, crops of both images begin between the same pixels.
        unit = self.task.scale if self.task.is_paired else 1
        height, width = ((extent - taken) // unit + 1 for extent in photograph.shape[:2])
        candidates = range(self.config.crop_candidates)
        places = [(unit * int(rng.integers(height)), unit * int(rng.integers(width))) for _ in candidates]
        top, left = (
            max(places, key=lambda place: _variation(photograph, place[0], place[1], taken))
            if places[1:]
            else places[0]
        )
        flipped = bool(rng.integers(2)) and self.config.flips
        return CropWindow(top, left, taken, side, flipped)


@dataclass(frozen=True)
class CropWindow:
    """Square window of a photograph, which is resized to `side` × `side` pixels."""

    top: int
    left: int
    taken: int
    """Side of the window in the photograph, in pixels."""
    side: int
    """Side of the crop after resizing, in pixels."""
    flipped: bool
    """Whether the crop is flipped horizontally."""

    def with_context(self, top: int, left: int, both: int) -> "CropWindow":
        """Return a larger window. Arguments are in pixels of the crop.

        Arguments:
            top, left: additional pixels above the window and to its left.
            both: additional pixels in total in each direction.
        """
        factor = self.taken / self.side
        taken = round((self.side + both) * factor)
        return CropWindow(
            self.top - round(top * factor), self.left - round(left * factor), taken, self.side + both, self.flipped
        )

    def reduced(self, scale: int) -> "CropWindow":
        """Return the same window of an image whose width and height are divided by `scale`."""
        top, left, taken, side = (extent // scale for extent in (self.top, self.left, self.taken, self.side))
        return CropWindow(top, left, taken, side, self.flipped)

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


def _degraded(
    task: DegradingTask,
    degradations: Degradations,
    target: Image,
    photograph: Image,
    window: CropWindow,
    rng: np.random.Generator,
) -> tuple[Image, Degradation]:
    """Return the condition of a crop, and how it was degraded.

    The condition is made by the task, or degraded together with the surroundings of the crop.
    """
    is_clean = degradations.clean_share == 1 or rng.random() < degradations.clean_share
    if is_clean or not isinstance(task, SuperResolution):
        return task.degrade(target, rng), Degradation()
    top, left = (int(rng.integers(BORDER, CONTEXT - BORDER + 1)) for _ in range(2))
    around = window.with_context(top * task.scale, left * task.scale, CONTEXT * task.scale)
    small, degradation = degradations.degrade(around.cut(photograph), task.scale, rng)
    side = window.side // task.scale
    if window.flipped:
        left = CONTEXT - left
    return np.ascontiguousarray(small[top : top + side, left : left + side]), degradation
