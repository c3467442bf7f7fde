"""`caflow video`: enlarge a file, a camera or a network stream, frame by frame."""

import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caflow_deploy.commands.drawing_options import (
    DrawingOptions,
    drawing_options,
    noise_option,
    rejecting_options,
    samples_option,
)
from caflow_deploy.commands.encoding_options import EncodingOptions, encoding_options
from caflow_deploy.commands.option_values import gathered
from caflow_deploy.commands.output_options import json_option, metrics_option, open_metrics
from caflow_deploy.commands.pace import Saying, saying_options
from caflow_deploy.commands.pipeline_options import bundle_option, running_options
from caflow_deploy.commands.running import Running, workers_options
from caflow_deploy.commands.size_options import SizeOptions, size_options
from caflow_deploy.commands.standard_streams import STANDARD_OUTPUT, is_pipe, standard_output
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors
from caflow_deploy.commands.video_by_workers import draw_by_workers, report_frames
from caflow_deploy.commands.video_input import SourceOptions, source_options
from caflow_deploy.commands.video_preview import PreviewOptions, preview_options, write_preview
from caflow_deploy.commands.video_progress import FrameProgress, line_of_video
from caflow_deploy.stops import exit_code
from caflow_runtime.bundle.builtin import DEFAULT_FOR_VIDEOS
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import make_folder
from caflow_runtime.jobs.image_need import check_together
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, StreamSettings
from caflow_runtime.video.encoding import Encoding, check_size
from caflow_runtime.video.job import SEGMENT_FRAMES, TakeFrame, VideoDrawing, VideoJob
from caflow_runtime.video.live import LiveSource
from caflow_runtime.video.need import check_memory, need_of_video
from caflow_runtime.video.numbered import is_numbered, numbered, numbers_of
from caflow_runtime.video.parts import VideoSettings, holds_a_job, identity_of
from caflow_runtime.video.results import holds_alpha
from caflow_runtime.video.source import CLOCK, Source, TimedFrame, UnwritableVideo, VideoInfo
from caflow_runtime.video.window import Screen

OUTPUT_HELP = (
    "File to write: a video (.mp4, .mkv, .mov, .webm), an animation (.gif, .png, .webp), or numbered images, such as "
    "frames/%05d.png. - writes YUV4MPEG2 to standard output, or raw RGB with --pixel-format rgb24."
)


