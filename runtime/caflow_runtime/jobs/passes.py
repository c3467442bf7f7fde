"""An image enlarged by a model once or several times: each later pass takes the best result of the one before."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image import Image
from caflow_runtime.judge.consistency import enlarge, enlarge_image
from caflow_runtime.linear_light import reduce, reduce_alpha
from caflow_runtime.pipeline.drawing import Written
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Outcome, Samples
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.pixels import deep_integers
from caflow_runtime.rows.runner import ShowWindows
from caflow_runtime.sizes import FinalSize

Bits = Literal[8, 16]


@dataclass(frozen=True)
class Form:
    """Size and depth of a result."""

    size: FinalSize
    is_own: bool
    """Whether the size is that of what the model makes of the source."""
    bits: Bits

    def reduced(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Colours, (H, W, 3), or alpha, (H, W), at the final size."""
        kind = reduce if pixels.ndim == 3 else reduce_alpha
        return kind(pixels, self.size.height, self.size.width)


@dataclass(frozen=True)
class Made:
    """What a model made of one image."""

    drawn: Samples | Best
    """By the last pass."""
    condition: Image
    """Of the last pass."""
    pictures: NDArray[Any]
    """(N, H, W, 3) uint8, or uint16 where that was asked for: the samples, the best first, or the best alone."""


@dataclass(frozen=True)
class Passes:
    """How a model is run on an image."""

    pipe: Pipeline
    draw: Draw
    show: ShowWindows | None

    def run(self, rgb: Image, count: int, needs_all: bool, written: Written) -> Made:
        """Enlarge an image `count` times, at least once.

        Where a pass falls back to an enlarged input, the result is the source, enlarged. Where an earlier pass kept a
        sample that is untypical, so is the result.

        Arguments:
            needs_all: give all samples of the last pass.
            written: what results of the last pass are written as.

        Raises:
            NotFinite, Untypical
        """
        condition, outcomes = rgb, set[Outcome]()
        for _ in range(count - 1):
            earlier = self.pipe.draw_best(condition, self.draw, self.show)
            if earlier.outcome[0] == "bicubic":
                return self._enlarged(rgb, count, earlier, written.is_deep)
            outcomes.add(earlier.outcome[0])
            condition = earlier.images[0]
        if needs_all:
            drawn = self.pipe.draw_all(condition, self.draw, self.show, written.is_deep)
            return Made(drawn, condition, _pictures(drawn)[0])
        best = self.pipe.draw_best(condition, self.draw, self.show, written)
        if best.outcome[0] == "bicubic":
            return self._enlarged(rgb, count, best, written.is_deep)
        if "best" in outcomes:
            best = replace(best, outcome=["best"])
        return Made(best, condition, _pictures(best)[0][None])

    def _enlarged(self, rgb: Image, count: int, drawn: Best, is_deep: bool) -> Made:
        """The source, enlarged."""
        factor = self.pipe.manifest.model.scale**count
        if not is_deep:
            return Made(drawn, rgb, enlarge_image(rgb, factor)[None])
        values = enlarge(rgb.astype(np.float32), factor) + np.float32(0.5)
        return Made(drawn, rgb, deep_integers(values)[None])


def _pictures(drawn: Samples | Best) -> Any:
    """Of each image, with as many bits as were asked for."""
    return drawn.images if drawn.deep is None else drawn.deep
