"""Which size a result has, where it is not the model's own: enlarged by the model, and then reduced.

Sides are exact: they are computed in fractions, and a scale counts as the decimal number that was written. What is not
an integer is rounded to the nearest one, halves up, and no side is less than one pixel.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from caflow_runtime.checks import check_integer, is_number, shown
from caflow_runtime.errors import InputError

MOST_SIDE = 2**20
"""Of a result, in pixels: OpenCV writes no longer ones."""
MOST_SCALE = 64
MOST_PIXELS = 2**30
"""That a model may have to make of one source: OpenCV reads no larger images."""


@dataclass(frozen=True)
class FinalSize:
    """What becomes of one source."""

    height: int
    width: int
    """Of the result, in pixels."""
    passes: int
    """How often the model enlarges, each time what the pass before has made: as often as it takes for neither side to
    be less than the result's. 0 where the source is large enough already."""


class Size(msgspec.Struct, frozen=True):
    """A size that results are to have: a scale; a width, a height or both; or a box to fit in.

    Raises:
        InputError: where it is made.
    """

    scale: float | None = None
    """Times both sides of the source; more than 1."""
    width: int | None = None
    height: int | None = None
    """In pixels. One of both keeps the source's aspect ratio, both together are the size."""
    fit: tuple[int, int] | None = None
    """Width and height of a box: the largest size in it with the source's aspect ratio."""
    multiple: int = 1
    """Of the sides: 2 for codecs that halve the resolution of colours. Sides that are not given are rounded to the
    nearest multiple, which for `fit` lies in the box; given ones have to be multiples."""

    def __post_init__(self) -> None:
        ways = [self.scale is not None, (self.width, self.height) != (None, None), self.fit is not None]
        if sum(ways) != 1:
            raise InputError("wanted one of a scale, a width or height or both, and a box to fit in")
        if self.scale is not None and not (is_number(self.scale) and 1 < self.scale <= MOST_SCALE):
            raise InputError(f"scale: wanted a number above 1, up to {MOST_SCALE}, got {shown(self.scale)}")
        box = (None, None) if self.fit is None else self.fit
        for name, side in zip(("width", "height", "fit", "fit"), (self.width, self.height, *box), strict=True):
            if side is not None:
                check_integer(name, side, self.multiple, MOST_SIDE)
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and side % self.multiple:
                raise InputError(
                    f"{name}: wanted a multiple of {self.multiple}, as the codec halves the resolution of colours, got "
                    f"{side}"
                )

    def check_fits(self, task: str, model_scale: int) -> None:
        """Whether a model of that task can give results of other sizes than its own.

        Raises:
            InputError
        """
        if task != "super-resolution" or model_scale == 1:
            raise InputError(f"a scale, width, height or box is for super-resolution, this is a model of {task!r}")

    def of(self, height: int, width: int, model_scale: int) -> FinalSize:
        """The size of the result of a source of `height`×`width` pixels, by a model that enlarges `model_scale` times.

        Raises:
            InputError: if the model would have to make more than `MOST_PIXELS` pixels.
        """
        final = self._sides(height, width)
        passes = 0
        while any(model_scale**passes * side < wanted for side, wanted in zip((height, width), final, strict=True)):
            passes += 1
        pixels = model_scale ** (2 * passes) * height * width
        if pixels > max(MOST_PIXELS, height * width):
            raise InputError(
                f"a result of {final[1]}×{final[0]} from {width}×{height} takes {passes} passes of a ×{model_scale} "
                f"model, and the last one makes {pixels / 1e6:.4g} megapixels: wanted at most {MOST_PIXELS / 1e6:.4g}: "
                "give a smaller size"
            )
        return FinalSize(*final, passes)

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        if self.fit is not None:
            box_width, box_height = (side - side % self.multiple for side in self.fit)
            factor = min(Fraction(box_width, width), Fraction(box_height, height))
        elif self.scale is not None:
            factor = Fraction(str(self.scale))
        elif self.width is not None:
            factor = Fraction(self.width, width)
        else:
            assert self.height is not None
            factor = Fraction(self.height, height)
        return self.height or self._rounded(factor * height), self.width or self._rounded(factor * width)

    def _rounded(self, side: Fraction) -> int:
        """To the nearest multiple, halves up."""
        return max(1, math.floor(side / self.multiple + Fraction(1, 2))) * self.multiple
