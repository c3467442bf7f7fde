"""Frames of a video, one after the other: steady in time, as far as the noise and the choice of the sample go.

A flow's samples differ by their noise. Where every frame has the same, what does not move does not flicker; the noise
is renewed at scene cuts. The best of N is chosen on the first frame of a scene and kept through it, so the picture does
not jump from one sample to another. A frame of which no sample is finite is the enlarged input, marked as rejected.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer, check_share, is_number, shown
from caflow_runtime.errors import InputError
from caflow_runtime.flow.noise import DriftingNoise, draw_noise
from caflow_runtime.image import Image
from caflow_runtime.judge.consistency import enlarge
from caflow_runtime.judge.reference import Reference
from caflow_runtime.judge.typicality import covariates, typicality
from caflow_runtime.linear_light import reduce
from caflow_runtime.pipeline.choice import ranking
from caflow_runtime.pipeline.results import REJECTED, bits_per_dim
from caflow_runtime.pipeline.scenes import SceneCuts
from caflow_runtime.rows.assembly import Row
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.pixels import HostPixels
from caflow_runtime.rows.runner import Runner
from caflow_runtime.sizes import FinalSize, Size

FrameNoise = Literal["fixed", "fresh"] | float
"""The same for all frames of a scene; new for each; or ρ of an AR(1) process, 0 < ρ < 1: each frame's noise is
ρ times the last one's and √(1 − ρ²) times new noise."""


Untypical = Literal["mark", "drop", "bicubic"]
"""What becomes of untypical frames: they are counted, left out of a video, or the input, enlarged."""


@dataclass(frozen=True)
class StreamSettings:
    """How frames are drawn.

    Raises:
        InputError: where it is made.
    """

    draw: Draw = field(default_factory=partial(Draw, n=1))
    """`n` samples of a scene's first frame; the best one's number and noise are kept through the scene. `frame` says
    nothing here."""
    noise: FrameNoise = "fixed"
    batch: int = 1
    """Frames that run together where the noise is fixed."""
    min_typicality: float = 0.0
    """Frames of less are untypical."""
    untypical: Untypical = "mark"
    size: Size | None = None
    """Of the results, made from the model's own; None where that is it."""

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, 1)
        noise = self.noise
        if not (noise in ("fixed", "fresh") if isinstance(noise, str) else is_number(noise) and 0 < noise < 1):
            raise InputError(f"noise: wanted 'fixed', 'fresh' or a number between 0 and 1, got {shown(noise)}")
        check_share("min_typicality", self.min_typicality)

    def final_size(self, frame: Image, model_scale: int) -> FinalSize:
        """The size of the result of a frame.

        Raises:
            InputError: if that takes no pass of the model, or several: a scene keeps one sample, of one pass.
        """
        height, width = frame.shape[:2]
        if self.size is None:
            return FinalSize(model_scale * height, model_scale * width, 1)
        final = self.size.of(height, width, model_scale)
        if final.passes != 1:
            raise InputError(
                f"frames of {width}×{height} to {final.width}×{final.height}: wanted a size above that of the frames, "
                f"and up to {model_scale} times it, which a ×{model_scale} model makes in one pass"
            )
        return final


@dataclass(frozen=True)
class Frame:
    """What a stream gives for one frame."""

    number: int
    """From 0."""
    pixels: NDArray[np.float32]
    """(H, W, 3) continuous pixel values: the cell [w, w + 1) stands for the integer w."""
    sample: int
    """Its number, kept through a scene; `REJECTED` where none is finite."""
    per_level: NDArray[np.float64]
    """(n,) nats, the coarsest level first, at the continuous point; NaN where the frame is rejected."""
    starts_scene: bool
    sample_typicality: float | None = None
    """0…1 among samples of the temperature, where the bundle is calibrated for it; NaN where the frame is rejected or
    cannot be judged."""
    untypical: bool = False
    """Whether that is less than was asked for; `pixels` may then be the input, enlarged."""
    drawn_sides: tuple[int, int] | None = None
    """H and W of the image that was drawn, to which the likelihood belongs, where `pixels` were reduced from it."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W), where whoever gave the frame has drawn that, too: a stream sees colours alone."""

    @property
    def rejected(self) -> bool:
        """Whether no sample is finite: `pixels` are the input, enlarged bicubically."""
        return self.sample == REJECTED

    @property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        return np.clip(self.pixels, 0, 255).astype(np.uint8)

    @property
    def log_likelihood(self) -> float:
        """Nats."""
        return float(self.per_level.sum())

    @property
    def bits_per_dim(self) -> float:
        """−log-likelihood / (dims · ln 2), pixel values as 0…256."""
        height, width = self.drawn_sides or self.pixels.shape[:2]
        return float(bits_per_dim(self.log_likelihood, 3 * height * width))


