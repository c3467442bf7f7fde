"""Options that several commands share, and opening the pipeline that they describe."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from caflow_deploy.commands.terminal import ending_on_errors
from caflow_runtime.backends import MOST_THREADS
from caflow_runtime.backends.select import BACKENDS, PROVIDER_PREFIX
from caflow_runtime.bundle.builtin import DEFAULT, matching
from caflow_runtime.errors import InputError
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.image_formats import MAX_PIXELS
from caflow_runtime.pipeline.drawing import check_calibrated
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.stream import FrameNoise, StreamSettings, Untypical
from caflow_runtime.rows.draw import Draw, Judge, Otherwise, Rank, Reject
from caflow_runtime.sizes import Size


class NumberRange(click.FloatRange):
    """Range of numbers that excludes NaN. Click's own range accepts NaN, because no comparison rejects it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number in a text, or end the command with an error."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


Command = TypeVar("Command", bound=Callable[..., Any])

MOST_SAMPLES = 10_000
MOST_PIXELS = 2**30
"""Largest value of --max-pixels: OpenCV does not read larger images."""


class BackendType(click.types.StringParamType):
    """Name of a backend."""

    name = "backend"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or end the command if there is no such backend. ONNX Runtime checks execution providers."""
        if value not in BACKENDS and not str(value).startswith(PROVIDER_PREFIX):
            self.fail(f"{value!r} is not one of {', '.join(BACKENDS)} and {PROVIDER_PREFIX}PROVIDER.", param, ctx)
        return super().convert(value, param, ctx)


BACKEND_METAVAR = f"[{'|'.join(BACKENDS)}|{PROVIDER_PREFIX}PROVIDER]"
threads_option = click.option(
    "--threads",
    type=click.IntRange(0, MOST_THREADS),
    default=0,
    show_default="one per core",
    help="Number of CPU threads.",
)


backend_option = click.option(
    "--backend",
    type=BackendType(),
    metavar=BACKEND_METAVAR,
    default="auto",
    show_default=True,
    help="Software that runs the model. cpu and cuda: ONNX Runtime on the CPU or on an NVIDIA GPU. auto: cuda if it "
    "works here, otherwise cpu. openvino: OpenVINO on the CPU. tensorrt: the TensorRT engines in the bundle. "
    "ort:PROVIDER: another execution provider of ONNX Runtime, such as ort:dml; its results are compared with the "
    "CPU's first, and must agree.",
)
redraws_option = click.option(
    "--redraws",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Maximum number of samples to draw in place of rejected ones, for each image.",
)
consistent_option = click.option(
    "--consistent",
    is_flag=True,
    help="Super-resolution only: change each result so that it matches the input when it is down-sampled.",
)
alpha_option = click.option(
    "--alpha",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Reject pairs whose typicality is below this threshold α. About a fraction α of good pairs is rejected by "
    "mistake.",
)
judge_option = click.option(
    "--judge",
    type=click.Choice(["sample", "image"]),
    help="Typicality that --min-typicality checks. sample: that of the sample as drawn, among samples of the same "
    "temperature; it needs no extra time. image: that of the image as written, among true images, as caflow filter "
    "computes it; each sample that is checked has to be scored.  [default: sample]",
)
accepted_option = click.option(
    "--accepted",
    type=click.Choice(["list", "list0", "copy", "link"]),
    default="list",
    show_default=True,
    help="Form of the list of accepted targets. list: their paths in DIR/accepted.txt, one per line. list0: their "
    "paths in DIR/accepted.list0, each followed by a zero byte, for xargs -0. copy, link: copies of the files, or "
    "symbolic links to them, in DIR/accepted.",
)
parquet_option = click.option("--parquet", is_flag=True, help="Also write the verdicts to DIR/scores.parquet.")


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, MOST_PIXELS),
    default=MAX_PIXELS,
    show_default="268435456: 268 megapixels",
    help="Reject image files with more pixels than this, before they are decoded. Reading a file takes 6 to 40 bytes "
    "of memory per pixel.",
)


def running_options(command: Command) -> Command:
    """Add the options that say where and how a bundle runs."""
    return backend_option(threads_option(tiling_options(command)))


def tiling_options(command: Command) -> Command:
    """Add the options that say how large images are cut into tiles."""
    for option in (
        click.option(
            "--overlap",
            type=click.IntRange(0),
            help="Overlap of neighbouring tiles, in result pixels.  [default: 64]",
        ),
        click.option(
            "--pixel-budget",
            type=click.IntRange(1),
            help="Maximum number of result pixels to compute at once. It bounds the memory; larger images are cut into "
            "tiles.  [default: 1048576]",
        ),
    ):
        command = option(command)
    return command


def drawing_options(command: Command) -> Command:
    """Add the options that say how samples are drawn, and which of them is the best."""
    for option in (
        click.option(
            "--rank",
            type=click.Choice(["likelihood", "consistency", "typical"]),
            default="likelihood",
            show_default=True,
            help="Criterion for the best sample. likelihood: the most likely one. consistency: the one that is closest "
            "to the input after it is degraded again. typical: the one whose likelihood is closest to the typical "
            "value.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="Seed of the random numbers. The same seed gives the same samples again.",
        ),
        click.option(
            "--temperature",
            type=NumberRange(0),
            default=0.8,
            show_default=True,
            help="Spread of the samples: 0 gives one smooth result, 1 is the distribution that the model learned.",
        ),
    ):
        command = option(command)
    return command


def rejecting_options(command: Command) -> Command:
    """Add the options that say which results are untypical, and how they are handled."""
    for option in (
        click.option(
            "--untypical",
            type=click.Choice(["mark", "drop", "bicubic"]),
            help="What to do with an image whose samples are all rejected, or with a rejected video frame. mark: write "
            "it, and report that it is untypical. drop: do not write it. bicubic: write the bicubically enlarged input "
            "instead.  [default: mark]",
        ),
        click.option(
            "--min-typicality",
            type=NumberRange(0, 1, min_open=True, max_open=True),
            metavar="α",
            help="Reject samples and video frames whose typicality is below α. About a fraction α of good ones is "
            "rejected by mistake; 0.01 is a common choice.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class DrawingOptions:
    """Values of the options about drawing. A field whose option the command does not have keeps its default."""

    samples: int
    temperature: float
    seed: int
    rank: Rank
    min_typicality: float | None
    untypical: Untypical | None
    consistent: bool = False
    keep: Sequence[int] | None = None
    redraws: int = 0
    judge: Judge | None = None

    def __post_init__(self) -> None:
        for name, what in (
            ("untypical", "handles the results that are rejected by"),
            ("judge", "chooses the typicality that is checked by"),
        ):
            if getattr(self, name) and self.min_typicality is None:
                raise click.UsageError(f"--{name} {what} --min-typicality; also give --min-typicality")

    def draw(self, pipe: Pipeline) -> Draw:
        """Return the settings for drawing images.

        Raises:
            InputError: if the model or its calibration does not support these settings.
        """
        reject = None
        if self.min_typicality:
            otherwise: dict[str, Otherwise] = {"drop": "error", "bicubic": "bicubic"}
            fallback = otherwise.get(self.untypical or "", "best")
            reject = Reject(self.min_typicality, self.redraws, fallback, self.judge or "sample")
        keep = None if self.keep is None else tuple(self.keep)
        draw = Draw(self.samples, self.temperature, self.seed, 0, self.rank, keep, self.consistent, reject)
        draw.check_fits(pipe.manifest.model)
        if draw.needs_calibration:
            check_calibrated(pipe.calibration, draw)
        return draw

    def stream(self, noise: FrameNoise, batch: int, size: Size | None) -> StreamSettings:
        """Return the settings for drawing the frames of a video.

        Arguments:
            noise: how the noise changes between the frames of a scene.
            batch: number of frames that are computed together.
            size: size of the results; None is the model's own.

        Raises:
            InputError: if a setting is out of range.
        """
        draw = Draw(self.samples, self.temperature, self.seed, rank=self.rank)
        return StreamSettings(draw, noise, batch, self.min_typicality or 0.0, self.untypical or "mark", size)


def gathered(kind: type, name: str) -> Callable[[Command], Command]:
    """Return a decorator that passes a group of options to a command as one object.

    Arguments:
        kind: a dataclass. Options with the names of its fields become one object of this class.
        name: parameter of the command that receives the object.
    """
    names = {field.name for field in fields(kind)}

    def gather(command: Command) -> Command:
        @wraps(command)
        def gathering(*args: Any, **given: Any) -> Any:
            own = {option: given.pop(option) for option in names & given.keys()}
            return command(*args, **given, **{name: kind(**own)})

        return cast(Command, gathering)

    return gather


def samples_option(text: str) -> Callable[[Command], Command]:
    """Return the decorator that adds --samples, with `text` as its help text."""
    return click.option(
        "-n", "--samples", type=click.IntRange(1, MOST_SAMPLES), default=10, show_default=True, help=text
    )


class BundlePath(click.Path):
    """Folder of a bundle, or name of a built-in model. Shells complete both."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the models and bundles that begin with the incomplete text. If there are none, complete folders."""
        found = [CompletionItem(name) for name in matching(incomplete)]
        return found or [CompletionItem(incomplete, type="dir")]


