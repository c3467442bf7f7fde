"""`caflow video`: a video file to one that is larger, frame by frame, with its times, colours, sound and subtitles."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caflow_deploy.commands.options import (
    bundle_option,
    drawing_options,
    json_option,
    open_pipeline,
    running_options,
    samples_option,
)
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors

if TYPE_CHECKING:
    from rich.progress import Progress

    from caflow_runtime.stream import Frame
    from caflow_runtime.stream import Noise as StreamNoise
    from caflow_runtime.video.job import Show


def noise_kind(context: click.Context, parameter: click.Parameter, text: str) -> "StreamNoise":
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


@click.command()
@click.argument("video", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A name ending in .mp4 or .mkv.")
@bundle_option
@samples_option("Of each scene's first frame; the scene keeps the best one's noise.")
@drawing_options
@click.option(
    "--noise",
    callback=noise_kind,
    metavar="fixed|fresh|ar1:ρ",
    default="fixed",
    show_default=True,
    help="Over the frames of a scene: the same, new for each, or drifting.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Frames that run together.")
@click.option("--codec", type=click.Choice(["h264", "hevc", "av1", "ffv1"]), help="[default: h264; of 10 bits, hevc]")
@click.option("--crf", type=click.IntRange(0, 63), default=18, show_default=True, help="Quality; less is better.")
@click.option("--resume", is_flag=True, help="Go on with a job that was stopped.")
@click.option("--force", is_flag=True, help="Overwrite a video that is there already.")
@running_options
@json_option
def video(
    video: Path,
    output: Path,
    bundle: Path,
    samples: int,
    temperature: float,
    seed: int,
    rank: Any,
    noise: Any,
    batch: int,
    codec: Any,
    crf: int,
    resume: bool,
    force: bool,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    as_json: bool,
) -> None:
    """Make a larger video of IN. Ctrl-C finishes what is there; --resume goes on.

    The exit code is 1 where the result is shorter than IN.
    """
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap)
    settings = {
        "model": pipe.manifest.source.checkpoint_sha256,
        "precision": pipe.manifest.precision,
        "pixel_budget": pixel_budget,
        "overlap": overlap,
        "samples": samples,
        "temperature": temperature,
        "seed": seed,
        "rank": rank,
        "noise": noise,
        "codec": codec,
        "crf": crf,
    }
    with ending_on_errors():
        from caflow_runtime.errors import InputError
        from caflow_runtime.video.job import Job
        from caflow_runtime.video.sink import Encoding, check_output
        from caflow_runtime.video.source import FileSource, UnwritableVideo

        source = FileSource(video)
        bits = 10 if source.info.bits > 8 and codec in (None, "hevc", "av1", "ffv1") else 8
        encoding = Encoding(codec or ("hevc" if bits > 8 else "h264"), crf, bits)
        check_output(output, encoding.codec)
        if output.exists() and not (force or resume):
            raise InputError(f"{output} is there already: give --force to overwrite it, or another -o")
        if output.exists() and output.samefile(video):
            raise InputError(f"{output} is the input: give another -o")
        stream = pipe.open_stream(samples, temperature, seed, rank, noise, batch)
        with _progress(as_json) as progress:
            job = Job(source, output, stream, encoding, settings, show=_show(progress, source.info.frames, as_json))
            try:
                report = job.run(resume)
            except UnwritableVideo as error:
                end(str(error), FAILED)  # what is done is kept
    for line in report.lost:
        click.echo(f"caflow: {video}: {line}", err=True)
    if report.ended_early:
        end(f"{report.ended_early}; {output} holds {report.frames} frames", FAILED)
    if not as_json:
        click.echo(f"{video} → {output}  {report.frames} frames")


def _progress(hidden: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bits]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def _show(progress: "Progress", frames: int | None, as_json: bool) -> "Show":
    task = progress.add_task("frames", total=frames, bits="")

    def show(frame: "Frame", ticks: int) -> None:
        progress.update(task, completed=frame.number + 1, bits=f"{frame.bits_per_dim:.3f} bits/dim")
        if as_json:
            entry = {
                "frame": frame.number,
                "seconds": ticks / 90_000,
                "log_likelihood": frame.log_likelihood,
                "bits_per_dim": frame.bits_per_dim,
                "sample": frame.sample,
                "starts_scene": frame.starts_scene,
            }
            click.echo(json.dumps(entry, allow_nan=False))

    return show