class Stream:
    """Draws frames in order."""

    def __init__(self, runner: Runner, settings: StreamSettings, reference: Reference | None = None) -> None:
        """`reference`: what is typical of the samples, where that is known."""
        self.runner = runner
        self.settings = settings
        self.draw = settings.draw
        self.reference = reference
        self.value = ranking(runner.model, settings.draw.rank, reference)
        self.batch = settings.batch if settings.noise == "fixed" else 1  # frames that run together have one noise
        self.drifting = None if isinstance(settings.noise, str) else DriftingNoise(settings.noise)
        self.is_cut = SceneCuts()
        self.scene = -1
        self.sample: int | None = None
        self.number = 0
        """Of the next frame."""
        self._shape: tuple[int, ...] = ()
        self._is_within = False
        """Whether the next frame is known to be of the scene that is on."""

    def skip(self, frame: Image, sample: int) -> None:
        """Leave out a frame that an earlier run did, whose scene keeps that sample."""
        if self._is_cut(frame):
            self._start_scene(self.number)
        self.sample = None if sample == REJECTED else sample
        self.number += 1

    def skip_to(self, number: int, scene: int, start: int, first: Image | None) -> None:
        """Begin with frame `number`, without those before: what follows is what it is in a run from the beginning.

        So the scene's sample is chosen on its first frame again. Where a run from the beginning had to choose another
        one later on, since the sample of that frame or of a later one was not finite, this is not known here: the
        scene's sample is that of its first frame and, where that has none, of frame `number`.

        Arguments:
            scene: number of the scene of frame `number`.
            start: number of that scene's first frame.
            first: that frame. None will do where there is no choice: for n = 1, or where the scene begins here.
        """
        self.number, self.scene = number, scene - 1
        self._is_within = start < number
        if not self._is_within:
            return
        self._start_scene(start)
        if first is not None and self.draw.n > 1:
            self._choose(start, first, starts_scene=True)

    def __call__(self, frames: Iterable[Image]) -> Iterator[Frame]:
        """Every frame, in order, as soon as its batch is full or its scene ends. Further calls continue from there."""
        waiting: list[tuple[int, Image]] = []
        for frame in frames:
            number, self.number = self.number, self.number + 1
            if self._is_cut(frame):
                yield from self._draw(waiting)
                waiting.clear()
                self._start_scene(number)
                yield self._choose(number, frame, starts_scene=True)
                continue
            waiting.append((number, frame))
            if len(waiting) == self.batch:
                yield from self._draw(waiting)
                waiting.clear()
        yield from self._draw(waiting)

    def _is_cut(self, frame: Image) -> bool:
        """Of another scene than the last frame, or of another size."""
        resized, self._shape = self._shape != frame.shape, frame.shape
        if resized:
            self.settings.final_size(frame, self.runner.model.scale)
        within, self._is_within = self._is_within, False
        return (self.is_cut(frame) or resized) and not within

    def _start_scene(self, number: int) -> None:
        self.scene += 1
        self.sample = None
        if self.drifting is not None:
            self.drifting.restart(number)

    def _choose(self, number: int, frame: Image, starts_scene: bool) -> Frame:
        """The best of N, whose sample the scene keeps from here on; none where none is finite."""
        best: tuple[float, Row] | None = None
        for row in self._rows([frame], range(self.draw.n), number):
            value = self.value(row, frame)
            if value > (-np.inf if best is None else best[0]):
                best = value, _on_host(row)
        if best is None:
            return self._rejected(number, frame, starts_scene)
        self.sample = best[1].sample
        return self._frame(number, best[1], frame, starts_scene)

    def _draw(self, waiting: list[tuple[int, Image]]) -> Iterator[Frame]:
        """The scene's sample of frames; from where it is not finite on, that of another choice."""
        while waiting:
            if self.sample is None:
                yield self._choose(*waiting[0], starts_scene=False)
                waiting = waiting[1:]
                continue
            drawn = self._rows([image for _, image in waiting], [self.sample], waiting[0][0])
            rows = {row.image: _on_host(row) for row in drawn}
            finite = [self.value(rows[k], image) > -np.inf for k, (_, image) in enumerate(waiting)]
            good = len(waiting) if all(finite) else finite.index(False)
            for k in range(good):
                yield self._frame(waiting[k][0], rows[k], waiting[k][1], starts_scene=False)
            if good < len(waiting):
                self.sample = None
            waiting = waiting[good:]

    def _rejected(self, number: int, frame: Image, starts_scene: bool) -> Frame:
        levels = np.full(self.runner.model.levels, np.nan)
        known = None if self.reference is None else np.nan
        return self._resized(Frame(number, self._enlarged(frame), REJECTED, levels, starts_scene, known), frame)

    def _enlarged(self, frame: Image) -> NDArray[np.float32]:
        # Integer w stands for [w, w + 1).
        return np.clip(enlarge(frame.astype(np.float32), self.runner.model.scale), 0, 255) + np.float32(0.5)

    def _frame(self, number: int, row: Row, frame: Image, starts_scene: bool) -> Frame:
        assert row.pixels is not None
        pixels, known = np.ascontiguousarray(row.pixels.floats()), None
        if self.reference is not None:
            given = covariates(frame, self.runner.model.scale)[None]
            known = float(typicality(self.reference, bits_per_dim(row.per_level, pixels.size)[None], given).value[0])
        untypical = known is not None and known < self.settings.min_typicality
        if untypical and self.settings.untypical == "bicubic":
            pixels = self._enlarged(frame)
        return self._resized(Frame(number, pixels, row.sample, row.per_level, starts_scene, known, untypical), frame)

    def _resized(self, result: Frame, frame: Image) -> Frame:
        """Of the size that is wanted."""
        final = self.settings.final_size(frame, self.runner.model.scale)
        height, width = result.pixels.shape[:2]
        if (final.height, final.width) == (height, width):
            return result
        pixels = reduce(result.pixels, final.height, final.width)
        return replace(result, pixels=pixels, drawn_sides=(height, width))

    def _rows(self, images: list[Image], samples: Sequence[int], number: int) -> Iterator[Row]:
        draw = replace(self.draw, frame=self.scene if self.settings.noise == "fixed" else number)
        return self.runner.draw(images, samples, draw, draw_noise=self.drifting or draw_noise)


def _on_host(row: Row) -> Row:
    """With its pixels: those of frames that wait would fill the device."""
    return row if row.pixels is None else replace(row, pixels=HostPixels(row.pixels.floats()))