@click.command("video")
@click.argument("source", metavar="IN", type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), help=OUTPUT_HELP)
@partial(bundle_option, default=DEFAULT_FOR_VIDEOS)
@samples_option("Number of samples to draw of each scene's first frame; the scene keeps the noise of the best one.")
@drawing_options
@noise_option
@size_options
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --noise fixed: number of frames to compute together. More frames need more memory.",
)
@encoding_options
@click.option(
    "--segment-frames",
    type=click.IntRange(1),
    default=SEGMENT_FRAMES,
    show_default=True,
    help="Number of frames of IN in each segment. A command that is resumed begins with the first unfinished segment; "
    "a worker draws one segment at a time.",
)
@click.option("--resume", is_flag=True, hidden=True, expose_value=False)  # the same command resumes
@click.option("--force", is_flag=True, help="Start again, and overwrite existing results.")
@click.option(
    "--show",
    is_flag=True,
    help="Show the result in a window; -o is then optional. Requires the extra show.",
)
@source_options
@preview_options
@rejecting_options
@running_options
@workers_options
@metrics_option
@json_option
@saying_options
@gathered(Saying, "saying")
@gathered(DrawingOptions, "drawing")
@gathered(EncodingOptions, "encoded")
@gathered(SizeOptions, "sized")
@gathered(SourceOptions, "wanted")
@gathered(PreviewOptions, "preview")
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
    wanted: SourceOptions,
    preview: PreviewOptions,
    metrics_port: int | None,
    as_json: bool,
    saying: Saying,
) -> None:
    """Enlarge the video IN, frame by frame. Requires the extra video.

    IN is a file, numbered images (frames/%05d.png), the number of a camera, the address of a stream (rtsp://…,
    http://…), or - for standard input: YUV4MPEG2, or raw RGB with --raw.

    After Ctrl-C, OUT contains the frames that are finished. If IN is a file, the same command resumes with the finished
    segments, which are kept in OUT.parts. The exit code is 1 if the result is shorter than IN, or if a stream was lost.

    With workers, IN is decoded once to plan the segments, and each worker draws whole segments. OUT is the same as
    without workers, but after Ctrl-C it is not written until the command has been resumed.

    Before the work begins, a line on standard error reports the sizes, the number of tiles and the memory required. A
    video that requires more memory than available is rejected. Progress and the remaining time are shown as a bar on a
    terminal, and otherwise as lines from time to time.
    """
    saying.hush()
    saying = saying.beside(output, as_json)
    if saying.dry_run and preview.at is not None:
        raise click.UsageError("--dry-run does not work with --at; give one or the other")
    if batch > 1 and noise != "fixed":
        raise click.UsageError("--batch requires --noise fixed: other frames are computed one by one; remove --batch")
    if output is None and not show:
        raise click.UsageError("no output; give -o, --show or both")
    running.refuse({"--show": show, "--metrics": metrics_port is not None})
    running.refuse({"-o -": is_pipe(output), "--at": preview.at is not None})
    pipe = running.open_pipeline()
    with ending_on_errors(), ExitStack() as stack:
        out = stack.enter_context(standard_output(output))
        if preview.at is not None and output is not None:
            check_overwriting(output, source, overwrites=True)  # `write_preview` checks all but the input
            opened = wanted.open(source, keeps_alpha=holds_alpha(output) and not preview.sheet)
            write_preview(pipe, opened, output, drawing, preview, force)
            return
        if output is not None and out is None:
            # An unfinished job may replace its output; `open_parts` checks later that it is the same job.
            check_overwriting(output, source, force or holds_a_job(output))
        multiple = 1 if output is None or encoded.codec == "ffv1" else 2
        streaming = drawing.stream(noise, batch, sized.size(pipe, multiple))
        _check_times(output, streaming)
        stream = pipe.open_stream(streaming)
        keeps_alpha = output is not None and out is None and holds_alpha(output)
        opened, job, writer, encoding = wanted.open(source, keeps_alpha), None, None, None
        if running.is_spread and (opened.path is None or wanted.rate_of(opened)):
            opened.close()
            what = "live" if opened.path is None else "not a single file"
            raise InputError(f"{opened.name} is {what}: --workers and --ray require a video file")
        if out is not None:
            writer = encoded.writer(out, opened.info)
        elif output is not None:
            sides = _sides(streaming, opened.info, pipe.manifest.model.scale)
            encoding = encoded.of(opened.info, output, sides, running)
            pipeline, identity, rate = running.settings(pipe, None), identity_of(opened), wanted.rate_of(opened)
            settings = VideoSettings(pipeline, streaming, encoding, segment_frames, identity, wanted.cut, rate)
            job = VideoJob(pipe, opened, output, settings)
        _plan(pipe, opened, streaming, encoding, running, saying)
        if saying.dry_run:
            _check_first_frame(opened, streaming, pipe.manifest.model.scale, encoding)
            return
        if output is not None and out is None:
            make_folder(output.parent)
        if job is not None and running.is_spread:
            draw_by_workers(job, running, as_json, force, saying)
            return
        metrics = open_metrics(stack, metrics_port, pipe, drawing.temperature, measures_drift=False)
        progress = stack.enter_context(_progress(as_json or saying.quiet))
        show_progress = _show_progress(progress, opened, as_json, saying)
        show_picture = _open_window(stack, opened.name) if show else None

        def show_all(frame: Frame, timed: TimedFrame) -> None:
            show_progress(frame, timed)
            if metrics:
                metrics.observe_frame(frame)
            if show_picture is not None and not show_picture(frame.image):
                raise KeyboardInterrupt  # closing the window ends the video as Ctrl-C does

        if job is None:
            drawn = VideoDrawing(pipe, opened, stream, show_all)
            drawn.run(None if writer is None else lambda frame, timed: writer.write(frame.pixels, timed.ticks))
            drawn.written, lost = drawn.frames, [] if writer is None else writer.lost
        else:
            job.show = show_all
            try:
                drawn = job.run(force)
            except UnwritableVideo as error:
                end(str(error), FAILED)  # finished segments are kept
            lost = job.lost
    report_frames(opened.name, lost, drawn.rejected, drawn.untypical, drawing.untypical, saying)
    _report(opened.name, output, drawn, drawing.untypical, as_json, saying)


def _plan(
    pipe: Pipeline,
    source: Source,
    streaming: StreamSettings,
    encoding: Encoding | None,
    running: Running,
    saying: Saying,
) -> None:
    """Report the sizes and the memory required.

    Raises:
        TooLittleMemory: if there is too little memory.
    """
    info, processes = source.info, running.workers or 1 if running.ray is None else 1
    final = _sides(streaming, info, pipe.manifest.model.scale)
    codec = None if encoding is None or encoding.hardware else encoding.codec
    need = need_of_video(pipe.needs, streaming, (info.height, info.width), final, codec, info.has_alpha)
    saying.say(line_of_video(source.name, need, info.frames, processes))
    check_memory(need)
    check_together([need.bytes] * processes, processes)


