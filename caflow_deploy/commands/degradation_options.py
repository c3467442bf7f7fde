"""Options that say how the input images were degraded, for models that are told of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from caflow_deploy.commands.option_values import NumberRange, options
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline

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


@dataclass(frozen=True)
class DegradationOptions:
    """Values of the options; None for those that were not given."""

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
                "is not: omit it, or use another --bundle"
            )
        return given
