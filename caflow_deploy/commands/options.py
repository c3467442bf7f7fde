"""Options that commands share, and the pipeline that they describe."""

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
    """A range of numbers. Click's own accepts NaN, which no comparison rejects."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of a text; ends the command where there is none."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


Command = TypeVar("Command", bound=Callable[..., Any])

MOST_SAMPLES = 10_000
MOST_PIXELS = 2**30
"""Of an image file: OpenCV reads no larger ones."""


class BackendType(click.types.StringParamType):
    """A backend's name."""

    name = "backend"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name; ends the command where there is no such backend. Execution providers are ONNX Runtime's to know."""
        if value not in BACKENDS and not str(value).startswith(PROVIDER_PREFIX):
            self.fail(f"{value!r} is not one of {', '.join(BACKENDS)} and {PROVIDER_PREFIX}PROVIDER.", param, ctx)
        return super().convert(value, param, ctx)


BACKEND_METAVAR = f"[{'|'.join(BACKENDS)}|{PROVIDER_PREFIX}PROVIDER]"
threads_option = click.option(
    "--threads", type=click.IntRange(0, MOST_THREADS), default=0, show_default="one per core", help="On the CPU."
)


backend_option = click.option(
    "--backend",
    type=BackendType(),
    metavar=BACKEND_METAVAR,
    default="auto",
    show_default=True,
    help="What runs it: ONNX Runtime on the CPU or an NVIDIA GPU, OpenVINO on the CPU, the bundle's TensorRT engines, "
    "or an execution provider of ONNX Runtime by its name, such as ort:dml, if it agrees with the CPU.",
)
redraws_option = click.option(
    "--redraws",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Samples, at most, that are drawn in place of untypical ones.",
)
consistent_option = click.option(
    "--consistent", is_flag=True, help="Super-resolution: change results to down-sample to the input."
)
alpha_option = click.option(
    "--alpha",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Pairs of less typicality are rejected: this share of pairs like those of calibration.",
)
judge_option = click.option(
    "--judge",
    type=click.Choice(["sample", "image"]),
    help="What --min-typicality is about: the sample as it was drawn, among samples of its temperature, which costs "
    "nothing; or the image as it is written, among true images, as caflow filter judges it.  [default: sample]",
)
accepted_option = click.option(
    "--accepted",
    type=click.Choice(["list", "list0", "copy", "link"]),
    default="list",
    show_default=True,
    help="Accepted targets: list writes their paths to DIR/accepted.txt, one per line; list0 to DIR/accepted.list0, "
    "each followed by a zero byte, for xargs -0; copy and link put copies or links into DIR/accepted.",
)
parquet_option = click.option("--parquet", is_flag=True, help="Write DIR/scores.parquet too.")


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, MOST_PIXELS),
    default=MAX_PIXELS,
    show_default="268435456: 268 megapixels",
    help="Refuse larger image files before they are decoded. Reading takes 6 to 40 bytes of memory per pixel.",
)


def running_options(command: Command) -> Command:
    """Where and how a bundle runs."""
    return backend_option(threads_option(tiling_options(command)))


def tiling_options(command: Command) -> Command:
    """How large images are cut."""
    for option in (
        click.option("--overlap", type=click.IntRange(0), help="Of tiles, in pixels of the result."),
        click.option("--pixel-budget", type=click.IntRange(1), help="Pixels in one run: bounds memory."),
    ):
        command = option(command)
    return command


