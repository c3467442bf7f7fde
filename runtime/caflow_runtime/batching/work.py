"""Rows to compute: samples of conditions, or existing targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.flow.noise import DrawNoise
from caflow_runtime.image_arrays import Image


@dataclass(frozen=True)
class SamplingWork:
    """Samples to draw of each condition."""

    conditions: Sequence[Image]
    samples: Sequence[int]
    """Numbers of the samples. `config.n` is ignored, because additional samples of the same draw have other numbers."""
    config: DrawOptions
    draw_noise: DrawNoise | None = None
    """Function that draws the noise of one level; None for the backend's."""


@dataclass(frozen=True)
class ScoringWork:
    """Existing targets to score, one of each condition."""

    conditions: Sequence[Image]
    targets: list[Image]
    """Padded targets."""
    samples: Sequence[int] = (0,)