def bundle_option(command: Command) -> Command:
    """Add the bundle as an option, for commands whose arguments are images or videos."""
    text = "Model to use: a folder that caflow-export wrote, or the name of a built-in model."
    return click.option("--bundle", type=BundlePath(), default=DEFAULT, show_default=True, help=text)(command)


def bundle_argument(command: Command) -> Command:
    """Add the bundle as an argument, for commands about bundles."""
    return click.argument("bundle", type=BundlePath(), default=DEFAULT)(command)


def json_option(command: Command) -> Command:
    """Add the option for output that programs read."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def metrics_option(command: Command) -> Command:
    """Add the option for the metrics of a running command."""
    text = "Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics while the command runs."
    return click.option("--metrics", "metrics_port", metavar="PORT", type=click.IntRange(1, 65535), help=text)(command)


def open_metrics(
    stack: ExitStack, port: int | None, pipe: Pipeline, temperature: float | None, measures_drift: bool = True
) -> Metrics | None:
    """Serve the metrics of `--metrics` until the stack closes. None without the option; an error ends the command.

    Arguments:
        port: the value of `--metrics`.
        temperature: temperature of the samples; None if true images are scored.
        measures_drift: whether drift is measured. It is meaningful only if the observed likelihoods are computed as
            during calibration, which is not so in progressive best-of-N.
    """
    if port is None:
        return None
    with ending_on_errors():
        reference = None
        if measures_drift:
            with suppress(InputError):  # no calibration, or none for this temperature
                reference = pipe.calibration.reference(temperature)
        metrics = stack.enter_context(Metrics(pipe, reference))
        metrics.serve(port)
        return metrics


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> list[int] | None:
    """Parse an option whose value is a list of positive integers, separated by commas."""
    try:
        found = None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if found is not None and (not found or min(found) < 1):
        raise click.BadParameter(
            f"must be positive integers separated by commas, such as 10,5,3; got {text!r}", context, parameter
        )
    return found


def open_pipeline(
    bundle: Path,
    backend: str,
    threads: int,
    pixel_budget: int | None = None,
    overlap: int | None = None,
    is_calibrated: bool = True,
) -> Pipeline:
    """Open the pipeline of a bundle. An error ends the command."""
    with ending_on_errors():
        given = {"pixel_budget": pixel_budget, "overlap": overlap}
        settings = {name: value for name, value in given.items() if value is not None}
        return load(bundle, backend, threads, is_calibrated=is_calibrated, **settings)


def noise_kind(context: click.Context, parameter: click.Parameter, text: str) -> FrameNoise:
    """Parse the value of --noise."""
    if text in ("fixed", "fresh"):
        return text  # type: ignore[return-value]
    name, _, number = text.partition(":")
    try:
        persistence = float(number) if name == "ar1" else 0.0
    except ValueError:
        persistence = 0.0
    if not 0 < persistence < 1:
        raise click.BadParameter(f"must be fixed, fresh, or ar1:ρ with 0 < ρ < 1; got {text!r}", context, parameter)
    return persistence


def noise_option(command: Command) -> Command:
    """Add the option about the noise of video frames."""
    return click.option(
        "--noise",
        callback=noise_kind,
        metavar="fixed|fresh|ar1:ρ",
        default="fixed",
        show_default=True,
        help="Noise in the frames of a scene. fixed: all frames have the same noise, so that static content does not "
        "flicker. fresh: each frame has new noise. ar1:ρ: the noise drifts; ρ, between 0 and 1, is the correlation of "
        "one frame's noise with that of the next frame.",
    )(command)
