"""`caflow bench`: images per second and latency of a bundle on this machine."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from caflow_deploy.commands.common import (
    ending_on_errors,
    json_option,
    numbers,
    open_pipeline,
    print_table,
    progress_bar,
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--side", type=click.IntRange(1), default=64, show_default=True, help="Of the square result, in pixels.")
@click.option("-n", "--samples", default="1,2,5,10", callback=numbers, show_default=True, help="Numbers of samples.")
@click.option("--seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="For each line.")
@click.option(
    "--backend", type=click.Choice(["auto", "cpu", "cuda"]), multiple=True, default=["auto"], show_default=True
)
@click.option("--threads", default=0, show_default="one per core", help="On the CPU.")
@json_option
def bench(
    bundle: Path, side: int, samples: list[int], seconds: float, backend: tuple[str, ...], threads: int, as_json: bool
) -> None:
    """Time best-of-N with BUNDLE, and hold the growth with N against the count of operations."""
    with ending_on_errors():
        from caflow_runtime.bench import Timing
        from caflow_runtime.bench import bench as measure
    timings: list[Timing] = []
    with progress_bar(hidden=as_json) as progress:
        task = progress.add_task("measuring", total=len(backend) * len(samples))
        for name in backend:
            with open_pipeline(bundle, name, threads) as pipe:
                for timing in measure(pipe, side, samples, seconds):
                    timings.append(timing)
                    progress.advance(task)
    if as_json:
        for timing in timings:
            click.echo(json.dumps({**asdict(timing), "side": side, "images_per_s": timing.images_per_s}))
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
