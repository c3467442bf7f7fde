"""`caflow video`: enlarge a file, a camera or a network stream, frame by frame."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, pass_console, same_command
from caflow_cli.stops import exit_code
from caflow_deploy.commands.encoding_options import EncodingOptions, encoding_options
from caflow_deploy.commands.execution_options import ExecutionOptions, workers_options
from caflow_deploy.commands.field_options import field_option, field_options, gathered
from caflow_deploy.commands.option_values import FilePath
from caflow_deploy.commands.pipeline_options import (
    bundle_option,
    dry_run_option,
    json_option,
    metrics_option,
    quiet_option,
    running_options,
)
from caflow_deploy.commands.pipes import is_pipe, standard_output
from caflow_deploy.commands.result_options import size_options
from caflow_deploy.commands.sampling_options import frame_options, rejecting_options
from caflow_deploy.commands.video_command import VideoCommand, draw_by_workers, draw_to_file, draw_to_stream
from caflow_deploy.commands.video_input import SourceOptions, source_options
from caflow_deploy.commands.video_report import check_overwriting, check_times, report
from caflow_deploy.jobs.folder import make_folder
from caflow_deploy.video.frame_source import UnwritableVideo
from caflow_deploy.video.job import VideoJob, VideoOutcome
from caflow_deploy.video.results import holds_alpha
from caflow_deploy.video.segment_lengths import SEGMENT_FRAMES
from caflow_deploy.video.segment_store import VideoSettings, holds_a_job, identity_of
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT_FOR_VIDEOS
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.stream import Stream, StreamSettings
from caflow_runtime.sizes import Size

OUTPUT_HELP = (
    "File to write: a video (.mp4, .mkv, .mov, .webm), an animation (.gif, .png, .webp), or numbered images, such as "
    "frames/%05d.png. - writes YUV4MPEG2 to standard output."
)


@click.command("video")
@click.argument("source", metavar="IN", type=FilePath())
@click.option("-o", "--output", type=FilePath(path_type=Path), required=True, help=OUTPUT_HELP)
@partial(bundle_option, default=DEFAULT_FOR_VIDEOS)
@field_option(
    DrawOptions,
    "n",
    help="Number of samples to draw of each scene's first frame; the scene keeps the noise of the best one.",
)
@field_options(DrawOptions, "temperature", "seed", "rank")
@frame_options
@size_options
@encoding_options
@click.option(
    "--segment-frames",
    type=click.IntRange(1),
    default=SEGMENT_FRAMES,
    show_default=True,
    help="Maximum number of frames of IN in each segment; the first segments are shorter. A command that is resumed "
    "begins with the first unfinished segment; a worker draws one segment at a time.",
)
@click.option("--force", is_flag=True, help="Start again, and overwrite existing results.")
@source_options
@rejecting_options
@running_options
@workers_options
@metrics_option
@json_option
@quiet_option
@dry_run_option
@gathered(DrawOptions, "draw")
@gathered(EncodingOptions, "encoded")
@gathered(Size, "size", optional=True)
@gathered(SourceOptions, "wanted")
@gathered(ExecutionOptions, "execution")
@pass_console
def command(
    console: CommandConsole,
    source: str,
    output: Path,
    execution: ExecutionOptions,
    draw: DrawOptions,
    size: Size | None,
    noise: Any,
    batch: int,
    encoded: EncodingOptions,
    segment_frames: int,
    force: bool,
    wanted: SourceOptions,
    metrics_port: int | None,
    dry_run: bool,
) -> None:
    """Enlarge the video IN, frame by frame. Requires the extra video.

    IN is a file, numbered images (frames/%05d.png), the number of a camera, the address of a stream (rtsp://…,
    http://…), or - for YUV4MPEG2 on standard input.

    After Ctrl-C, OUT contains the frames that are finished. If IN is a file, the same command resumes with the finished
    segments, which are kept in OUT.segments. The exit code is 1 if the result is shorter than IN, or if a stream was
    lost.

    With workers, IN is decoded once to plan the segments, and each worker draws whole segments. OUT is the same as
    without workers.

    Before the work begins, a line on standard error reports the sizes, the number of tiles and the memory required. A
    video that requires more memory than available is rejected. Progress and the remaining time are shown as a bar on a
    terminal, and otherwise as lines from time to time.
    """
    if is_pipe(output) and console.as_json and not dry_run:
        console.shows_messages = False  # standard error has the JSON objects
    if batch > 1 and noise != "fixed":
        raise click.UsageError("--batch requires --noise fixed: other frames are computed one by one; remove --batch")
    execution.refuse({"--metrics": metrics_port is not None, "-o -": is_pipe(output)})
    pipe = execution.open_pipeline()
    if pipe.manifest.model.condition_channels > VALUES:
        raise InputError(f"{pipe.folder.name} completes images with a mask or hints, which videos do not have")
    with ExitStack() as stack:
        out = stack.enter_context(standard_output(output))
        file = output if out is None else None
        if size is not None and encoded.codec != "ffv1":
            size = structs.replace(size, multiple=2)
        streaming = StreamSettings(draw.for_model(pipe.manifest), noise, batch, size)
        check_times(output, streaming)
        Stream(pipe, streaming)  # checks the settings, before a source is opened
        keeps_alpha = file is not None and holds_alpha(file)
        opened = stack.enter_context(closing(wanted.open(source, keeps_alpha, console.warning)))
        if file is not None:
            # An unfinished job may replace its output; `_draw_file` checks later that it is the same job.
            check_overwriting(file, source, force or holds_a_job(file))
        work = VideoCommand(pipe, opened, streaming, execution, metrics_port, console)
        if file is not None:
            outcome = _draw_file(work, _job(work, file, encoded, segment_frames, wanted), dry_run, force)
        else:
            assert out is not None
            writer = encoded.writer(out, opened.info)
            work.announce(None, dry_run, {})
            outcome = None if dry_run else draw_to_stream(work, writer)
    if outcome is not None:
        report(work, outcome, output)


def _job(
    work: VideoCommand, output: Path, encoded: EncodingOptions, segment_frames: int, wanted: SourceOptions
) -> VideoJob:
    """Return the job that writes a file.

    Raises:
        InputError: if the encoding does not fit the file, or if workers cannot read the source.
    """
    source, execution, rate = work.source, work.execution, wanted.rate_of(work.source)
    if execution.is_spread and (source.path is None or rate):
        what = "live" if source.path is None else "not a single file"
        raise InputError(f"{source.name} is {what}: --workers and --ray require a video file")
    encoding, pipeline = encoded.of(source.info, output, work.sides, execution), execution.settings(work.pipe)
    identity = identity_of(source)
    settings = VideoSettings(pipeline, work.streaming, encoding, segment_frames, identity, wanted.cut, rate)
    return VideoJob(work.pipe, source, output, settings)


def _draw_file(work: VideoCommand, job: VideoJob, dry_run: bool, force: bool) -> VideoOutcome | None:
    """Write the output of a job. Return the outcome; None in a dry run."""
    is_known = work.execution.ray is None  # Only a running cluster knows its backend, which is a setting.
    work.announce(job.settings.encoding, dry_run, job.earlier(force) if is_known else {})
    if dry_run:
        return None
    make_folder(job.output.parent)
    try:
        return (draw_by_workers if work.execution.is_spread else draw_to_file)(work, job, force)
    except UnwritableVideo as error:
        raise CommandError(str(error), FAILED) from None  # finished segments are kept
    except KeyboardInterrupt as stop:  # Ctrl-C after the first one, or while the segments are joined
        way = f"{same_command()} resumes with them" if work.source.path else "they can be played"
        kept = f"; the finished segments are in {job.folder}, and {way}" if holds_a_job(job.output) else ""
        raise CommandError(f"stopped before {job.output} was written{kept}", exit_code(stop)) from None