def _check_first_frame(source: Source, streaming: StreamSettings, scale: int, encoding: Encoding | None) -> None:
    """Read the first frame, and check that its result can have the requested size. Close the source.

    A frame is decoded, because the properties of a source do not include its rotation.

    Raises:
        InputError: if the result cannot have that size.
        UnreadableVideo: if no frame can be read.
    """
    first = next(source.frames(), None)
    source.close()
    if first is not None:
        final = streaming.final_size(first.image, scale)
        if encoding is not None:
            check_size(encoding, final.height, final.width)


def _sides(streaming: StreamSettings, info: VideoInfo, scale: int) -> tuple[int, int]:
    """Return the height and width of the result. They are swapped if frames are rotated, which only decoding shows."""
    if streaming.size is None:
        return scale * info.height, scale * info.width
    final = streaming.size.of(info.height, info.width, scale)
    return final.height, final.width


def _check_times(output: Path | None, streaming: StreamSettings) -> None:
    """Check that frames are dropped only if the output stores presentation times.

    Raises:
        InputError: if they are dropped otherwise.
    """
    if streaming.untypical == "drop" and output is not None and (is_pipe(output) or is_numbered(output)):
        raise InputError(
            "--untypical drop does not work with this -o: it stores no frame times, so later frames would be shown too "
            "early; give --untypical mark or bicubic"
        )


def check_overwriting(output: Path, source: str, overwrites: bool) -> None:
    """Check that no file is overwritten or removed without permission, and never the input.

    Raises:
        InputError: if one would be.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file as -o")
    given = Path(source)
    results = _on_disk(output, is_numbered(output))
    if results & _on_disk(given, is_numbered(given) and not given.exists()):
        raise InputError(f"{output} is the input file, or one of its images; choose another -o")
    if results and not overwrites:
        raise InputError(f"{output} already exists; use --force to overwrite it, or choose another -o")


def _on_disk(path: Path, is_pattern: bool) -> set[tuple[int, int]]:
    """Return the device and number of a file if it exists, or of all existing images of a pattern."""
    files = [numbered(path, number) for number in numbers_of(path)] if is_pattern else [path]
    found = [file.stat() for file in files if file.exists()]
    return {(one.st_dev, one.st_ino) for one in found}


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


def _show_progress(progress: Progress, source: Source, as_json: bool, saying: Saying) -> TakeFrame:

    frames = source.info.frames
    lines = FrameProgress(saying.say if progress.disable else None, source.name, frames)
    task = progress.add_task("frames", total=frames, status="")

    def show(frame: Frame, timed: TimedFrame) -> None:
        lines.done(frame.number + 1)
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
    """Open a window. Return a function that shows an image and returns whether the window is still open."""
    window = Screen(title)
    stack.callback(window.close)
    return window.show


def _report(
    source: str, output: Path | None, drawing: VideoDrawing, untypical: str | None, as_json: bool, saying: Saying
) -> None:
    """Report the outcome of the video. If it is incomplete, end the command with its exit code."""
    if drawing.dropped:
        saying.warn(f"{drawing.dropped} frames arrived too fast and were dropped")
    kept = f"the typical ones of {drawing.frames} frames" if untypical == "drop" else f"{drawing.frames} frames"
    way = "; run the same command again to resume" if output and holds_a_job(output) else ""
    result = STANDARD_OUTPUT if is_pipe(output) else output
    where = f"; {result} contains {kept}{way}" if output else ""
    if output and drawing.frames and not drawing.written:
        end(f"{output} was not written: all {drawing.frames} frames are untypical and were dropped", FAILED)
    if drawing.ended_early is not None:
        end(f"{drawing.ended_early}{where}", FAILED)
    if output and not drawing.frames:
        end("stopped before the first frame", exit_code(drawing.stopped) if drawing.stopped else FAILED)
    if drawing.stopped and not isinstance(drawing.source, LiveSource):
        end(f"stopped after {drawing.frames} frames{where}", exit_code(drawing.stopped))
    done = f"{source} → {result or 'a window'}  {drawing.frames} frames"
    if is_pipe(output) and not as_json:
        saying.say(done)
    elif not as_json:
        click.echo(done)
