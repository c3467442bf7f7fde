"""What a model translates: how a condition is made from a target for training, and prepared for the model.

`degrade` makes the condition as a user would have it (small image, grey image, image with a hole, sketch) from a
target. `prepare` brings such a condition to the target's size and channels and rounds it to integers; it is plain
PyTorch, part of the model and of its export. Tasks are stored in the checkpoint.
"""

import math
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

Filter = Literal["bicubic", "bilinear", "nearest"]
Hole = NDArray[np.bool_]
"""(H, W) bool, True where pixels are missing."""

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
LUMA_THOUSANDTHS = (299, 587, 114)
"""Sums of integers in float32 are exact, so every machine rounds halves alike."""


@dataclass(frozen=True, config=STRICT)
class SuperResolution:
    """A small image to one `scale` times as wide and high."""

    task: Literal["super-resolution"] = "super-resolution"
    scale: Literal[2, 4, 8] = 4
    down_filter: Literal["bicubic", "bilinear"] = "bicubic"
    """Antialiased; makes the small image in training."""
    up_filter: Filter = "bicubic"
    """Brings the condition to the target's size."""

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """The target, reduced; its sides must be multiples of `scale`."""
        planes = torch.from_numpy(target).permute(2, 0, 1)[None]
        size = (target.shape[0] // self.scale, target.shape[1] // self.scale)
        small = F.interpolate(planes, size, mode=self.down_filter, antialias=True)
        return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, 3, h, w) float in 0…255 to (B, 3, scale h, scale w), integers."""
        corners = None if self.up_filter == "nearest" else False
        size = [self.scale * side for side in condition.shape[2:]]
        large = F.interpolate(condition, size, mode=self.up_filter, align_corners=corners)
        return large.round().clamp(0, 255)


@dataclass(frozen=True, config=STRICT)
class Colorization:
    """A grey image to a coloured one. The grey image is the luma of BT.601, in three equal channels."""

    task: Literal["colorization"] = "colorization"
    scale: Literal[1] = 1

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """The target's luma, three times."""
        return cv2.cvtColor(cv2.cvtColor(target, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) float in 0…255, grey or coloured, to its luma in three channels, integers."""
        red, green, blue = condition.unbind(1)
        luma = (LUMA_THOUSANDTHS[0] * red + LUMA_THOUSANDTHS[1] * green + LUMA_THOUSANDTHS[2] * blue) / 1000
        return luma.round().clamp(0, 255)[:, None].expand(-1, 3, -1, -1)


@dataclass(frozen=True, config=STRICT)
class Inpainting:
    """An image with a black hole to the whole image. The model is not told where the hole is, as in the paper."""

    task: Literal["inpainting"] = "inpainting"
    scale: Literal[1] = 1
    mask: Literal["central", "box", "free-form"] = "central"
    """central: a square in the middle; box: a square anywhere; free-form: brush strokes."""
    mask_area: Annotated[float, Gt(0), Lt(1)] = 0.15
    """Share of the image that is missing; free-form stops at the first stroke that reaches it."""

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """The target with its hole black."""
        return np.where(self.hole(target.shape[0], target.shape[1], rng)[..., None], np.uint8(0), target)

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) float in 0…255 to the same, integers; a central hole is blackened if it is not yet."""
        condition = condition.round().clamp(0, 255)
        if self.mask != "central":
            return condition
        height, width = condition.shape[2:]
        rows = torch.arange(height, device=condition.device)
        columns = torch.arange(width, device=condition.device)
        # `_central_square` in tensors: a graph would remember what Python's numbers were when it was traced.
        sides, pixels = rows + 1, torch.ones_like(condition[0, 0]).sum()
        side = ((sides * sides <= self.mask_area * pixels) & (sides <= width)).sum()
        top, left = (height - side) // 2, (width - side) // 2
        inside = ((rows >= top) & (rows < top + side))[:, None] & ((columns >= left) & (columns < left + side))
        return torch.where(inside, torch.zeros((), dtype=condition.dtype, device=condition.device), condition)

    def hole(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """Draw a hole for a height × width image."""
        hole = np.zeros((height, width), np.uint8)
        if self.mask == "free-form":
            while hole.mean() < self.mask_area:
                _brush_stroke(hole, rng)
        else:
            top, left, side = _central_square(height, width, self.mask_area)
            if self.mask == "box":
                top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            hole[top : top + side, left : left + side] = 1
        return hole.astype(bool)

    @staticmethod
    def paste_known(images: Tensor, condition: Tensor, hole: Tensor) -> Tensor:
        """Put the known pixels back: `images` where `hole`, (H, W) or (B, 1, H, W) bool, is True, else `condition`.

        The result's log-likelihood is not that of `images`: score it again.
        """
        return torch.where(hole, images, condition.to(images.dtype))


@dataclass(frozen=True, config=STRICT)
class Sketch:
    """Edges, white on black in three equal channels, to an image. Edges are Canny's, found by OpenCV."""

    task: Literal["sketch"] = "sketch"
    scale: Literal[1] = 1
    low_threshold: Annotated[float, Ge(0)] = 100.0
    high_threshold: Annotated[float, Ge(0)] = 200.0
    """Of the gradient's L1 norm, in grey levels: cv2.Canny."""

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """The target's edges."""
        edges = cv2.Canny(cv2.cvtColor(target, cv2.COLOR_RGB2GRAY), self.low_threshold, self.high_threshold)
        return cv2.cvtColor(edges, cv2.COLOR_GRAY2RGB).astype(np.uint8)

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) float in 0…255 to the same, integers."""
        return condition.round().clamp(0, 255)


@dataclass(frozen=True, config=STRICT)
class ImageToImage:
    """Any image to another of the same size: pairs come from two folders, nothing is made from the target."""

    task: Literal["image-to-image"] = "image-to-image"
    scale: Literal[1] = 1

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) float in 0…255 to the same, integers."""
        return condition.round().clamp(0, 255)


DegradingTask = SuperResolution | Colorization | Inpainting | Sketch
Task = DegradingTask | ImageToImage
TASKS: dict[str, type[Task]] = {
    "super-resolution": SuperResolution,
    "colorization": Colorization,
    "inpainting": Inpainting,
    "sketch": Sketch,
    "image-to-image": ImageToImage,
}


def _central_square(height: int, width: int, area: float) -> tuple[int, int, int]:
    """Top, left and side of the square in the middle that covers `area` of the image."""
    side = min(int(math.sqrt(height * width * area)), height, width)
    return (height - side) // 2, (width - side) // 2, side


def _brush_stroke(hole: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw one polyline into `hole`, after Yu et al., "Free-Form Image Inpainting with Gated Convolution", 2019."""
    height, width = hole.shape
    side = min(height, width)
    thickness = int(rng.integers(max(1, side // 16), max(2, side // 6)))
    x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
    for _ in range(int(rng.integers(1, 5))):
        angle += rng.uniform(-math.pi / 3, math.pi / 3)
        length = rng.uniform(side / 8, side / 3)
        end_x = float(np.clip(x + length * math.cos(angle), 0, width - 1))
        end_y = float(np.clip(y + length * math.sin(angle), 0, height - 1))
        cv2.line(hole, (round(x), round(y)), (round(end_x), round(end_y)), 1, thickness)
        x, y = end_x, end_y
