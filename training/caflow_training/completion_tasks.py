"""Tasks whose targets are partly known: the model draws the rest, around a first guess that the condition contains.

Conditions have four channels: a first guess of the target, and a mask, 255 where the target's values are those of the
guess. Both come from `caflow_runtime.completion`, which a runtime uses as well.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.dataclasses import dataclass
from torch import Tensor

from caflow_runtime.completion import color_hints, filling
from caflow_runtime.completion.color_space import CB_CR, GREEN, rgb_to_ycbcr
from caflow_training.holes import HoleKind, draw_hole
from caflow_training.task_traits import STRICT, Image, TaskTraits

KNOWN = 128
"""Smallest value of the mask where values of the target are known."""


class CompletionTraits(TaskTraits):
    """What the tasks of this module have in common."""

    condition_channels: ClassVar[int] = 4

    @property
    def needs_condition(self) -> bool:
        return True

    def seen(self, condition: Tensor, prepared: Tensor) -> Tensor:
        """Return guess and mask, (B, 4, H, W)."""
        return condition.round().clamp(0, 255)

    def prepare(self, condition: Tensor) -> Tensor:
        """Return the guess, (B, 3, H, W), rounded to integers."""
        return condition[:, :3].round().clamp(0, 255)

    def known(self, condition: Tensor) -> Tensor:
        """Return which values of the targets are known, (B, 3, H, W) bool."""
        always = [KNOWN if k in self.known_channels else 0 for k in range(3)]
        return condition[:, 3:] + torch.tensor(always, device=condition.device)[:, None, None] >= KNOWN

    def repeat_degradation(self, target: Tensor, condition: Tensor) -> Tensor:
        """Return the condition with the known values of the target."""
        kept = torch.where(self.known(condition), target, condition[:, :3])
        return torch.cat([kept, condition[:, 3:]], 1)


@dataclass(frozen=True, config=STRICT)
class MaskedInpainting(CompletionTraits):
    """Inpainting with a mask. The condition is an image whose hole is filled by an older method, and the mask."""

    description: ClassVar[str] = "Remove scratches, text and small objects from photographs"
    keeps_gray: ClassVar[bool] = True
    task: Literal["masked-inpainting"] = "masked-inpainting"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""
    holes: Annotated[tuple[HoleKind, ...], MinLen(1)] = ("scratches", "boxes", "strokes")
    """Kinds of holes in training. One is drawn for each crop: `scratches` are bent lines across the crop, `boxes`
    rectangles, and `strokes` those of a brush."""
    hole_area: tuple[Annotated[float, Gt(0), Lt(0.6)], Annotated[float, Gt(0), Lt(0.6)]] = (0.02, 0.25)
    """Smallest and largest fraction of a crop that boxes and strokes cover."""
    smooth_share: Annotated[float, Ge(0), Le(1)] = 0.5
    """Probability with which a hole is filled smoothly in training, as where PyPatchMatch is not installed."""

    def __post_init__(self) -> None:
        if self.hole_area[0] > self.hole_area[1]:
            raise ValueError(f"hole_area must be the smallest and the largest fraction; got {list(self.hole_area)}.")

    @property
    def inputs(self) -> Mapping[str, str]:
        return {"mask": "fill"}

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the target with a hole that is filled, and its mask, (H, W, 4)."""
        kind = self.holes[rng.integers(len(self.holes))]
        hole = draw_hole(kind, target.shape[0], target.shape[1], rng.uniform(*self.hole_area), rng)
        is_smooth, seed = rng.random() < self.smooth_share, int(rng.integers(2**31))
        filled = filling.fill_smoothly(target, hole) if is_smooth else filling.fill(target, hole, seed)
        return np.dstack([filled, np.where(hole, np.uint8(0), np.uint8(255))])


@dataclass(frozen=True, config=STRICT)
class ColorHints(CompletionTraits):
    """Colorization with hints. The target is luma and chroma at a quarter of the photograph's width and height.

    The condition is the luma, the chroma of the hints, propagated over the image, and a mask of the hints. Recipes give
    `crop_scales` from which photographs have a quarter of their size or less.
    """

    description: ClassVar[str] = "Colour grey photographs, with dots or strokes of colour as hints"
    known_channels: ClassVar[tuple[int, ...]] = (0,)
    color_space: ClassVar[Literal["rgb", "ycbcr"]] = "ycbcr"
    reduction: ClassVar[int] = 4
    task: Literal["color-hints"] = "color-hints"
    scale: Literal[1] = 1
    """Always 1: the target has the condition's size."""
    max_dots: Annotated[int, Ge(1), Le(1000)] = 40
    """Largest number of dots of a crop in training. Few are drawn as often as many: their logarithm is uniform."""
    dot_side: Annotated[int, Ge(1), Le(16)] = 3
    """Largest side of a dot in training, in pixels of the target."""
    no_hints_share: Annotated[float, Ge(0), Le(1)] = 0.15
    """Fraction of the crops without hints in training."""

    @property
    def inputs(self) -> Mapping[str, str]:
        return {"hints": "propagate"}

    def target_of(self, photograph: Image) -> Image:
        """Return luma and chroma of a photograph."""
        return rgb_to_ycbcr(photograph)

    def to_rgb(self, target: Tensor) -> Tensor:
        """Return the RGB values of targets."""
        y, cb, cr = target[:, 0], target[:, 1] - 128, target[:, 2] - 128
        return torch.stack([y + CB_CR[1] * cr, y + GREEN[0] * cb + GREEN[1] * cr, y + CB_CR[0] * cb], 1)

    def degrade(self, target: Image, rng: np.random.Generator) -> Image:
        """Return the luma with propagated hints, which are dots of the target's chroma, and their mask, (H, W, 4)."""
        height, width = target.shape[:2]
        known = np.zeros((height, width), bool)
        count = 0 if rng.random() < self.no_hints_share else round(self.max_dots ** rng.random())
        for _ in range(count):
            top, left = int(rng.integers(height)), int(rng.integers(width))
            side = 1 + int(rng.integers(self.dot_side))
            known[top : top + side, left : left + side] = True
        chroma = color_hints.propagate(target[..., 0], target[..., 1:], known)
        return np.dstack([target[..., 0], chroma, np.where(known, np.uint8(255), np.uint8(0))])
