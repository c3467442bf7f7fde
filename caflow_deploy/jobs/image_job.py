"""Job for one image file: the files to write, their size and format, and an estimate of the work."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caflow_deploy.images.drawing import FileFormat, ImageRequest
from caflow_deploy.images.image_estimate import (
    FILE_COPIES,
    LOSSLESS_WEBP_COPIES,
    WEBP_COPIES,
    ImageEstimate,
    ImageProperties,
    OutputRequest,
    estimate_image,
)
from caflow_deploy.images.image_files import WITH_16_BITS, ImageFile
from caflow_deploy.images.masks import MaskMarks
from caflow_deploy.images.model_choice import ModelChoice
from caflow_deploy.images.model_passes import Bits, OutputSpec
from caflow_deploy.jobs.result_naming import DEFAULT, ResultFiles
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.sizes import Size

MAX_QUALITY = 100
"""Quality with which WebP is lossless."""


@dataclass(frozen=True)
class ImageJob:
    """Image file and the results to make from it."""

    source: Path
    output: Path
    """File for the best sample."""
    others: tuple[Path, ...]
    """Files for the other samples, in order of rank; empty if only the best one is wanted."""
    extras: dict[str, Path]
    """Files for further pictures, by name: "sheet", "likelihood", "likelihood-0", …, "uncertainty"."""
    files: ResultFiles = DEFAULT
    """Names, format and quality of the results."""
    size: Size | None = None
    """Size of the results; None is the size that the model makes."""
    bits: Bits | None = None
    """Bits per channel of the results. None: 16 if the source has more than 8 and the format supports 16, else 8."""
    assume: Mapping[str, float] = field(default_factory=dict)
    """What the user says of how the source was degraded, as in `load`. It applies to models that are told of it."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Files beside the source, as large as it, by the name of the model's input: "mask" or "hints"."""
    mask_marks: MaskMarks | None = None
    """What marks the pixels to fill in the picture of a mask; None finds out."""
    choice: ModelChoice | None = None
    """Model that was chosen for the source, and why; None if the model was named, or the source cannot be read."""

    def form(self, height: int, width: int, bits: int, scale: int) -> OutputSpec:
        """Return the size and bit depth of the results.

        Arguments:
            height, width: of the source, in pixels.
            bits: per channel of the source.
            scale: factor of one pass of the model.

        Raises:
            InputError: if the model would have to make too many pixels.
        """
        as_source: Bits = 16 if bits > 8 and self.output.suffix.lower() in WITH_16_BITS else 8
        return OutputSpec.of(self.size, (height, width), scale, self.bits or as_source)

    @property
    def outputs(self) -> list[Path]:
        """All files that may be written."""
        return [self.output, *self.others, *self.extras.values()]

    def request(self, config: DrawOptions, given: ImageFile, scale: int) -> ImageRequest:
        """Return what is wanted of the image, once it has been read.

        Raises:
            InputError: if the model would have to make too many pixels.
        """
        form = self.form(given.rgb.shape[0], given.rgb.shape[1], given.bits, scale)
        judged = FileFormat(self.output.suffix, self.files.quality) if config.judge == "image" else None
        return ImageRequest(config.for_result(form.drawn), form, self.wants_all(config), self.assume, judged)

    def wants_all(self, config: DrawOptions) -> bool:
        """Return whether all samples of a draw are needed, not only the best one."""
        return bool(self.others or self.extras) and not config.rejects

    def estimate(self, pipe: Pipeline, config: DrawOptions, source: ImageProperties) -> ImageEstimate:
        """Estimate the work and memory for the results.

        Raises:
            InputError: if the model would have to make too many pixels, or the image cannot be cut into tiles.
        """
        form = self.form(source.height, source.width, source.bits, pipe.manifest.model.scale)
        suffix = self.output.suffix.lower()
        is_lossless_webp = self.files.quality == MAX_QUALITY
        webp = LOSSLESS_WEBP_COPIES if is_lossless_webp else WEBP_COPIES
        drawn = config.for_result(form.drawn)
        wanted = OutputRequest(
            form,
            drawn,
            keeps_all=self.wants_all(config),
            has_pictures=bool(self.extras),
            is_scored=config.judge == "image",
            file_copies=webp if suffix == ".webp" else FILE_COPIES,
            has_few=drawn.number < config.for_result(1).number,
        )
        return estimate_image(pipe, source, wanted)

    def written(self, outcome: str) -> list[Path]:
        """Return the files that exist after a result with this outcome. A resized input has a single file."""
        return [self.output] if outcome in ("bicubic", "reduced") else self.outputs
