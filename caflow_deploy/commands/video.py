"""`caflow video`: a file, a camera or a network stream to a video that is larger, frame by frame."""

import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caflow_deploy.commands.options import (
    DrawingOptions,
    NumberRange,
    bundle_option,
    drawing_options,
    encoding_options,
    gathered,
    json_option,
    metrics_option,
    noise_option,
    open_metrics,
    rejecting_options,
    running_options,
    samples_option,
)
from caflow_deploy.commands.running import Running, workers_options
from caflow_deploy.commands.size_options import SizeOptions, size_options
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors
from caflow_deploy.commands.video_by_workers import draw_by_workers, report_frames
from caflow_deploy.stops import exit_code
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import make_folder
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.job import SEGMENT_FRAMES, Drawing, TakeFrame, VideoJob
from caflow_runtime.video.live import LiveSource, is_live
from caflow_runtime.video.parts import VideoSettings, holds_a_job, identity_of
from caflow_runtime.video.sink import TEN_BITS, Codec, Encoding, check_output, has_hardware_encoder
from caflow_runtime.video.source import CLOCK, FileSource, Source, TimedFrame, UnwritableVideo, VideoInfo
from caflow_runtime.video.window import Screen


@dataclass(frozen=True)
class EncodingOptions:
    """What the command was told of how the result is encoded."""

    codec: Codec | None
    crf: int
    encoder: Literal["auto", "software", "nvenc"]

    def of(self, info: VideoInfo, pipe: Pipeline, running: Running) -> Encoding:
        """With as many bits as the source, and in hardware where that is there and one process does all.

        Raises:
            InputError: if hardware is wanted that cannot do it.
        """
        running.refuse({"--encoder nvenc": self.encoder == "nvenc"})
        bits = 10 if info.bits > 8 and self.codec in (None, *TEN_BITS) else 8
        software = Encoding(self.codec or ("hevc" if bits > 8 else "h264"), self.crf, bits)
        if self.encoder == "software" or running.is_spread:
            return software
        height, width = (pipe.manifest.model.scale * side for side in (info.height, info.width))
        if has_hardware_encoder(software, height, width):
            return replace(software, hardware=True)
        if self.encoder == "nvenc":
            raise InputError(
                f"--encoder nvenc: it cannot encode {software.codec} of {width}×{height} here: leave it out"
            )
        return software


@dataclass(frozen=True)
class LiveOptions:
    """What the command was told of sources that have no end."""

    drop: Literal["latest", "block"]
    duration: float | None
    patience: float

    def open(self, address: str) -> Source:
        """Any source.

        Raises:
            InputError, UnreadableVideo
        """
        if is_live(address) and not Path(address).exists():
            drops = self.drop == "latest"
            live = LiveSource(address, drops, self.duration, self.patience, _say)
            if not live.has_end:
                return live
            live.close()
        if self.duration is not None:
            raise InputError(f"--duration is for cameras and streams; {address} is a file")
        return FileSource(address if is_live(address) else Path(address))


