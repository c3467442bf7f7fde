"""Frames of a video, drawn one after the other with little flicker.

The samples of a flow differ by their noise. If all frames have the same noise, static parts do not flicker. So the
noise stays the same during a scene, and changes at scene cuts. The best of N samples is chosen on the first frame of a
scene and kept for the whole scene, so that the picture does not jump between samples. If that sample is not finite for
a later frame, the best of N samples of this frame is taken, for this frame alone: a result depends on the scene and the
frame, and not on where a run began. If no sample of a frame is finite, the result is the enlarged input, marked as
rejected.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, structs
from numpy.typing import NDArray

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.pixels import HostPixels
from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.checks import is_number, shown
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.flow.noise import DrawNoise, DriftingNoise, LevelNoise, SceneNoise, draw_items
from caflow_runtime.image_arrays import Image
from caflow_runtime.linear_light import resample
from caflow_runtime.ood.consistency import enlarge
from caflow_runtime.ood.typicality import covariates, typicality
from caflow_runtime.option_fields import Options
from caflow_runtime.pipeline.choice import Ranking, bits_of
from caflow_runtime.pipeline.open_model import OpenModel
from caflow_runtime.pipeline.results import REJECTED, bits_per_dim
from caflow_runtime.pipeline.sampling import typicality_model_for
from caflow_runtime.pipeline.scenes import SceneCuts
from caflow_runtime.sizes import MAX_ENLARGEMENT, FinalSize, Size

FrameNoise = Literal["fixed", "fresh"] | float
"""Noise of the frames: "fixed" is the same noise for all frames of a scene, and "fresh" is new noise for each frame. A
number is ρ of an AR(1) process, 0 < ρ < 1: each frame's noise is ρ times the last frame's noise plus √(1 − ρ²) times
new noise."""


class FrameOptions(Options, frozen=True):
    """How the frames of a video differ from single images.

    Raises:
        InputError: if a value is not valid.
    """

    noise: FrameNoise = "fixed"
    """Noise in the frames of a scene. fixed: all frames have the same noise, so that static content does not flicker.
    fresh: each frame has new noise. A number between 0 and 1: the noise drifts, and this is the correlation of one
    frame's noise with that of the next frame."""
    batch: Annotated[int, Meta(ge=1)] = 1
    """With `noise` fixed: number of frames to compute together. More frames need more memory."""
    size: Size | None = None
    """Size of the results, which are resampled to it; None keeps the size that the model makes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        noise = self.noise
        if not (noise in ("fixed", "fresh") if isinstance(noise, str) else is_number(noise) and 0 < noise < 1):
            raise InputError(f"noise must be 'fixed', 'fresh', or a number above 0 and below 1; got {shown(noise)}")


class StreamSettings(FrameOptions, frozen=True, kw_only=True):
    """Settings for drawing frames.

    Raises:
        InputError: if a value is not valid.
    """

    draw: DrawOptions = DrawOptions(1)
    """How samples are drawn. `n` is the number of samples of a scene's first frame; the number and the noise of the
    best one are used for the whole scene. `frame` and `redraws` are ignored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw.keep is not None or self.draw.consistent or self.draw.judge == "image":
            raise InputError("keep, consistent and judge = 'image' are for images: omit them for frames of a video")

    def final_size(self, sides: Sequence[int], model_scale: int) -> FinalSize:
        """Return the size of the result of a frame.

        Arguments:
            sides: height and width of the frame.
            model_scale: factor by which the model enlarges.

        Raises:
            InputError: if the size does not take exactly one pass of the model. A scene keeps one sample, and a sample
                belongs to one pass.
        """
        height, width = sides
        if self.size is None:
            return FinalSize(model_scale * height, model_scale * width, 1)
        final = self.size.of(height, width, model_scale)
        if final.passes != 1:
            raise InputError(
                f"results must be larger than the frames, and at most {MAX_ENLARGEMENT * model_scale:g} times as "
                f"large with this ×{model_scale} model; got frames of {width}×{height} and results of "
                f"{final.width}×{final.height} pixels"
            )
        return final


