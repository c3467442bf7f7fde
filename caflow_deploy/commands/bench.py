"""`caflow bench`: images per second and latency of a bundle on this machine."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from caflow_deploy.commands.options import (
    BACKENDS,
    bundle_argument,
    json_option,
    numbers,
    open_pipeline,
    threads_option,
)
from caflow_deploy.commands.terminal import ending_on_errors, print_table, progress_bar


@click.command()
@bundle_argument
@click.option("--side", type=click.IntRange(1), default=64, show_default=True, help="Of the square result, in pixels.")
@click.option("-n", "--samples", default="1,2,5,10", callback=numbers, show_default=True, help="Numbers of samples.")
@click.option("--seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="For each line.")
@click.option("--backend", type=BACKENDS, multiple=True, default=["auto"], show_default=True, help="Any number.")
@threads_option
@json_option
def bench(
    bundle: Path, side: int, samples: list[int], seconds: float, backend: tuple[str, ...], threads: int, as_json: bool
) -> None:
    """Time best-of-N with BUNDLE, x4-photo by default, and hold the growth with N against the count of operations."""
    with ending_on_errors():
        from caflow_runtime.bench import Timing
        from caflow_runtime.bench import bench as measure
    timings: list[Timing] = []
    with progress_bar(hidden=as_json) as progress, ending_on_errors():
        task = progress.add_task("measuring", total=len(backend) * len(samples))
        for pipe in [open_pipeline(bundle, name, threads) for name in backend]:
            for timing in measure(pipe, side, samples, seconds):
                timings.append(timing)
                progress.advance(task)
    if as_json:
        for timing in timings:
            click.echo(json.dumps(asdict(timing) | {"images_per_s": timing.images_per_s}))
        return
    columns = ["backend", "n", "ms", "slowest ms", "images/s", "samples/s", "GFLOP/s", "× first", "× counted"]
    rows = [
        [
            timing.backend,
            str(timing.samples),
            f"{1e3 * timing.median_s:.1f}",
            f"{1e3 * timing.slowest_s:.1f}",
            f"{timing.images_per_s:.1f}",
            f"{timing.samples_per_s:.1f}",
            f"{timing.gflop_per_s:.1f}",
            f"{timing.times_first:.2f}",
            f"{timing.counted_times_first:.2f}",
        ]
        for timing in timings
    ]
    print_table(columns, rows)