@click.command("video")
@click.argument("source", metavar="IN", type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A name ending in .mp4 or .mkv.")
@bundle_option
@samples_option("Of each scene's first frame; the scene keeps the best one's noise.")
@drawing_options
@noise_option
@size_options
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Frames that run together.")
@encoding_options
@click.option(
    "--encoder",
    type=click.Choice(["auto", "software", "nvenc"]),
    default="auto",
    show_default=True,
    help="auto is NVENC where it works.",
)
@click.option(
    "--segment-frames",
    type=click.IntRange(1),
    default=SEGMENT_FRAMES,
    show_default=True,
    help="Frames of IN in each segment: what a stop may lose, and what a worker draws at once.",
)
@click.option("--resume", is_flag=True, hidden=True, expose_value=False)  # the same command resumes
@click.option("--force", is_flag=True, help="Begin anew, and overwrite a video that is there already.")
@click.option("--show", is_flag=True, help="In a window, too; -o may then be left out.")
@click.option(
    "--drop",
    type=click.Choice(["latest", "block"]),
    default="latest",
    show_default=True,
    help="Live frames that come too fast: only the latest counts, or each is waited for.",
)
@click.option("--duration", type=NumberRange(0, min_open=True), help="Of a live source, in seconds.")
@click.option(
    "--patience",
    type=NumberRange(0),
    default=60,
    show_default=True,
    help="Seconds that a lost live source is waited for; 0 ends at once.",
)
@rejecting_options
@running_options
@workers_options
@metrics_option
@json_option
@gathered(DrawingOptions, "drawing")
@gathered(EncodingOptions, "encoded")
@gathered(LiveOptions, "live")
@gathered(SizeOptions, "sized")
@gathered(Running, "running")
def command(
    source: str,
    output: Path | None,
    running: Running,
    drawing: DrawingOptions,
    sized: SizeOptions,
    noise: Any,
    batch: int,
    encoded: EncodingOptions,
    segment_frames: int,
    force: bool,
    show: bool,
    live: LiveOptions,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Make a larger video of IN: a file, a camera's number, or the address of a stream (rtsp://…, http://…).

    Ctrl-C ends the video with what is done. Of a file, the same command resumes: finished segments are in OUT.parts.
    Workers draw the segments of a file, after it was decoded once, and OUT is the same. The exit code is 1 where the
    result is shorter than IN, and where a stream was lost.
    """
    if output is None and not show:
        raise click.UsageError("wanted -o, or --show, or both")
    running.refuse({"--show": show, "--metrics": metrics_port is not None})
    pipe = running.open_pipeline()
    with ending_on_errors(), ExitStack() as stack:
        if output is not None:
            check_overwriting(output, source, force or holds_a_job(output))  # `open_parts` says more of that
        multiple = 1 if output is None or encoded.codec == "ffv1" else 2
        streaming = drawing.stream(noise, batch, sized.size(pipe, multiple))
        stream = pipe.open_stream(streaming)
        opened, job = live.open(source), None
        if running.is_spread and opened.path is None:
            opened.close()
            raise InputError(f"{source} is live: --workers and --ray are for files")
        if output is not None:
            encoding = encoded.of(opened.info, pipe, running)
            check_output(output, encoding.codec, encoding.crf)
            pipeline = running.settings(pipe, None)
            settings = VideoSettings(pipeline, streaming, encoding, segment_frames, identity_of(opened))
            job = VideoJob(pipe, opened, output, settings)
            make_folder(output.parent)
        if job is not None and running.is_spread:
            draw_by_workers(job, running, as_json, force)
            return
        metrics = open_metrics(stack, metrics_port, pipe, drawing.temperature, measures_drift=False)
        progress = stack.enter_context(_progress(as_json))
        show_progress = _show_progress(progress, opened.info.frames, as_json)
        show_picture = _open_window(stack, source) if show else None

        def show_all(frame: Frame, timed: TimedFrame) -> None:
            show_progress(frame, timed)
            if metrics:
                metrics.observe_frame(frame)
            if show_picture is not None and not show_picture(frame.image):
                raise KeyboardInterrupt  # closing the window ends the video as Ctrl-C does

        if job is None:
            drawn, lost = Drawing(opened, stream, show_all), []
            drawn.run()
        else:
            job.show = show_all
            try:
                drawn = job.run(force)
            except UnwritableVideo as error:
                end(str(error), FAILED)  # what is done is kept
            lost = job.lost
    _report(source, output, drawn, lost, drawing.untypical, as_json)


def check_overwriting(output: Path, source: str, overwrites: bool) -> None:
    """Whether nothing is lost.

    Raises:
        InputError
    """

    if output.is_dir():
        raise InputError(f"{output} is a folder: wanted the name of a video")
    if output.exists() and not overwrites:
        raise InputError(f"{output} is there already: give --force to overwrite it, or another -o")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise InputError(f"{output} is the input: give another -o")


def _say(line: str) -> None:
    click.echo(f"caflow: {line}", err=True)


def _progress(hidden: bool) -> Progress:

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def _show_progress(progress: Progress, frames: int | None, as_json: bool) -> TakeFrame:

    task = progress.add_task("frames", total=frames, status="")

    def show(frame: Frame, timed: TimedFrame) -> None:
        speed = progress.tasks[0].speed or 0.0
        status = f"{speed:.2f} frames/s  {frame.bits_per_dim:.3f} bits/dim"
        progress.update(task, completed=frame.number + 1, status=status)
        if as_json:
            entry: dict[str, Any] = {
                "frame": frame.number,
                "seconds": float(timed.ticks * CLOCK),
                "latency": time.monotonic() - timed.captured,
                "log_likelihood": _number(frame.log_likelihood),
                "bits_per_dim": _number(frame.bits_per_dim),
                "sample": frame.sample,
                "starts_scene": frame.starts_scene,
                "rejected": frame.rejected,
                "sample_typicality": None if frame.sample_typicality is None else _number(frame.sample_typicality),
                "untypical": frame.untypical,
            }
            if frame.drawn_sides is not None:
                height, width = frame.drawn_sides
                entry["likelihood_of"] = {"width": width, "height": height}
            click.echo(json.dumps(entry, allow_nan=False))

    return show


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _open_window(stack: ExitStack, title: str) -> Callable[[Image], bool]:
    """Shows a picture; says whether the window is still open."""

    window = Screen(title)
    stack.callback(window.close)
    return window.show


def _report(
    source: str, output: Path | None, drawing: Drawing, lost: list[str], untypical: str | None, as_json: bool
) -> None:
    """What became of it, and the exit code."""
    report_frames(source, lost, drawing.rejected, drawing.untypical, untypical)
    if drawing.dropped:
        click.echo(f"caflow: {drawing.dropped} frames came too fast and were dropped", err=True)
    kept = f"the typical ones of {drawing.frames} frames" if untypical == "drop" else f"{drawing.frames} frames"
    way = ": run the same command again to resume" if output and holds_a_job(output) else ""
    where = f"; {output} holds {kept}{way}" if output else ""
    if output and drawing.frames and not drawing.written:
        end(f"all {drawing.frames} frames are untypical: {output} was not written", FAILED)
    if drawing.ended_early:
        end(f"{drawing.ended_early}{where}", FAILED)
    if output and not drawing.frames:
        end("stopped before the first frame", exit_code(drawing.stopped) if drawing.stopped else FAILED)
    if drawing.stopped and drawing.source.path:
        end(f"stopped after {drawing.frames} frames{where}", exit_code(drawing.stopped))
    if not as_json:
        click.echo(f"{source} → {output or 'a window'}  {drawing.frames} frames")
