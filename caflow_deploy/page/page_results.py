"""Results that the page shows for an image: judged samples in files, and maps. Does not require Gradio."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any, NamedTuple

from numpy.typing import NDArray

from caflow_deploy.images.alpha import enlarge_alpha
from caflow_deploy.images.drawing import ImageRequest, draw_image
from caflow_deploy.images.image_files import ImageFile, read_image, write_image
from caflow_deploy.images.image_headers import claimed_size
from caflow_deploy.images.image_result import ImageResult
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.masks import HALF
from caflow_deploy.images.model_passes import OutputSpec
from caflow_deploy.page.judged_sample import ALPHA, JudgedSample
from caflow_runtime.batching.draw_options import DrawOptions, Rank
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.calibration import Calibration, read_calibration
from caflow_runtime.ood.consistency import enlarge_image
from caflow_runtime.ood.typicality import reason
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Samples

MAX_SAMPLES = 32
MAX_PAGE_PIXELS = 2**25
"""Largest number of pixels of all samples together. It bounds the memory, about 30 bytes per pixel, and the time that
other visitors wait."""


class Settings(NamedTuple):
    """Settings with which samples are drawn, as in `Pipeline.sample`."""

    n: int | None
    temperature: float
    rank: Rank
    seed: int


@dataclass(frozen=True)
class Results:
    """Results for one image."""

    enlarged: Path
    """The condition, bicubically enlarged to the size of the samples."""
    samples: list[JudgedSample]
    """The best sample first."""
    likelihood: tuple[Image, str]
    """Likelihood map of the best sample, and the values of its darkest and its brightest colour."""
    uncertainty: tuple[Image, str] | None
    """Uncertainty map of all samples, with these values; None if there is only one sample."""


class Closed(CaflowError):
    """The page is being closed, so no more samples are drawn."""


class PageSampler:
    """Sampler of the page. It draws for one visitor at a time, until it is closed.

    Arguments:
        folder: folder that results are written to.
    """

    def __init__(self, pipe: Pipeline, folder: Path) -> None:
        self.pipe = pipe
        self.folder = folder
        self._calibration = read_calibration(pipe.folder)
        self._drawing = Lock()
        self._is_closed = False

    @property
    def temperatures(self) -> list[float]:
        """Temperatures at which samples can be judged, in ascending order."""
        if self._calibration is None:
            return []
        known = [one.temperature for one in self._calibration.samples if one.temperature is not None]
        return sorted(temperature for temperature in known if not self._obstacle(temperature))

    def read(self, source: Path) -> ImageFile:
        """Read an image file. Its claimed size is checked before it is decoded.

        Raises:
            UnreadableImage: if the file is not a readable image.
            OSError: if the file cannot be read.
            InputError: if a single sample would have too many pixels.
        """
        claimed = claimed_size(source.read_bytes())
        if claimed is not None:
            self._check_size(claimed.height, claimed.width, 1)
        return read_image(source)

    def write(self, given: ImageFile) -> Path:
        """Write an image as it was read to a PNG file, and return its path."""
        path = self._new_folder() / "condition.png"
        write_image(path, given.rgb, given.alpha, given.is_grey, given.metadata.colours())
        return path

    def draw(self, source: Path, settings: Settings, show: ShowWindows, painted: Image | None = None) -> Results:
        """Draw samples of the image in a file.

        Arguments:
            show: as in `Pipeline.sample`.
            painted: (H, W, 4) uint8 RGBA, what a visitor painted over the image, for models with a mask or hints.

        Raises:
            UnreadableImage: if the file is not a readable image.
            InputError: if the samples would have too many pixels, a setting is out of range, or the model requires a
                mask and nothing is painted.
            NotFinite: if any sample is not finite.
            Closed: if the page is closed meanwhile.
            OSError: if the results cannot be written.
        """

        def show_unless_closed(done: int, count: int) -> None:
            self._check_open()
            show(done, count)

        n, temperature, rank, seed = settings
        options = DrawOptions(n, temperature, seed, rank=rank).for_model(self.pipe.manifest)
        given = self.read(source)
        height, width = given.rgb.shape[:2]
        options = options.for_result(height * width * self.pipe.manifest.model.scale**2)
        self._check_size(height, width, options.number)
        if (
            rank == "typical"
            and self._calibration is not None
            and self.pipe.likelihoods.typicality_model(temperature) is None
        ):
            raise InputError(
                f"the most usual sample can be chosen only at the temperatures {_known(self._calibration)}; choose one "
                "of them, or another Best sample"
            )
        image = CompletedImage(self.pipe, given, self._inputs(painted))
        form = OutputSpec.of(None, (height, width), self.pipe.manifest.model.scale, 8)
        wanted = ImageRequest(options, form, keeps_all=True)
        with self._drawing:
            self._check_open()
            return self._results(source.stem, image, draw_image(image, wanted, show_unless_closed), temperature)

    def close(self) -> None:
        """Stop drawing at the next tile and wait for that, because Python must not exit while ONNX Runtime runs."""
        self._is_closed = True
        with self._drawing:
            pass

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("the server is shutting down")

    def _check_size(self, height: int, width: int, n: int) -> None:
        """Check that `n` samples of a condition do not have too many pixels.

        Raises:
            InputError: if they have.
        """
        height, width = (self.pipe.manifest.model.scale * side for side in (height, width))
        fitting = min(MAX_SAMPLES, MAX_PAGE_PIXELS // max(1, height * width))
        if not fitting:
            raise InputError(
                f"the image is too large: its result would have {width}×{height} pixels, and the limit of this page is "
                f"{MAX_PAGE_PIXELS / 1e6:.0f} million; crop or reduce the image, or use the command caflow image"
            )
        if n > fitting:
            raise InputError(
                f"the number of samples must be at most {fitting} for results of {width}×{height} pixels; got {n}. "
                "Request fewer samples, or reduce the image"
            )

    def _inputs(self, painted: Image | None) -> dict[str, NDArray[Any]]:
        """Return the mask or the hints that are painted, by the name of the model's input. Empty if nothing is painted.

        Raises:
            InputError: if nothing is painted, and the model requires a mask.
        """
        for port in self.pipe.manifest.model.inputs:
            if painted is not None and painted[..., 3].any():
                return {port.name: painted[..., 3] >= HALF if port.name == "mask" else painted}
            if port.preparation == "fill":
                raise InputError("nothing is painted over: paint over all that the model should replace")
        return {}

    def _results(self, name: str, image: CompletedImage, result: ImageResult, temperature: float) -> Results:
        given, drawn = image.given, result.drawn
        assert isinstance(drawn, Samples)
        enlarged = enlarge_image(given.rgb, self.pipe.manifest.model.scale)
        alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *enlarged.shape[:2])
        folder = self._new_folder()
        write_image(folder / "enlarged.png", enlarged, alpha, metadata=given.metadata.colours())
        obstacle, samples = self._obstacle(temperature), []
        for k in range(len(result.pictures)):
            samples.append(self._judged(folder / f"{name}-{k + 1}.png", drawn, k, image.condition, obstacle))
            result.save(samples[k].path, k, metadata=False)
        maps = {kind: (picture, darkest, brightest) for kind, picture, darkest, brightest in result.maps()}
        return Results(
            enlarged=folder / "enlarged.png",
            samples=samples,
            likelihood=_with_range(*maps["likelihood"], "bits/dim"),
            uncertainty=_with_range(*maps["uncertainty"], "of 255") if "uncertainty" in maps else None,
        )

    def _judged(self, path: Path, drawn: Samples, k: int, condition: Image, obstacle: str) -> JudgedSample:
        """Return sample `k` with its figures. `obstacle` says why no sample can be judged."""
        typical, value = drawn.sample_typicality, None
        if typical is not None and not obstacle:
            if typical.is_judged[0, k]:
                value = float(typical.value[0, k])
            else:
                obstacle = reason(typical.of((0, k)))
        measured = self.pipe.consistency.psnr(drawn.images[0][k], condition) if can_be_inconsistent(self.pipe) else None
        return JudgedSample(path, float(drawn.bits_per_dim[0, k]), value, obstacle, measured)

    def _obstacle(self, temperature: float) -> str:
        """Return why no sample of this temperature can be judged; an empty text if the calibration knows them."""
        if self._calibration is None:
            return "this model is not calibrated"
        typicality_model = self.pipe.likelihoods.typicality_model(temperature)
        if typicality_model is None:
            return f"this model can judge samples only at these temperatures: {_known(self._calibration)}"
        return "this model was calibrated with too few photographs" if typicality_model.smallest >= ALPHA else ""

    def _new_folder(self) -> Path:
        return Path(mkdtemp(dir=self.folder))


def can_be_inconsistent(pipe: Pipeline) -> bool:
    """Return whether samples differ in consistency. Those of models that complete images keep all that is known."""
    return pipe.manifest.has_consistency and pipe.manifest.model.condition_channels == pipe.manifest.model.channels


def _known(calibration: Calibration) -> str:
    """Return the temperatures of a calibration, separated by commas."""
    return ", ".join(f"{one.temperature:g}" for one in calibration.samples)


def _with_range(picture: Image, darkest: float, brightest: float, unit: str) -> tuple[Image, str]:
    dark, bright = (round(value, 1) + 0.0 for value in (darkest, brightest))  # + 0.0 turns -0.0 into 0.0
    return picture, f"dark {dark:.1f}, bright {bright:.1f} {unit}"
