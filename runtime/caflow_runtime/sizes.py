"""Requested sizes of results that differ from the model's own: the model enlarges, then the image is resampled.

Sides are exact: they are computed as fractions, and a scale counts as the decimal number that was written. Sides that
are not integers are rounded to the nearest integer, halves up, and are at least one pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from msgspec import Meta

from caflow_runtime.checks import check_integer, shown
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options

MAX_SIDE = 2**20
"""Maximum side of a result, in pixels. OpenCV does not write larger images."""
MAX_SCALE = 64
MAX_RESULT_PIXELS = 2**30
"""Maximum number of pixels of a result, and of the model's image before it is resampled. OpenCV does not read larger
images."""
MAX_ENLARGEMENT = 1.5
"""Largest factor by which resampling enlarges the model's image: a ×4 model makes results of up to six times the
source's sides in one pass. Beyond it another pass pays off, at 15 times the time: at a factor of six its LPIPS is 0.256
instead of 0.276, for nine of twelve photographs (p = 0.06); at seven, 0.292 instead of 0.327 (p = 0.007)."""


@dataclass(frozen=True)
class FinalSize:
    """Size of the result of one source, and the number of passes of the model."""

    height: int
    """Height of the result, in pixels."""
    width: int
    """Width of the result, in pixels."""
    passes: int
    """Number of passes of the model, each of which enlarges the result of the previous pass. There are as few as bring
    both sides to the result's, or within `MAX_ENLARGEMENT` of them; 0 if the source is large enough already."""


class Size(Options, frozen=True):
    """A requested size of results: a scale; a width, a height or both; or a box to fit in.

    Raises:
        InputError: if the values are not valid.
    """

    scale: Annotated[float, Meta(gt=1, le=MAX_SCALE)] | None = None
    """Enlarge width and height by this factor, such as 2 or 1.5. Up to 1.5 times the model's factor, the model enlarges
    once, and its image is reduced or enlarged by a filter. For larger factors, which videos cannot have, the model
    enlarges again, which takes far longer. By default the model's factor."""
    width: Annotated[int, Meta(ge=1, le=MAX_SIDE)] | None = None
    """Width of the result in pixels, such as 3840 for 4K. Without `height`, the aspect ratio of the input is kept."""
    height: Annotated[int, Meta(ge=1, le=MAX_SIDE)] | None = None
    """Height of the result in pixels. Without `width`, the aspect ratio of the input is kept."""
    fit: tuple[int, int] | None = None
    """Width and height of a box, in which the result becomes as large as possible. The aspect ratio of the input is
    kept."""
    multiple: Annotated[int, Meta(ge=1)] = 1
    """Sides are multiples of this: 2 for codecs that halve the colour resolution. A given width or height must be such
    a multiple. Other sides are rounded to the nearest multiple; with `fit` the result stays inside the box."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ways = [self.scale is not None, (self.width, self.height) != (None, None), self.fit is not None]
        if sum(ways) != 1:
            raise InputError("expected exactly one of a scale, a size (width, height or both) and a box to fit in")
        if self.fit is not None and not (isinstance(self.fit, Sequence) and len(self.fit) == 2):
            raise InputError(f"fit must be a width and a height, such as (1920, 1080); got {shown(self.fit)}")
        for side in self.fit or ():
            check_integer("fit", side, self.multiple, MAX_SIDE)
        for name, length in (("width", self.width), ("height", self.height)):
            if length is not None and length % self.multiple:
                raise InputError(
                    f"{name} must be a multiple of {self.multiple}, because the codec halves the colour resolution; "
                    f"got {length}"
                )

    def check_fits(self, model_scale: int) -> None:
        """Check that a model supports results of other sizes than its own.

        Raises:
            InputError: if the check fails.
        """
        if model_scale == 1:
            raise InputError(
                "a scale, width, height or box requires a model that enlarges; results of this model have the size of "
                "their inputs"
            )

    def of(self, height: int, width: int, model_scale: int) -> FinalSize:
        """Return the size of the result of a source.

        Arguments:
            height: height of the source in pixels.
            width: its width.
            model_scale: factor by which the model enlarges in one pass.

        Raises:
            InputError: if the model's image or the result would have more than `MAX_RESULT_PIXELS` pixels.
        """
        final = self._sides(height, width)
        passes, reach = 0, 1.0
        while any(reach * side < wanted for side, wanted in zip((height, width), final, strict=True)):
            passes += 1
            reach = MAX_ENLARGEMENT * model_scale**passes
        pixels = max(model_scale ** (2 * passes) * height * width, final[0] * final[1])
        if pixels > max(MAX_RESULT_PIXELS, height * width):
            raise InputError(
                f"a result of {final[1]}×{final[0]} from {width}×{height} requires {passes} pass{'es' * (passes != 1)} "
                f"of a ×{model_scale} model and images of {pixels / 1e6:.4g} megapixels; at most "
                f"{MAX_RESULT_PIXELS / 1e6:.4g} are allowed: choose a smaller size"
            )
        return FinalSize(*final, passes)

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result of a source of this height and width."""
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
        """Return a side rounded to the nearest multiple, halves up, and at least one multiple."""
        return max(1, math.floor(side / self.multiple + Fraction(1, 2))) * self.multiple
