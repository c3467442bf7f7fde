"""Tasks: which condition a model gets, and which target it produces.

Each task is a class with the keys of a recipe as its fields, and up to three methods. `degrade` makes a condition from
a target, for training: a small image, a grey image, an image with a hole, or a sketch. `prepare` converts a condition
to the target's size and channels, and rounds it to integers. `repeat_degradation` makes the condition again from a
result, to see whether the two agree. The last two are plain PyTorch, because they become parts of exported graphs.
What else a runtime must know of a task is in the class variables of `TaskTraits`, which are copied to the bundle, so
no runtime knows the tasks. Tasks are stored in the checkpoint.
"""

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from pydantic.dataclasses import dataclass
from torch import Tensor

from caflow_runtime.linear_light import cubic
from caflow_training.completion_tasks import ColorHints, MaskedInpainting
from caflow_training.holes import central_square
from caflow_training.task_traits import STRICT, Image, TaskTraits

Filter = Literal["bicubic", "bilinear", "nearest"]


@dataclass(frozen=True, config=STRICT)
class SuperResolution(TaskTraits):
    """Super-resolution. The condition is a small image, and the target is `scale` times as wide and high."""

    description: ClassVar[str] = "Enlarge photographs ×{scale}"
    keeps_gray: ClassVar[bool] = True
    task: Literal["super-resolution"] = "super-resolution"
    scale: Literal[2, 4, 8] = 4
    """Width and height of the target, divided by those of the condition."""
    down_filter: Literal["bicubic", "bilinear"] = "bicubic"
    """Antialiased filter that makes the small condition from the target in training."""
    pairs: bool = False
    """Whether the training data are pairs: the small conditions in a folder `A`, and the targets of the same names in a
    folder `B`. Otherwise conditions are made from photographs."""
    up_filter: Filter = "bicubic"
    """Filter that enlarges the condition to the target's size inside the model."""

    @property
    def is_paired(self) -> bool:
        return self.pairs

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the reduced target. The target's sides must be multiples of `scale`."""
        planes = torch.from_numpy(target).permute(2, 0, 1)[None]
        size = (target.shape[0] // self.scale, target.shape[1] // self.scale)
        small = F.interpolate(planes, size, mode=self.down_filter, antialias=True)
        return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())

    def repeat_degradation(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the reduced target, as `degrade` does, but without rounding."""
        return self._filtered(target) / self._filtered(torch.ones_like(target[:, :1]))

    def _filtered(self, planes: Tensor) -> Tensor:
        """Convolve with the reducing filter. At the border, values outside the image count as 0.

        `F.interpolate` is not used, because not every runtime of ONNX has its antialiasing.
        """
        support = self.scale * {"bicubic": 2, "bilinear": 1}[self.down_filter]
        x = np.abs(np.arange(2 * support) + 0.5 - support) / self.scale
        taps = 1 - x if self.down_filter == "bilinear" else cubic(x)
        weights = torch.from_numpy(taps / taps.sum()).to(planes).expand(planes.shape[1], 1, -1)
        pad, channels = support - self.scale // 2, planes.shape[1]
        rows = F.conv2d(planes, weights[..., None], None, (self.scale, 1), (pad, 0), groups=channels)
        return F.conv2d(rows, weights[:, :, None], None, (1, self.scale), (0, pad), groups=channels)

    def seen(self, condition: Tensor, prepared: Tensor) -> Tensor:
        """Return the conditions, which are smaller than their prepared form."""
        return self.visible(condition)

    def prepare(self, condition: Tensor) -> Tensor:
        """Enlarge conditions (B, 3, h, w), floats in 0…255, to (B, 3, scale · h, scale · w), rounded to integers."""
        corners = None if self.up_filter == "nearest" else False
        size = [self.scale * side for side in condition.shape[2:]]
        large = F.interpolate(condition, size, mode=self.up_filter, align_corners=corners)
        return large.round().clamp(0, 255)


@dataclass(frozen=True, config=STRICT)
class Colorization(TaskTraits):
    """Colorization. The condition is a grey image (the luma of BT.601), and the target is a colour image."""

    description: ClassVar[str] = "Colour grey photographs"
    condition_color: ClassVar[Literal["rgb", "gray"]] = "gray"
    task: Literal["colorization"] = "colorization"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the target's luma in three equal channels."""
        return cv2.cvtColor(cv2.cvtColor(target, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)

    def repeat_degradation(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the luma of the target."""
        return self.visible(target)

    def prepare(self, condition: Tensor) -> Tensor:
        """Return the luma of conditions (B, 3, H, W), which are grey or coloured floats in 0…255.

        The result is (B, 3, H, W), with three equal channels, rounded to integers.
        """
        return self.visible(condition)


@dataclass(frozen=True, config=STRICT)
class Inpainting(TaskTraits):
    """Inpainting as in the paper. The condition is an image with a black square in the middle.

    The target is the complete image. The model gets no mask of the hole.
    """

    description: ClassVar[str] = "Fill in the middle of photographs"
    keeps_gray: ClassVar[bool] = True
    task: Literal["inpainting"] = "inpainting"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""
    mask: Literal["central"] = "central"
    """Always `central`: a square in the middle. For holes anywhere, use the task `masked-inpainting`."""
    mask_area: Annotated[float, Gt(0), Lt(1)] = 0.15
    """Fraction of the image's area that is missing."""

    @property
    def can_be_tiled(self) -> bool:
        return False

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the target with a black hole."""
        top, left, side = central_square(target.shape[0], target.shape[1], self.mask_area)
        condition = target.copy()
        condition[top : top + side, left : left + side] = 0
        return condition

    def repeat_degradation(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the target with the square in the middle in black."""
        return self.prepare(target)

    def prepare(self, condition: Tensor) -> Tensor:
        """Round conditions (B, 3, H, W), floats in 0…255, to integers, and make the hole black."""
        condition = condition.round().clamp(0, 255)
        height, width = condition.shape[2:]
        rows = torch.arange(height, device=condition.device)
        columns = torch.arange(width, device=condition.device)
        # The same square as `central_square`, computed with tensors: tracing would store Python numbers as constants.
        sides, pixels = rows + 1, torch.ones_like(condition[0, 0]).sum()
        side = ((sides * sides <= self.mask_area * pixels) & (sides <= width)).sum()
        top, left = (height - side) // 2, (width - side) // 2
        inside = ((rows >= top) & (rows < top + side))[:, None] & ((columns >= left) & (columns < left + side))
        return torch.where(inside, torch.zeros((), dtype=condition.dtype, device=condition.device), condition)


@dataclass(frozen=True, config=STRICT)
class Sketch(TaskTraits):
    """Sketch to image. The condition shows white edges on black, and the target is the image.

    In training, OpenCV's Canny detector (`cv2.Canny`) finds the edges.
    """

    description: ClassVar[str] = "Turn drawings into images"
    task: Literal["sketch"] = "sketch"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""
    low_threshold: Annotated[float, Ge(0)] = 100.0
    """Lower threshold of the Canny detector, for the L1 norm of the gradient in grey levels. A pixel above this
    threshold is an edge if it is connected to a pixel above `high_threshold`."""
    high_threshold: Annotated[float, Ge(0)] = 200.0
    """Upper threshold of the Canny detector. A pixel above this threshold always belongs to an edge."""

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the target's edges, white on black in three equal channels."""
        edges = cv2.Canny(cv2.cvtColor(target, cv2.COLOR_RGB2GRAY), self.low_threshold, self.high_threshold)
        return cv2.cvtColor(edges, cv2.COLOR_GRAY2RGB).astype(np.uint8)

    def prepare(self, condition: Tensor) -> Tensor:
        """Round conditions (B, 3, H, W), floats in 0…255, to integers."""
        return condition.round().clamp(0, 255)


@dataclass(frozen=True, config=STRICT)
class ImageToImage(TaskTraits):
    """Image to image. Condition and target are any two images of the same size.

    The pairs are read from the folders A (conditions) and B (targets) of the training data.
    """

    task: Literal["image-to-image"] = "image-to-image"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""

    @property
    def is_paired(self) -> bool:
        return True

    def prepare(self, condition: Tensor) -> Tensor:
        """Round conditions (B, 3, H, W), floats in 0…255, to integers."""
        return condition.round().clamp(0, 255)


DegradingTask = SuperResolution | Colorization | Inpainting | MaskedInpainting | ColorHints | Sketch
Task = DegradingTask | ImageToImage
TASKS: dict[str, type[Task]] = {
    "super-resolution": SuperResolution,
    "colorization": Colorization,
    "inpainting": Inpainting,
    "masked-inpainting": MaskedInpainting,
    "color-hints": ColorHints,
    "sketch": Sketch,
    "image-to-image": ImageToImage,
}
