"""Sampler of the page: draws what it shows for an image, judged samples in files, and maps. Does not require Gradio."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any

from msgspec import structs
from numpy.typing import NDArray

from caflow_deploy.images.alpha import enlarge_alpha
from caflow_deploy.images.drawing import ImageRequest, draw_image
from caflow_deploy.images.image_estimate import ImageProperties, OutputRequest, estimate_image
from caflow_deploy.images.image_files import ImageFile, read_image, write_image
from caflow_deploy.images.image_headers import claimed_size
from caflow_deploy.images.image_result import UNUSUAL, ImageResult
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.masks import HALF
from caflow_deploy.images.model_choice import choose_model_of
from caflow_deploy.images.model_passes import OutputSpec
from caflow_deploy.images.result_pictures import with_rings
from caflow_deploy.page.judged_sample import judged
from caflow_deploy.page.page_records import Closed, Plan, Results, Settings
from caflow_runtime.batching.draw_options import DrawOptions, Temperature
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.bundle.builtin import DEFAULT_FOR_DEGRADED
from caflow_runtime.checks import shown
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.calibration import Calibration, read_calibration
from caflow_runtime.ood.consistency import enlarge_image
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Samples
from caflow_runtime.sizes import MAX_ENLARGEMENT

MAX_SAMPLES = 32
MAX_PAGE_PIXELS = 2**25
"""Largest number of pixels of all samples together. It bounds the memory, about 30 bytes per pixel, and the time that
other visitors wait."""
SUGGESTED = 5
"""Number of places where further hints of colour would help."""


class PageSampler:
    """Sampler of a tab of the page. It draws for one visitor at a time, until it is closed.

    Arguments:
        pipes: models of one task with equal scales. If there are several, they are those that `choose_model` knows.
        folder: folder that results are written to.
    """

    def __init__(self, pipes: Sequence[Pipeline], folder: Path) -> None:
        self.pipes = {pipe.folder.stem: pipe for pipe in pipes}
        self.folder = folder
        self._calibrations = {name: read_calibration(pipe.folder) for name, pipe in self.pipes.items()}
        self._drawing = Lock()
        self._visitor: object = None
        """Visitor for whom samples are drawn now."""
        self._is_cancelled = self._is_closed = False

    @property
    def pipe(self) -> Pipeline:
        """The first model, which is like the others in all that the page shows before it draws."""
        return next(iter(self.pipes.values()))

    @property
    def temperatures(self) -> list[float]:
        """Temperatures at which samples of any model can be judged, in ascending order."""
        return sorted({temperature for name in self.pipes for temperature in self._judged_temperatures(name)})

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

    @contextmanager
    def visit(self, visitor: object = None) -> Iterator[None]:
        """Draw for a visitor until the block ends. Other visitors wait meanwhile, and only this one can cancel.

        Raises:
            Closed: if the page is closed.
        """
        with self._drawing:
            self._visitor, self._is_cancelled = visitor, False
            self._check_going()
            try:
                yield
            finally:
                self._visitor = None

    def draw(self, source: Path, settings: Settings, show: ShowWindows, painted: Image | None = None) -> Results:
        """Draw samples of the image in a file. To be called within `visit`.

        Arguments:
            show: as in `Pipeline.sample`.
            painted: (H, W, 4) uint8 RGBA, what a visitor painted over the image, for models with a mask or hints.

        Raises:
            UnreadableImage: if the file is not a readable image.
            InputError: if the samples would have too many pixels, a setting is out of range, or the model requires a
                mask and nothing is painted.
            NotFinite: if any sample is not finite.
            Closed: if the page is closed, or the visitor cancels meanwhile.
            OSError: if the results cannot be written.
        """

        def show_if_going(done: int, count: int) -> None:
            self._check_going()
            show(done, count)

        self._check_going()
        given = self.read(source)
        plan = self.plan(given, settings)
        if painted is not None and painted.shape[:2] != given.rgb.shape[:2]:
            raise InputError(
                "the editor has lost the photograph, which Undo removes when nothing is painted: upload it again"
            )
        image = CompletedImage(plan.pipe, given, self._inputs(painted))
        result = draw_image(image, ImageRequest(plan.options, plan.form, keeps_all=True), show_if_going)
        return self._results(source.stem, image, result, plan)

    def plan(self, given: ImageFile, settings: Settings) -> Plan:
        """Return how an image is drawn.

        Raises:
            InputError: if the samples would have too many pixels, or a setting is out of range.
        """
        pipe, because = self._chosen(given, settings.model)
        options = self._options(pipe, settings)
        height, width = given.rgb.shape[:2]
        form = OutputSpec.of(settings.size, (height, width), pipe.manifest.model.scale, 8)
        if form.size.passes != 1:
            most = MAX_ENLARGEMENT * pipe.manifest.model.scale
            raise InputError(
                f"the size must be above {width}×{height}, the size of the image, and at most {most:g} times as "
                f"large; got {form.size.width}×{form.size.height}"
            )
        options = options.for_result(form.drawn)
        self._check_size(height, width, options.number)
        return Plan(pipe, because, options, form)

    def seconds(self, given: ImageFile, plan: Plan) -> float:
        """Return the estimated time of drawing an image. The first call takes a moment, for a trial of the model."""
        wanted = OutputRequest(
            plan.form, plan.options, keeps_all=True, has_pictures=True, is_scored=False, file_copies=0
        )
        need = estimate_image(plan.pipe, ImageProperties.of(given, plan.pipe.manifest.model), wanted)
        return need.trial.seconds(need.work)

    def places(self, image: Image, given: Image, painted: Image | None = None) -> Image | None:
        """Return an image with rings where hints of colour would help most. None if the model takes no hints.

        Arguments:
            image: (H, W, 3) uint8 RGB, on which the rings are drawn.
            given: the image whose hints they are, of the same size.
        """
        if not any(port.name == "hints" for port in self.pipe.manifest.model.inputs):
            return None
        return with_rings(image, suggest_hints(given, SUGGESTED, painted))

    def cancel(self, visitor: object) -> bool:
        """Stop drawing at the next tile, if it is for this visitor. Return whether it is."""
        is_drawing = self._visitor == visitor
        self._is_cancelled |= is_drawing
        return is_drawing

    def close(self) -> None:
        """Stop drawing at the next tile and wait for that, because Python must not exit while ONNX Runtime runs."""
        self._is_closed = True
        with self._drawing:
            pass

    def _check_going(self) -> None:
        if self._is_closed:
            raise Closed("the server is shutting down")
        if self._is_cancelled:
            raise Closed("cancelled")

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

    def _chosen(self, given: ImageFile, name: str | None) -> tuple[Pipeline, str]:
        """Return the model for an image, and why it was chosen; no reason if nothing was chosen.

        Raises:
            InputError: if there is no such model.
        """
        if len(self.pipes) == 1:
            return self.pipe, ""
        if name is None:
            choice = choose_model_of(given, self.pipes[DEFAULT_FOR_DEGRADED].degradation)
            return self.pipes[choice.model], choice.reason
        if name not in self.pipes:
            raise InputError(f"the model must be one of {', '.join(self.pipes)}; got {shown(name)}")
        return self.pipes[name], ""

    def _options(self, pipe: Pipeline, settings: Settings) -> DrawOptions:
        """Return how the samples of a model are drawn. At temperature 0 all samples are the same, so there is one.

        Raises:
            InputError: if a setting is out of range, or the model cannot judge what the rank requires.
        """
        n, temperature, rank, seed = settings[:4]
        options = DrawOptions(n, temperature, seed, rank=rank).for_model(pipe.manifest)
        calibration = self._calibrations[pipe.folder.stem]
        if (
            rank == "typical"
            and calibration is not None
            and pipe.likelihoods.typicality_model(options.temperature) is None
        ):
            raise InputError(
                f"the most usual sample can be chosen only at the temperatures {_known(calibration)}; choose one of "
                "them, or another Best sample"
            )
        return structs.replace(options, n=1) if options.temperature == 0 else options

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

    def _results(self, name: str, image: CompletedImage, result: ImageResult, plan: Plan) -> Results:
        given, drawn = image.given, result.drawn
        assert isinstance(drawn, Samples)
        enlarged = result.form.resampled(enlarge_image(given.rgb, image.pipe.manifest.model.scale))
        alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *enlarged.shape[:2])
        folder = self._new_folder()
        write_image(folder / "enlarged.png", enlarged, alpha, metadata=given.metadata.colours())
        obstacle, samples = self._obstacle(plan.pipe, plan.options.temperature), []
        if given.is_damaged:
            obstacle = "the file is damaged"
        for k in range(len(result.pictures)):
            path = folder / f"{name}-{enlarged.shape[1]}x{enlarged.shape[0]}-{k + 1}.png"
            samples.append(judged(path, drawn, k, image, obstacle))
            result.save(path, k)
        maps = {kind: (picture, darkest, brightest) for kind, picture, darkest, brightest in result.maps()}
        return Results(
            name=name,
            plan=plan,
            enlarged=folder / "enlarged.png",
            samples=samples,
            likelihood=_with_range(*maps["likelihood"], "bits/dim"),
            uncertainty=_with_range(*maps["uncertainty"], "of 255") if "uncertainty" in maps else None,
            places=self.places(result.pictures[0], given.rgb, image.inputs.get("hints")),
            warnings=result.warnings,
        )

    def _judged_temperatures(self, name: str) -> Iterator[float]:
        """Yield the temperatures at which samples of a model can be judged."""
        calibration = self._calibrations[name]
        for one in () if calibration is None else calibration.samples:
            if one.temperature is not None and not self._obstacle(self.pipes[name], one.temperature):
                yield one.temperature

    def _obstacle(self, pipe: Pipeline, temperature: Temperature | None) -> str:
        """Return why no sample of this temperature can be judged; an empty text if the calibration knows them."""
        calibration = self._calibrations[pipe.folder.stem]
        if calibration is None:
            return "this model cannot tell how usual its results are; look at the result"
        typicality_model = pipe.likelihoods.typicality_model(temperature)
        if typicality_model is None:
            return f"this model can judge samples only at these temperatures: {_known(calibration)}"
        return "this model was calibrated with too few photographs" if typicality_model.smallest >= UNUSUAL else ""

    def _new_folder(self) -> Path:
        return Path(mkdtemp(dir=self.folder))


def _known(calibration: Calibration) -> str:
    """Return the temperatures of a calibration, separated by commas."""
    return ", ".join(f"{one.temperature:g}" for one in calibration.samples)


def _with_range(picture: Image, darkest: float, brightest: float, unit: str) -> tuple[Image, str]:
    dark, bright = (round(value, 1) + 0.0 for value in (darkest, brightest))  # + 0.0 turns -0.0 into 0.0
    return picture, f"dark {dark:.1f}, bright {bright:.1f} {unit}"
