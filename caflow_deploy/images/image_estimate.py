"""Estimates of windows, time and memory for an image, made before it is drawn."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from caflow_deploy.images.image_files import ImageFile
from caflow_deploy.images.model_passes import OutputSpec
from caflow_runtime.batching.draw_options import USUAL_SAMPLES, DrawOptions
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.pipeline.estimates import FLOATS, RGB, Buffers, SpeedTrial, Stage, check_memory, stage_of
from caflow_runtime.pipeline.pipeline import Pipeline

COPIES = 3
"""Number of copies of a condition: as it was read, as it is padded, and in the form of the model."""
DEEP = 6
"""Bytes of an RGB pixel with 16 bits."""
PICTURES = 22
"""Bytes per target pixel for making the sheet or the maps, without the pictures of the sheet: two more than samples."""
FILE_COPIES, WEBP_COPIES, LOSSLESS_WEBP_COPIES = 4, 5, 14
"""Memory for encoding and writing a file, as a multiple of the picture's bytes. For lossy WebP it depends on the
picture: 3 for enlarged photographs, 4 to 6 for sharp ones."""
ALPHA = 4
"""Further channels of a picture with alpha: the alpha, and the colours of a copy."""


@dataclass(frozen=True)
class ImageProperties:
    """Properties of an image file that are known before it is drawn."""

    height: int
    width: int
    bits: int = 8
    has_alpha: bool = False
    is_alpha_drawn: bool = False
    """Whether the model draws the alpha, too: it does not draw one that is constant."""

    @classmethod
    def of(cls, given: ImageFile, model: Model) -> Self:
        """Return the properties of an image that was read, for a model."""
        height, width = given.rgb.shape[:2]
        is_drawn = model.scale > 1 and given.alpha is not None and bool(np.ptp(given.alpha))
        return cls(height, width, given.bits, given.alpha is not None, is_drawn)


@dataclass(frozen=True)
class OutputRequest:
    """Results that are requested for an image."""

    form: OutputSpec
    config: DrawOptions
    keeps_all: bool
    """Whether all samples are kept until the end, not only the best one."""
    has_pictures: bool
    """Whether a sheet or maps are made."""
    is_scored: bool
    """Whether the image is scored as it is written."""
    file_copies: int
    """Memory for encoding and writing the output file, as a multiple of its picture's bytes."""
    has_few: bool = False
    """Whether there are fewer samples than usual, because the result is large."""


@dataclass(frozen=True)
class ImageEstimate:
    """Estimated work and memory for one image."""

    source: ImageProperties
    wanted: OutputRequest
    stages: tuple[Stage, ...]
    """Stages of work: the passes of the model, then scoring if the result is scored."""
    alpha_stages: tuple[Stage, ...]
    """Stages of work on alpha, before the others."""
    trial: SpeedTrial
    memory: int
    """Peak memory of the process, in bytes."""

    @property
    def windows(self) -> int:
        """Number of windows of one sample, in all passes."""
        drawn = self.stages[: self.wanted.form.size.passes]
        return sum(stage.windows for stage in drawn) // self.wanted.config.number

    @property
    def work(self) -> int:
        """Target pixels of the windows of all stages."""
        return sum(stage.work for stage in (*self.alpha_stages, *self.stages))

    def work_until(self, stage: int, windows: int) -> int:
        """Return the target pixels until this number of windows of a stage, from 0, is finished."""
        finished = (*self.alpha_stages, *self.stages[:stage])
        now = windows * self.stages[stage].window_pixels if stage < len(self.stages) else 0
        return sum(one.work for one in finished) + now

    @property
    def work_of_usual(self) -> int:
        """Target pixels of the windows of all stages with the usual number of samples."""
        drawn = sum(stage.work for stage in self.stages[: self.wanted.form.size.passes])
        return self.work + drawn * (USUAL_SAMPLES - self.wanted.config.number) // self.wanted.config.number

    def check_memory(self) -> None:
        """Check that the memory is available, in addition to the memory that the process uses already.

        Raises:
            TooLittleMemory
        """
        has_many = self.wanted.keeps_all and self.wanted.config.number > 1
        check_memory(
            [self.memory], remedy="use fewer samples or a smaller image" if has_many else "use a smaller image"
        )


def estimate_image(pipe: Pipeline, source: ImageProperties, wanted: OutputRequest) -> ImageEstimate:
    """Estimate the work and memory for an image.

    Raises:
        InputError: if the image cannot be cut into tiles.
    """
    config, model = wanted.config, pipe.manifest.model
    height, width = (-(-side // model.reduction) for side in (source.height, source.width))
    factors = [model.scale**k for k in range(1, wanted.form.size.passes + 1)]
    targets = [(factor * height, factor * width) for factor in factors]
    scored = wanted.is_scored or config.consistent
    stages = [stage_of(pipe.runner, *target, config.number) for target in targets]
    if targets and scored:
        stages.append(stage_of(pipe.runner, *targets[-1]))
    alpha = [stage_of(pipe.runner, *target) for target in targets if source.is_alpha_drawn]
    memory = pipe.memory.of(targets, config.number, _buffers(source, wanted, model), scored=scored)
    return ImageEstimate(source, wanted, tuple(stages), tuple(alpha), pipe.trials[config.number], memory)


def _buffers(source: ImageProperties, wanted: OutputRequest, model: Model) -> Buffers:
    """Return the arrays for reading, ranking and writing. Those that results need count per pixel of the target."""
    config, form = wanted.config, wanted.form
    channels = 3 + ALPHA * source.has_alpha
    written = wanted.file_copies * channels * form.bits / 8
    written *= form.size.height * form.size.width
    given = (RGB + DEEP * (source.bits > 8) + source.has_alpha) * source.height * source.width
    if not form.size.passes:
        return Buffers(0, 0.0, others=given + written)
    condition, area = model.scale ** (form.size.passes - 1), model.reduction**2
    given += COPIES * RGB * condition**2 * source.height * source.width
    pixels = (condition * model.scale) ** 2 * source.height * source.width / area
    compared = 2 * FLOATS * (config.consistent or config.rank == "consistency")
    kept = config.number if wanted.keeps_all or config.rejects_images else min(config.number, 2)
    picture = area * (RGB + DEEP * (form.bits == 16))
    return Buffers(
        kept,
        picture,
        max(written / pixels, area * (PICTURES + RGB * (config.number + 2)) * wanted.has_pictures, compared),
        given,
    )
