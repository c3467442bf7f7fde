"""What a program asks of one image: enlarge, inpaint, colorize, draw and score."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from caflow_deploy.images.any_image import AnyImage, as_image_file
from caflow_deploy.images.drawing import FileFormat, ImageRequest, draw_image
from caflow_deploy.images.file_search import SUFFIXES
from caflow_deploy.images.image_estimate import FILE_COPIES, ImageProperties, OutputRequest, estimate_image
from caflow_deploy.images.image_files import check_suffix
from caflow_deploy.images.image_result import ImageResult
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.model_choice import choose_model_of
from caflow_deploy.images.model_passes import Bits, OutputSpec
from caflow_deploy.images.open_models import RunOptions, opened
from caflow_runtime.batching.draw_options import DrawOptions, options_with
from caflow_runtime.bundle.builtin import DEFAULT, DEFAULT_FOR_DEGRADED
from caflow_runtime.checks import shown
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import check_pair
from caflow_runtime.option_fields import Options
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.named_inputs import check_takes
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Score
from caflow_runtime.sizes import Size

Model = str | PathLike[str] | Pipeline
"""Name of a built-in model, folder of a bundle, or an open pipeline."""


class OutputOptions(Options, frozen=True):
    """What a result consists of."""

    bits: Bits | None = None
    """Bits per channel, 8 or 16. None: 16 if the image has more than 8. A format with 8 bits gets 8 in any case."""
    keep_all: bool = False
    """Whether to keep all samples, which sheets, maps of uncertainty and `ImageResult.samples` show."""
    judge_as: str = ".png"
    """With `DrawOptions.judge` image: suffix of the file format as which the image is judged, such as ".jpg"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judge_as not in SUFFIXES:
            raise InputError(f"judge_as must be one of {', '.join(sorted(SUFFIXES))}; got {shown(self.judge_as)}")


def enlarge(
    image: AnyImage,
    *,
    model: Model | None = None,
    size: Size | None = None,
    options: DrawOptions = DrawOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
) -> ImageResult:
    """Enlarge an image, with its alpha, its bits and its metadata.

    Arguments:
        image: the image: a path, the bytes of a file, an open file, a PIL image, or an array of uint8 or uint16, (H, W)
            grey, (H, W, 3) RGB or (H, W, 4) RGBA.
        model: a model that enlarges. None chooses x4-photo, or x4-real for a damaged image, as `caflow image` does.
        size: size of the result; None is the size that the model makes, for these models four times width and height.
        options: how samples are drawn, and which is the best.
        output: what the result consists of.
        run: where the model runs, and what is known of the image.

    Raises:
        InputError: if an argument is not valid, or does not fit the model.
        UnreadableImage: if the image cannot be read.
        TooLittleMemory: if the result needs more memory than there is.
        NotFinite: if no sample is finite.
        Untypical: if all samples are rejected, and `options.otherwise` is "drop".
        BundleError, BackendError: if the model cannot be opened or run.
    """
    given = as_image_file(image, run.max_pixels)
    choice = None
    if model is None:
        with opened(DEFAULT_FOR_DEGRADED, run) as estimator:
            choice = choose_model_of(given, estimator.degradation)
        model = choice.model
    with opened(model, run) as pipe:
        if pipe.manifest.model.scale == 1:
            raise InputError(
                f"the model {pipe.folder.stem} does not enlarge, its task is {pipe.manifest.model.task!r}: use "
                "inpaint, colorize or draw"
            )
        result = _drawn(CompletedImage(pipe, given, {}), options, output, run, size)
    return replace(result, choice=choice)


def inpaint(
    image: AnyImage,
    mask: AnyImage,
    *,
    model: Model = "inpaint-photo",
    options: DrawOptions = DrawOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
) -> ImageResult:
    """Fill what a mask marks. All other pixels stay as they are.

    Arguments:
        image: the image, as in `enlarge`.
        mask: as large as the image: white, painted on a layer, or erased where something is to go
            (`RunOptions.mask_marks`); or (H, W) bool, True there.
        model: name or folder of a model that does this, or an open pipeline.
        options: as in `enlarge`.
        output: as in `enlarge`.
        run: as in `enlarge`.

    Raises:
        InputError, UnreadableImage: as from `enlarge`, also for the mask.
    """
    return draw(image, model=model, inputs={"mask": mask}, options=options, output=output, run=run)