@dataclass(frozen=True)
class Frame:
    """Result for one frame."""

    number: int
    """Number of the frame among the frames that the stream was given, from 0."""
    pixels: NDArray[np.float32]
    """(H, W, 3) continuous pixel values: the interval [w, w + 1) stands for the integer w."""
    sample: int
    """Number of the sample, which is kept for the whole scene; −1 if no sample is finite."""
    per_level: NDArray[np.float64]
    """(n,) log-likelihood of each level in nats, the coarsest level first, at the continuous point. NaN if the frame is
    rejected."""
    starts_scene: bool
    """Whether a scene begins with this frame."""
    sample_typicality: float | None = None
    """Typicality, 0…1, among samples of the same temperature. None if the bundle is not calibrated for that
    temperature; NaN if the frame is rejected or cannot be judged."""
    untypical: bool = False
    """Whether the typicality is below `min_typicality`. `pixels` may then be the enlarged input."""
    drawn_sides: tuple[int, int] | None = None
    """Height and width of the drawn image, if `pixels` were resampled from it. The likelihood belongs to the drawn
    image."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) transparency, if the caller has drawn it. A stream only processes colours."""

    @property
    def rejected(self) -> bool:
        """Whether no sample is finite. `pixels` are then the input, bicubically enlarged."""
        return self.sample == REJECTED

    @property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        return np.clip(self.pixels, 0, 255).astype(np.uint8)

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood, in nats."""
        return float(self.per_level.sum())

    @property
    def bits_per_dim(self) -> float:
        """Bits per dimension: −log-likelihood / (dims · ln 2), for pixel values from 0 to 256."""
        height, width = self.drawn_sides or self.pixels.shape[:2]
        return float(bits_per_dim(self.log_likelihood, 3 * height * width))


class Stream:
    """Draws the frames of `Pipeline.stream` in order. It can also resume in the middle of a video."""

    def __init__(self, pipe: OpenModel, settings: StreamSettings) -> None:
        """Start a stream that has seen no frame.

        Raises:
            InputError: if the model or its calibration does not support these settings.
        """
        config, runner, known = settings.draw.for_model(pipe.manifest), pipe.runner, pipe.likelihoods
        assert config.temperature is not None
        if settings.size is not None:
            settings.size.check_fits(runner.model.scale)
        typicality_model = typicality_model_for(pipe, config)
        self.runner = runner
        self.settings = settings
        self.config = config
        self.typicality_model = typicality_model or known.typicality_model(config.temperature)
        self.ranking = Ranking(runner.model, config.rank, pipe.consistency, self.typicality_model)
        self.batch = settings.batch if settings.noise == "fixed" else 1  # all frames of a run have the same noise
        self.drifting = None if isinstance(settings.noise, str) else DriftingNoise(settings.noise)
        self.draw_noise: DrawNoise = runner.graphs.backend.draw_noise if self.drifting is None else self._drift
        self.scene_noise = SceneNoise(self.draw_noise) if settings.noise == "fixed" else None
        self.is_cut = SceneCuts()
        self.scene = -1
        """Number of the current scene."""
        self.sample: int | None = None
        """Number of the sample that the current scene keeps; None if no sample of its first frame was finite."""
        self.number = 0
        """Number of the next frame."""
        self._shape: tuple[int, ...] = ()
        self._is_within = False
        """Whether the next frame is known to belong to the current scene."""

    def skip(self, frame: Image, sample: int) -> None:
        """Skip a frame that an earlier run has drawn. `sample` is the sample that its scene keeps, or `REJECTED`."""
        if self._is_cut(frame):
            self._start_scene(self.number)
        self.sample = None if sample == REJECTED else sample
        self.number += 1

    def skip_to(self, number: int, scene: int, start: int, first: Image | None) -> None:
        """Begin with frame `number`. The results are the same as in a run from the beginning.

        Arguments:
            scene: number of the scene of frame `number`.
            start: number of that scene's first frame.
            first: the first frame of that scene, on which the scene's sample is chosen. It may be None if n = 1, or if
                the scene begins with frame `number`.
        """
        self.number, self.scene = number, scene - 1
        self._is_within = start < number
        if not self._is_within:
            return
        self._start_scene(start)
        if self.config.number == 1:
            self.sample = 0
        elif first is not None:
            self._choose_for_scene(start, first)

    def __call__(self, frames: Iterable[Image]) -> Iterator[Frame]:
        """Yield the result of every frame, in order, as soon as its batch is full or its scene ends.

        Further calls continue with the next frame.
        """
        waiting: list[tuple[int, Image]] = []
        for frame in frames:
            number, self.number = self.number, self.number + 1
            if self._is_cut(frame):
                yield from self._draw(waiting)
                waiting.clear()
                self._start_scene(number)
                yield self._choose_for_scene(number, frame)
                continue
            waiting.append((number, frame))
            if len(waiting) == self.batch:
                yield from self._draw(waiting)
                waiting.clear()
        yield from self._draw(waiting)

    def _is_cut(self, frame: Image) -> bool:
        """Return whether a new scene begins with a frame: because of its content, or because its size has changed."""
        resized, self._shape = self._shape != frame.shape, frame.shape
        if resized:
            self.settings.final_size(frame.shape[:2], self.runner.model.scale)
        within, self._is_within = self._is_within, False
        return (self.is_cut(frame) or resized) and not within

    def _start_scene(self, number: int) -> None:
        self.scene += 1
        self.sample = None
        if self.drifting is not None:
            self.drifting.restart(number)

    def _choose_for_scene(self, number: int, frame: Image) -> Frame:
        """Return the best of N samples of a scene's first frame. The scene keeps the number of this sample."""
        best = self._choose(number, frame, starts_scene=True)
        self.sample = None if best.rejected else best.sample
        return best

    def _choose(self, number: int, frame: Image, starts_scene: bool) -> Frame:
        """Return the best of N samples of a frame. If no sample is finite, reject the frame."""
        best: tuple[float, BatchItem] | None = None
        for item in self._items([frame], range(self.config.number), number):
            value = self.value(item, frame)
            if value > (-np.inf if best is None else best[0]):
                best = value, _on_host(item)
        if best is None:
            return self._rejected(number, frame, starts_scene)
        return self._frame(number, best[1], frame, starts_scene)

    def _draw(self, waiting: list[tuple[int, Image]]) -> Iterator[Frame]:
        """Draw the scene's sample of these frames. A frame for which it is not finite gets a sample of its own."""
        items: dict[int, BatchItem] = {}
        if waiting and self.sample is not None:
            drawn = self._items([image for _, image in waiting], [self.sample], waiting[0][0])
            items = {item.image: _on_host(item) for item in drawn}
        for k, (number, image) in enumerate(waiting):
            if k in items and self.value(items[k], image) > -np.inf:
                yield self._frame(number, items[k], image, starts_scene=False)
            else:
                yield self._choose(number, image, starts_scene=False)

    def value(self, item: BatchItem, frame: Image) -> float:
        """Return the value by which a sample of a frame is ranked, −∞ if it is not finite."""
        return self.ranking.value(item, frame)

    def _rejected(self, number: int, frame: Image, starts_scene: bool) -> Frame:
        levels = np.full(self.runner.model.levels, np.nan)
        known = None if self.typicality_model is None else np.nan
        return self._resized(Frame(number, self._enlarged(frame), REJECTED, levels, starts_scene, known), frame)

    def _enlarged(self, frame: Image) -> NDArray[np.float32]:
        large = enlarge(frame[..., :VALUES].astype(np.float32), self.runner.model.scale)  # without a mask
        return np.clip(large, 0, 255) + np.float32(0.5)  # the middle of [w, w + 1), which stands for the integer w

    def _frame(self, number: int, item: BatchItem, frame: Image, starts_scene: bool) -> Frame:
        assert item.pixels is not None
        pixels, known = np.ascontiguousarray(item.pixels.floats()), None
        if self.typicality_model is not None:
            given = covariates(frame, self.runner.model)[None]
            bits = bits_of(item, frame, self.runner.model)[None]
            known = float(typicality(self.typicality_model, bits, given).value[0])
        untypical = known is not None and known < self.config.min_typicality
        if untypical and self.config.otherwise == "bicubic":
            pixels = self._enlarged(frame)
        return self._resized(Frame(number, pixels, item.sample, item.per_level, starts_scene, known, untypical), frame)

    def _resized(self, result: Frame, frame: Image) -> Frame:
        """Return the result in the requested size."""
        final = self.settings.final_size(frame.shape[:2], self.runner.model.scale)
        height, width = result.pixels.shape[:2]
        if (final.height, final.width) == (height, width):
            return result
        pixels = resample(result.pixels, final.height, final.width)
        return replace(result, pixels=pixels, drawn_sides=(height, width))

    def _items(self, images: list[Image], samples: Sequence[int], number: int) -> Iterator[BatchItem]:
        config = structs.replace(self.config, frame=self.scene if self.settings.noise == "fixed" else number)
        draw_noise = self.draw_noise
        if self.scene_noise is not None and len(samples) == 1:
            self.scene_noise.begin(self.scene, samples[0], len(images), self.runner.pixel_budget)
            draw_noise = self.scene_noise
        return self.runner.draw(images, samples, config, draw_noise=draw_noise)

    def _drift(self, z: LevelNoise) -> Array:
        assert self.drifting is not None
        return self.runner.graphs.backend.to_device(draw_items(z, self.drifting))


def _on_host(item: BatchItem) -> BatchItem:
    """Return the item with its pixels in host memory. Pixels of waiting frames would fill the memory of the device."""
    return item if item.pixels is None else replace(item, pixels=HostPixels(item.pixels.floats()))
