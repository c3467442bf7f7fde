"""What is made of one image file: which files, of which size, and what they take."""

from dataclasses import dataclass
from pathlib import Path

from caflow_runtime.jobs.image_need import ImageNeed, Source, Wanted, need_of_image
from caflow_runtime.jobs.passes import Bits, Form
from caflow_runtime.jobs.result_files import DEFAULT, ResultFiles
from caflow_runtime.pictures.image_files import WITH_16_BITS
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.rows.draw import Draw
from caflow_runtime.sizes import FinalSize, Size

LOSSLESS = {".bmp", ".png", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageJob:
    """One image file and what is made of it."""

    source: Path
    output: Path
    """The best sample."""
    others: tuple[Path, ...]
    """The other samples, in order of rank."""
    extras: dict[str, Path]
    """Further pictures by what they show."""
    files: ResultFiles = DEFAULT
    """How they are written."""
    size: Size | None = None
    """Of the results; None is that of the model."""
    bits: Bits | None = None
    """Per channel of the results; None is as the source, where the format of the results can hold it."""
    mask: Path | None = None
    """An image as large as the source, whose white pixels are to be filled."""

    def form(self, height: int, width: int, bits: int, scale: int) -> Form:
        """That of the results of a source of that size and depth, by a model of that scale.

        Raises:
            InputError: if the model would have to make too many pixels.
        """
        own = FinalSize(scale * height, scale * width, 1)
        size = own if self.size is None else self.size.of(height, width, scale)
        as_source: Bits = 16 if bits > 8 and self.output.suffix.lower() in WITH_16_BITS else 8
        return Form(size, size == own, self.bits or as_source)

    @property
    def outputs(self) -> list[Path]:
        """All that may be written."""
        return [self.output, *self.others, *self.extras.values()]

    def wants_all(self, draw: Draw) -> bool:
        """Whether all samples of a draw are needed, and not the best one alone."""
        return bool(self.others or self.extras) and draw.reject is None

    def need(self, pipe: Pipeline, draw: Draw, source: Source) -> ImageNeed:
        """What it takes.

        Raises:
            InputError: if the model would have to make too many pixels, or the image cannot be cut into tiles.
        """
        form = self.form(source.height, source.width, source.bits, pipe.manifest.model.scale)
        is_lossy = self.output.suffix.lower() not in LOSSLESS
        wanted = Wanted(
            form,
            draw,
            keeps_all=self.wants_all(draw),
            has_sheet="sheet" in self.extras,
            has_maps="likelihood" in self.extras,
            is_read_again=form.is_own and (is_lossy or source.has_alpha or source.is_grey or self.mask is not None),
            suffix=self.output.suffix.lower(),
        )
        return need_of_image(pipe.needs, source, wanted)

    def written(self, outcome: str) -> list[Path]:
        """All that is written of a result: of an input that was resized by a filter there is nothing else."""
        return [self.output] if outcome in ("bicubic", "reduced") else self.outputs