def colorize(
    image: AnyImage,
    hints: AnyImage | Sequence[Point] = (),
    *,
    model: Model = "colour-hints",
    options: DrawOptions = DrawOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
) -> ImageResult:
    """Colour a grey image.

    Arguments:
        image: the image, as in `enlarge`; only its luma counts.
        hints: colours at some places: points, or a picture as large as the image, opaque where there is a hint and
            transparent elsewhere.
        model: name or folder of a model that does this, or an open pipeline.
        options: as in `enlarge`.
        output: as in `enlarge`.
        run: as in `enlarge`.

    Raises:
        InputError, UnreadableImage: as from `enlarge`, also for the hints.
    """
    given = as_image_file(image, run.max_pixels)
    inputs: dict[str, AnyImage] = {}
    if not isinstance(hints, Sequence) or isinstance(hints, str | bytes):
        inputs["hints"] = hints
    elif hints:
        inputs["hints"] = draw_hints(given.rgb.shape[0], given.rgb.shape[1], hints)
    with opened(model, run) as pipe:
        if not pipe.manifest.model.task.startswith("color"):
            raise InputError(
                f"the model {pipe.folder.stem} does not colour, its task is {pipe.manifest.model.task!r}: use enlarge, "
                "inpaint or draw"
            )
    return draw(given, model=model, inputs=inputs, options=options, output=output, run=run)


def draw(
    image: AnyImage,
    *,
    model: Model,
    inputs: Mapping[str, AnyImage] = {},
    options: DrawOptions = DrawOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
) -> ImageResult:
    """Draw what a model of any task makes of an image, such as a photograph of a sketch.

    Arguments:
        image: the image, as in `enlarge`.
        inputs: the model's other inputs by name, such as "mask", as its manifest lists them.
        model: name or folder of a model that does this, or an open pipeline.
        options: as in `enlarge`.
        output: as in `enlarge`.
        run: as in `enlarge`.

    Raises:
        InputError, UnreadableImage: as from `enlarge`, also if the model has no input of a name.
    """
    given = as_image_file(image, run.max_pixels)
    with opened(model, run) as pipe:
        ports = pipe.manifest.model.inputs
        for name in inputs:
            check_takes(pipe.manifest.model, name)
        if missing := [port.name for port in ports if port.preparation == "fill" and port.name not in inputs]:
            raise InputError(f"the model {pipe.folder.stem} fills what a mask marks: also give the {missing[0]}")
        return _drawn(CompletedImage.read(pipe, given, inputs, run.mask_marks), options, output, run)


def score(
    image: AnyImage,
    condition: AnyImage,
    *,
    model: Model = DEFAULT,
    inputs: Mapping[str, AnyImage] = {},
    run: RunOptions = RunOptions(),
) -> Score:
    """Return how likely an existing image is, given its condition, and how usual among true images.

    Both count with 8 bits and without transparency. All arrays of the result have one row.

    Arguments:
        image: the image that is scored, such as a photograph.
        condition: what a model would have made it from, such as the photograph in a quarter of its size.
        model: as in `draw`.
        inputs: as in `draw`.
        run: as in `draw`.

    Raises:
        InputError, UnreadableImage: as from `draw`, also if the sizes of the images do not fit together.
    """
    target, given = as_image_file(image, run.max_pixels), as_image_file(condition, run.max_pixels, "condition")
    with opened(model, run) as pipe:
        for name in inputs:
            check_takes(pipe.manifest.model, name)
        check_pair("image", target.rgb, given.rgb, pipe.manifest.model.scale)
        completed = CompletedImage.read(pipe, given, inputs, run.mask_marks)
        return pipe.score(pipe.target_of(target.rgb), completed.condition)


def _drawn(
    image: CompletedImage, options: DrawOptions, output: OutputOptions, run: RunOptions, size: Size | None = None
) -> ImageResult:
    """Draw an image, if the options fit it and there is enough memory for it."""
    if size is not None and not isinstance(size, Size):
        raise InputError(f"size must be a Size, such as Size(width=1600); got {shown(size)}")
    pipe, given, options = image.pipe, image.given, options_with(options, {}).for_model(image.pipe.manifest)
    if output.keep_all and options.rejects:
        raise InputError("keep_all keeps rejected samples, too: give either keep_all or min_typicality")
    height, width = given.rgb.shape[:2]
    bits: Bits = output.bits or (16 if given.bits > 8 else 8)
    form = OutputSpec.of(size, (height, width), pipe.manifest.model.scale, bits)
    options = options.for_result(form.drawn, output.keep_all)
    judged = None
    if options.judge == "image":
        check_suffix(Path(f"image{output.judge_as}"), given.alpha is not None)
        if not form.is_own:
            raise InputError("judge = 'image' requires a result of the model's own size: omit either judge or the size")
        judged = FileFormat(output.judge_as)
    keeps_all = output.keep_all and options.number > 1
    work = OutputRequest(form, options, keeps_all, keeps_all, judged is not None, FILE_COPIES)
    estimate_image(pipe, ImageProperties.of(given, pipe.manifest.model), work).check_memory()
    try:
        return draw_image(image, ImageRequest(options, form, output.keep_all, run.assume, judged))
    except Untypical as error:
        raise Untypical(error.why, error.choice) from None  # without the number of the only image
