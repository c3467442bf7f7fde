"""Options that say how samples are drawn, which is the best, which are rejected, and how the input was degraded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import click

from caflow_deploy.commands.option_values import Command, NumberRange, options
from caflow_runtime.batching.draw_options import DrawOptions, Judge, Otherwise, Rank, Reject
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import check_calibrated
from caflow_runtime.pipeline.stream import FrameNoise, StreamSettings
from caflow_runtime.sizes import Size

MAX_SAMPLES = 10_000
CALIBRATED = "requires a bundle that caflow calibrate has calibrated for this --temperature, as the built-in models are"
OF_BUNDLE = "what the bundle names as best; for the built-in models "
REDRAWS = 20
"""Default of --redraws."""

redraws_option = click.option(
    "--redraws",
    type=click.IntRange(0),
    help="With --min-typicality: maximum number of samples to draw in place of rejected ones, for each image; 0 draws "
    f"none.  [default: {REDRAWS}]",
)
consistent_option = click.option(
    "--consistent",
    is_flag=True,
    help="For models that enlarge: change each result so that it matches the input when it is down-sampled.",
)
judge_option = click.option(
    "--judge",
    type=click.Choice(["sample", "image"]),
    default="sample",
    show_default=True,
    help="Typicality that is reported and that --min-typicality checks. sample: how usual the sample is, as drawn, "
    "among samples of the same temperature; this takes no extra time. image: how usual the image is, as written, among "
    "true images, as caflow filter computes it; each checked sample is scored again, which takes time.",
)
degradation_options = options(
    click.option(
        "--input-blur",
        type=NumberRange(0, 10),
        metavar="σ",
        help="For models that are told how their input was degraded: how blurred IN is, as the standard deviation of "
        "the blur in pixels of the result; 0 is sharp.  [default: what the model estimates]",
    ),
    click.option(
        "--input-noise",
        type=NumberRange(0, 50),
        metavar="σ",
        help="For the same models: how noisy IN is, as the standard deviation of its noise in grey levels from 0 to "
        "255.  [default: what the model estimates]",
    ),
    click.option(
        "--input-jpeg",
        type=click.IntRange(1, 100),
        metavar="QUALITY",
        help="For the same models: quality of the JPEG file that IN was made from, 1 to 100.  [default: that of the "
        "file if it is a JPEG, else what the model estimates]",
    ),
)
"""Options that say how the input was degraded."""


def samples_option(text: str) -> Callable[[Command], Command]:
    """Return the decorator that adds -n, with `text` as its help text."""
    return click.option("-n", type=click.IntRange(1, MAX_SAMPLES), default=10, show_default=True, help=text)


sampling_options = options(
    click.option(
        "--temperature",
        type=NumberRange(0),
        help="Spread of the samples. 0: all samples are the same smooth result. 1: the distribution that the model "
        "learned. The larger the value, the more the samples differ from each other.  "
        f"[default: {OF_BUNDLE}0.8 for x4-photo, 0.5 for x4-real, 0 for x2-video]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
        show_default=True,
        help="Seed of the random numbers. The same seed gives the same samples again.",
    ),
    click.option(
        "--rank",
        type=click.Choice(get_args(Rank)),
        help="Criterion for the best sample. likelihood: the most likely sample. consistency: the sample that is "
        "closest to the input after it is degraded again. typical: the sample whose likelihood is closest to the "
        f"typical value; {CALIBRATED}.  [default: {OF_BUNDLE}likelihood]",
    ),
)
"""Options that say how samples are drawn, and which of them is the best."""


rejecting_options = options(
    click.option(
        "--min-typicality",
        type=NumberRange(0, 1, min_open=True, max_open=True),
        metavar="α",
        help="Reject samples and video frames whose typicality is below α, a number between 0 and 1. About a "
        f"fraction α of good ones is rejected by mistake; 0.01 is a common choice. This {CALIBRATED}.",
    ),
    click.option(
        "--otherwise",
        type=click.Choice(get_args(Otherwise)),
        help="With --min-typicality: what to do with an image whose samples are all rejected, or with a rejected "
        "video frame. keep: write the best rejected sample or the frame, and report that it is untypical. drop: do "
        "not write it. bicubic: write the bicubically enlarged input instead.  [default: keep]",
    ),
)
"""Options that say which results are untypical, and how they are handled."""


@dataclass(frozen=True)
class SamplingOptions:
    """Values of the options about drawing. A field whose option the command does not have keeps its default."""

    n: int
    temperature: float | None
    seed: int
    rank: Rank | None
    min_typicality: float | None
    otherwise: Otherwise | None
    consistent: bool = False
    redraws: int | None = 0
    """None is the default of --redraws. Commands without that option draw no further samples."""
    judge: Judge = "sample"

    def __post_init__(self) -> None:
        if self.otherwise and self.min_typicality is None:
            raise click.UsageError(
                "--otherwise handles the results that are rejected by --min-typicality; also give --min-typicality"
            )

    def draw(self, pipe: Pipeline) -> DrawOptions:
        """Return the settings for drawing images.

        Raises:
            InputError: if the model or its calibration does not support these settings.
        """
        reject = None
        if self.min_typicality:
            redraws = REDRAWS if self.redraws is None else self.redraws
            reject = Reject(self.min_typicality, redraws, self.otherwise or "keep", self.judge)
        config = replace(self._options(), consistent=self.consistent, reject=reject).for_model(pipe.manifest)
        if config.needs_calibration:
            check_calibrated(pipe.calibration, config)
        return config

    def stream(self, pipe: Pipeline, noise: FrameNoise, batch: int, size: Size | None) -> StreamSettings:
        """Return the settings for drawing the frames of a video.

        Arguments:
            noise: how the noise changes between the frames of a scene.
            batch: number of frames that are computed together.
            size: size of the results; None is the model's own.

        Raises:
            InputError: if a setting is out of range, or the model does not support it.
        """
        options = self._options().for_model(pipe.manifest)
        return StreamSettings(
            options,
            noise,
            batch,
            self.min_typicality or 0.0,
            self.otherwise or "keep",
            size,
        )

    def _options(self) -> DrawOptions:
        return DrawOptions(self.n, self.temperature, self.seed, rank=self.rank)


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


noise_option = click.option(
    "--noise",
    callback=noise_kind,
    metavar="fixed|fresh|ar1:ρ",
    default="fixed",
    show_default=True,
    help="Noise in the frames of a scene. fixed: all frames have the same noise, so that static content does not "
    "flicker. fresh: each frame has new noise. ar1:ρ: the noise drifts; ρ, between 0 and 1, is the correlation of "
    "one frame's noise with that of the next frame.",
)


@dataclass(frozen=True)
class DegradationOptions:
    """Values of the options that say how the input was degraded; None for those that were not given."""

    input_blur: float | None
    input_noise: float | None
    input_jpeg: int | None

    def assume(self, pipes: Sequence[Pipeline]) -> dict[str, float]:
        """Return the values of the options that were set, named as in `caflow_runtime.load`.

        Arguments:
            pipes: models of the command.

        Raises:
            InputError: if an option was set, and no model is told of it.
        """
        known = {"blur": self.input_blur, "noise": self.input_noise, "jpeg": self.input_jpeg}
        given = {name: float(value) for name, value in known.items() if value is not None}
        if given and not any(pipe.is_told_degradation for pipe in pipes):
            raise InputError(
                f"--input-{next(iter(given))} is for models that are told how their input was degraded, and this model "
                "is not: omit it, or use another --model"
            )
        return given
