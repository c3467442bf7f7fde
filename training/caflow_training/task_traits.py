"""What a runtime and the training must know of a task, beside its own keys."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB unless a task says otherwise. Conditions of some tasks have four channels."""

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
LUMA_THOUSANDTHS = (299, 587, 114)
"""Weights of red, green and blue in the luma of BT.601, times 1000. With integer weights the sums are exact in float32,
so values that end in .5 are rounded in the same way on every machine."""


class TaskTraits:
    """What a runtime must know of a task. A task overrides the values that differ."""

    description: ClassVar[str] = "Turn one image into another"
    """What a model of this task does, in a few words for its users. `{scale}` is replaced by the scale."""
    condition_color: ClassVar[Literal["rgb", "gray"]] = "rgb"
    """Which colours the model sees. With "gray", it sees the luma of the condition alone."""
    condition_channels: ClassVar[int] = 3
    """Number of channels of conditions. The fourth says which values of the target are known: see `known`."""
    known_channels: ClassVar[tuple[int, ...]] = ()
    """Channels of the target that the condition always contains."""
    color_space: ClassVar[Literal["rgb", "ycbcr"]] = "rgb"
    """Colours of targets. "ycbcr" are luma and chroma, as in `caflow_runtime.completion.color_space`."""
    reduction: ClassVar[int] = 1
    """Sides of an image divided by those of the target that a model draws for it."""
    keeps_gray: ClassVar[bool] = False
    """Whether results of grey inputs are grey."""

    def visible(self, condition: Tensor) -> Tensor:
        """Return what the model sees of conditions, (B, 3, h, w) floats: all colours, or the luma in three channels."""
        if self.condition_color == "rgb":
            return condition
        red, green, blue = condition.unbind(1)
        luma = (LUMA_THOUSANDTHS[0] * red + LUMA_THOUSANDTHS[1] * green + LUMA_THOUSANDTHS[2] * blue) / 1000
        return luma.round().clamp(0, 255)[:, None].expand(-1, 3, -1, -1)

    def seen(self, condition: Tensor, prepared: Tensor) -> Tensor:
        """Return what the mean network sees of conditions, (B, C, h, w) floats, given their prepared form."""
        return prepared

    def known(self, condition: Tensor) -> Tensor | None:
        """Return which values of the targets are those of the prepared conditions, (B, 3, H, W) bool.

        None if the task knows none of them.
        """
        return None

    def target_of(self, photograph: Image) -> Image:
        """Return the target, (H, W, 3) uint8, that a photograph shows: RGB, or in the colours of `color_space`."""
        return photograph

    def to_rgb(self, target: Tensor) -> Tensor:
        """Return the RGB values of targets, (B, 3, H, W) in pixel values. They may leave 0…256."""
        return target

    @property
    def inputs(self) -> Mapping[str, str]:
        """Inputs beside the image: their names, and how each becomes part of the condition (see `ModelInput`)."""
        return {}

    @property
    def is_paired(self) -> bool:
        """Whether the training data are pairs, in the folders A (conditions) and B (targets)."""
        return False

    @property
    def can_be_tiled(self) -> bool:
        """Whether images may be padded and cut into tiles."""
        return True

    @property
    def needs_condition(self) -> bool:
        """Whether `repeat_degradation` reads the condition, because the degradation is random."""
        return False

    def repeat_degradation(self, target: Tensor, condition: Tensor) -> Tensor | None:
        """Return the condition that results, (B, 3, H, W), have, or None if the degradation cannot be repeated.

        The values are floats, usually in 0…255, and are not rounded.
        """
        return None
