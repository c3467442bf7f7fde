"""Passes of a model over an image. Each later pass enlarges the best result of the previous pass."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.pixels import deep_integers
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.image_arrays import Image
from caflow_runtime.linear_light import resample, resample_alpha
from caflow_runtime.ood.consistency import enlarge, enlarge_image
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Outcome, Samples
from caflow_runtime.pipeline.sampling import ResultEncoding, sample_all, sample_best
from caflow_runtime.sizes import FinalSize, Size

Bits = Literal[8, 16]
"""Bits per channel of a result."""


@dataclass(frozen=True)
class OutputSpec:
    """Size and bit depth of a result."""

    size: FinalSize
    is_own: bool
    """Whether the size is the one that the model makes from the source in a single pass."""
    bits: Bits
    """Bits per channel."""
    drawn: int
    """Number of pixels of the image that the model makes, before it gets the size of the result."""

    @classmethod
    def of(cls, size: Size | None, source: tuple[int, int], scale: int, bits: Bits) -> Self:
        """Return the form of the result of a source.

        Arguments:
            size: the requested size; None is the size that the model makes.
            source: height and width of the source, in pixels.
            scale: factor of one pass of the model.

        Raises:
            InputError: if the model would have to make too many pixels.
        """
        height, width = source
        own = FinalSize(scale * height, scale * width, 1)
        wanted = own if size is None else size.of(height, width, scale)
        return cls(wanted, wanted == own, bits, scale ** (2 * wanted.passes) * height * width)

    def resampled(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return colours, (H, W, 3), or alpha, (H, W), in the final size."""
        kind = resample if pixels.ndim == 3 else resample_alpha
        return kind(pixels, self.size.height, self.size.width)


@dataclass(frozen=True)
class ModelOutput:
    """Output of a model for one image."""

    drawn: Samples | Best
    """Result of the last pass."""
    condition: Image
    """Condition of the last pass, (h, w, 3); the source, if `pictures` is the enlarged source."""
    pictures: NDArray[Any]
    """All samples of the last pass, best first, or only the best: (N, H, W, 3) uint8, or uint16 if requested."""


@dataclass(frozen=True)
class ModelPasses:
    """Model, drawing options and progress callback for the passes."""

    pipe: Pipeline
    """Pipeline for the source. It may be told how the source was degraded."""
    config: DrawOptions
    show: ShowWindows | None
    later: Pipeline
    """Pipeline for the passes after the first one, whose conditions are results."""

    def run(self, rgb: Image, count: int, needs_all: bool, written: ResultEncoding) -> ModelOutput:
        """Enlarge an image `count` times, at least once.

        If any pass rejects all samples and falls back to its enlarged input, the result is the source, enlarged
        bicubically. If an earlier pass kept an untypical sample, the outcome of the result is "rejected".

        Arguments:
            needs_all: whether to return all samples of the last pass, not only the best one.
            written: form in which the results of the last pass will be written.

        Raises:
            NotFinite: if no sample is finite; with `needs_all`, if any sample of the last pass is not.
            Untypical: if all samples are rejected and the draw requires an error then.
        """
        pipe, condition, outcomes = self.pipe, rgb, set[Outcome]()
        between = self.config if self.config.rejects else structs.replace(self.config, judge="sample")
        for _ in range(count - 1):
            earlier = sample_best(pipe, condition, between, self.show)
            if earlier.outcome[0] == "bicubic":
                return self._enlarged(rgb, count, earlier, written.is_deep)
            outcomes.add(earlier.outcome[0])
            pipe, condition = self.later, earlier.images[0]
        if needs_all:
            drawn = sample_all(pipe, condition, self.config, self.show, written.is_deep)
            return ModelOutput(drawn, condition, _pictures(drawn)[0])
        best = sample_best(pipe, condition, self.config, self.show, written)
        if best.outcome[0] == "bicubic":
            return self._enlarged(rgb, count, best, written.is_deep)
        if "rejected" in outcomes:
            best = replace(best, outcome=["rejected"])
        return ModelOutput(best, condition, _pictures(best)[0][None])

    def _enlarged(self, rgb: Image, count: int, drawn: Best, is_deep: bool) -> ModelOutput:
        """Return the source, enlarged bicubically by the factor of `count` passes."""
        factor, rgb = self.pipe.manifest.model.scale**count, rgb[..., :VALUES]  # without a mask
        if not is_deep:
            return ModelOutput(drawn, rgb, enlarge_image(rgb, factor)[None])
        values = enlarge(rgb.astype(np.float32), factor) + np.float32(0.5)
        return ModelOutput(drawn, rgb, deep_integers(values)[None])


def _pictures(drawn: Samples | Best) -> Any:
    """Return the images: uint16 if 16 bits were requested, else uint8."""
    return drawn.images if drawn.deep is None else drawn.deep