def drawing_options(command: Command) -> Command:
    """What samples are drawn, and which is the best."""
    for option in (
        click.option(
            "--rank",
            type=click.Choice(["likelihood", "consistency", "typical"]),
            default="likelihood",
            show_default=True,
            help="The best is the most likely; the one that, degraded again, is closest to the input; or the one whose "
            "likelihood is closest to what is typical.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
        click.option(
            "--temperature", type=NumberRange(0), default=0.8, show_default=True, help="Spread of the samples."
        ),
    ):
        command = option(command)
    return command


def rejecting_options(command: Command) -> Command:
    """Which results are untypical, and what is done about them."""
    for option in (
        click.option(
            "--untypical",
            type=click.Choice(["mark", "drop", "bicubic"]),
            help="Such results are said to be, not written, or replaced by the input, enlarged.  [default: mark]",
        ),
        click.option(
            "--min-typicality",
            type=NumberRange(0, 1, min_open=True, max_open=True),
            metavar="α",
            help="Results of less are untypical: a share α of those like calibration's. 0.01 is usual.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class DrawingOptions:
    """What a command was told of drawing; a command that lacks an option has its default."""

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
            ("untypical", "says what is done below"),
            ("judge", "says which typicality is compared with"),
        ):
            if getattr(self, name) and self.min_typicality is None:
                raise click.UsageError(f"--{name} {what} --min-typicality: give that too")

    def draw(self, pipe: Pipeline) -> Draw:
        """Of an image.

        Raises:
            InputError: if the model cannot be drawn from so.
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
        """Of a video, with results of that size.

        Raises:
            InputError
        """
        draw = Draw(self.samples, self.temperature, self.seed, rank=self.rank)
        return StreamSettings(draw, noise, batch, self.min_typicality or 0.0, self.untypical or "mark", size)


def gathered(kind: type, name: str) -> Callable[[Command], Command]:
    """A command is given its options that are fields of a class as one object of it, by that name."""
    names = {field.name for field in fields(kind)}

    def gather(command: Command) -> Command:
        @wraps(command)
        def gathering(*args: Any, **given: Any) -> Any:
            own = {option: given.pop(option) for option in names & given.keys()}
            return command(*args, **given, **{name: kind(**own)})

        return cast(Command, gathering)

    return gather


def samples_option(text: str) -> Callable[[Command], Command]:
    """How many samples are drawn; `text` says of what."""
    return click.option(
        "-n", "--samples", type=click.IntRange(1, MOST_SAMPLES), default=10, show_default=True, help=text
    )


class BundlePath(click.Path):
    """The folder of a bundle, or the name of a built-in model; shells complete both."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Models and bundles that begin so; where there are none, folders, in which they may be."""
        found = [CompletionItem(name) for name in matching(incomplete)]
        return found or [CompletionItem(incomplete, type="dir")]


def bundle_option(command: Command) -> Command:
    """The bundle of a command about images."""
    text = "A folder that caflow-export wrote, or the name of a built-in model."
    return click.option("--bundle", type=BundlePath(), default=DEFAULT, show_default=True, help=text)(command)


def bundle_argument(command: Command) -> Command:
    """The bundle of a command about bundles."""
    return click.argument("bundle", type=BundlePath(), default=DEFAULT)(command)


def json_option(command: Command) -> Command:
    """Output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")(command)


def metrics_option(command: Command) -> Command:
    """Numbers of a running command."""
    text = "Prometheus endpoint on this port of 127.0.0.1 while the command runs."
    return click.option("--metrics", "metrics_port", metavar="PORT", type=click.IntRange(1, 65535), help=text)(command)


def open_metrics(
    stack: ExitStack, port: int | None, pipe: Pipeline, temperature: float | None, measures_drift: bool = True
) -> Metrics | None:
    """Those of `--metrics`, served until the stack closes; ends the command where they cannot be.

    Arguments:
        temperature: of the samples that are drawn; None where true images are scored.
        measures_drift: where what is observed is as at calibration; not in progressive best-of-N.
    """
    if port is None:
        return None
    with ending_on_errors():
        reference = None
        if measures_drift:
            with suppress(InputError):  # not calibrated, or not for that temperature
                reference = pipe.calibration.reference(temperature)
        metrics = stack.enter_context(Metrics(pipe, reference))
        metrics.serve(port)
        return metrics


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> list[int] | None:
    """The callback of an option that takes positive numbers, separated by commas."""
    try:
        found = None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if found is not None and (not found or min(found) < 1):
        raise click.BadParameter(f"wanted positive numbers such as 10,5,3, got {text!r}", context, parameter)
    return found


def open_pipeline(
    bundle: Path,
    backend: str,
    threads: int,
    pixel_budget: int | None = None,
    overlap: int | None = None,
    is_calibrated: bool = True,
) -> Pipeline:
    """The pipeline of a bundle; ends the command where it cannot be opened."""
    with ending_on_errors():
        given = {"pixel_budget": pixel_budget, "overlap": overlap}
        settings = {name: value for name, value in given.items() if value is not None}
        return load(bundle, backend, threads, is_calibrated=is_calibrated, **settings)


def noise_kind(context: click.Context, parameter: click.Parameter, text: str) -> FrameNoise:
    """The callback of --noise."""
    if text in ("fixed", "fresh"):
        return text  # type: ignore[return-value]
    name, _, number = text.partition(":")
    try:
        persistence = float(number) if name == "ar1" else 0.0
    except ValueError:
        persistence = 0.0
    if not 0 < persistence < 1:
        raise click.BadParameter(f"wanted fixed, fresh, or ar1:ρ with 0 < ρ < 1, got {text!r}", context, parameter)
    return persistence


def noise_option(command: Command) -> Command:
    """Of a video."""
    return click.option(
        "--noise",
        callback=noise_kind,
        metavar="fixed|fresh|ar1:ρ",
        default="fixed",
        show_default=True,
        help="Over the frames of a scene: the same, new for each, or drifting.",
    )(command)
