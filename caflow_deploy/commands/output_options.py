"""Options about what a command prints, and what it serves to Prometheus, while it runs."""

from contextlib import ExitStack

import click

from caflow_deploy.commands.option_values import Command
from caflow_deploy.commands.terminal import ending_on_errors
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.pipeline.pipeline import Pipeline


def json_option(command: Command) -> Command:
    """Add the option for output that programs read."""
    text = 'Print one JSON object per line, for programs. The page "Job folders" of the reference lists the fields.'
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def metrics_option(command: Command) -> Command:
    """Add the option for the metrics of a running command."""
    text = "Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics while the command runs. "
    text += "Requires the extra metrics."
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
        reference = pipe.reference(temperature) if measures_drift else None
        metrics = stack.enter_context(Metrics(pipe, reference))
        metrics.serve(port)
        return metrics
