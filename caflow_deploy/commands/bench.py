"""`caflow bench`: measure latency and images per second of a bundle on this machine."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from caflow_cli.console import CommandConsole, command_console
from caflow_cli.option_values import NumberRange, numbers
from caflow_deploy.commands.pipeline_options import (
    BACKEND_METAVAR,
    BackendType,
    bundle_argument,
    json_option,
    threads_option,
)
from caflow_deploy.health.bench import Throughput, Timing, throughput
from caflow_deploy.health.bench import bench as measure
from caflow_runtime.pipeline.pipeline import load

MAX_SIDE = 2**16
"""Largest value of --side, in pixels."""


@click.command("bench")
@bundle_argument
@click.option(
    "--side",
    type=click.IntRange(1, MAX_SIDE),
    default=64,
    show_default=True,
    help="Width and height of the result, in pixels.",
)
@click.option(
    "-n",
    "samples",
    default="1,2,5,10",
    callback=numbers,
    show_default=True,
    help="Numbers of samples to measure, separated by commas.",
)
@click.option(
    "--seconds",
    type=NumberRange(0),
    default=2.0,
    show_default=True,
    help="Time to spend on each measurement, in seconds; 0 measures only a few calls.",
)
@click.option(
    "--backend",
    type=BackendType(),
    metavar=BACKEND_METAVAR,
    multiple=True,
    default=["auto"],
    show_default=True,
    help="Backend to measure, as in caflow image; repeat the option to measure several.",
)
@threads_option
@json_option
def command(
    bundle: Path,
    side: int,
    samples: list[int],
    seconds: float,
    backend: tuple[str, ...],
    threads: int,
) -> None:
    """Measure how fast BUNDLE draws the best of N samples on this machine.

    The first table has the latency for each N. The second table has the batch size with the most images per second.
    """
    console = command_console()
    console.require_stdout()
    for name in backend:  # report backends that cannot be opened before anything is measured
        load(bundle, name, threads).close()
    timings: list[Timing] = []
    throughputs: list[Throughput] = []
    with console.progress_bar() as bar:
        task = bar.add_task("measuring", total=len(backend) * (len(samples) + 1))
        for name in backend:
            with load(bundle, name, threads) as pipe:
                for timing in measure(pipe, side, samples, seconds):
                    timings.append(timing)
                    bar.advance(task)
                throughputs.append(throughput(pipe, side, seconds))
                bar.advance(task)
    if console.as_json:
        for timing in timings:
            console.result(json.dumps({"kind": "latency"} | asdict(timing) | {"images_per_s": timing.images_per_s}))
        for one in throughputs:
            console.result(json.dumps({"kind": "throughput"} | asdict(one)))
        return
    _print_timings(timings, console)
    _print_throughputs(throughputs, console)


def _print_timings(timings: list[Timing], console: CommandConsole) -> None:
    columns = ["backend", "n", "ms", "p95 ms", "images/s", "samples/s"]
    rows = [
        [
            timing.backend,
            str(timing.samples),
            f"{1e3 * timing.median_s:.1f}",
            f"{1e3 * timing.p95_s:.1f}",
            f"{timing.images_per_s:.1f}",
            f"{timing.samples_per_s:.1f}",
        ]
        for timing in timings
    ]
    console.table(columns, rows)


def _print_throughputs(throughputs: list[Throughput], console: CommandConsole) -> None:
    columns = ["backend", "best batch", "images/s", "GPU MiB"]
    rows = [
        [
            one.backend,
            str(one.batch),
            f"{one.images_per_s:.1f}",
            "" if one.gpu_memory is None else f"{one.gpu_memory / 2**20:.0f}",
        ]
        for one in throughputs
    ]
    console.table(columns, rows)
