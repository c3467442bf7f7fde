"""`caflow video`: enlarge a file, a camera or a network stream, frame by frame."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import click

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, command_console, counted, same_command
from caflow_cli.field_options import field_option, field_options, gathered
from caflow_cli.option_values import FilePath
from caflow_cli.short_help import ShortHelp
from caflow_cli.stops import exit_code
from caflow_deploy.commands.drawing_options import frame_options, rejecting_options, size_options
from caflow_deploy.commands.execution_options import workers_options
from caflow_deploy.commands.pipeline_options import (
    bundle_option,
    dry_run_option,
    json_option,
    metrics_option,
    quiet_option,
    running_options,
)
from caflow_deploy.commands.pipes import STANDARD_OUTPUT, is_pipe, standard_output
from caflow_deploy.commands.video_command import (
    VideoCommand,
    VideoCommandOptions,
    draw_by_workers,
    draw_to_file,
    draw_to_stream,
)
from caflow_deploy.commands.video_input import live_options, part_options
from caflow_deploy.jobs.folder import make_folder
from caflow_deploy.video.enlarge_video import check_drops, check_frames, check_overwriting, with_number
from caflow_deploy.video.frame_source import UnwritableVideo
from caflow_deploy.video.job import VideoJob, VideoOutcome, where_resumed
from caflow_deploy.video.live import LiveSource
from caflow_deploy.video.numbered import is_numbered
from caflow_deploy.video.results import holds_alpha
from caflow_deploy.video.segment_store import holds_a_job
from caflow_deploy.video.video_options import VideoOptions
from caflow_runtime.batching.draw_options import DrawOptions, Otherwise
from caflow_runtime.bundle.builtin import DEFAULT_FOR_VIDEOS

OUTPUT_HELP = (
    "File to write: a video (.mp4, .mkv, .mov, .webm), an animation (.gif, .png, .webp), or numbered images, such as "
    "frames/%05d.png. - writes YUV4MPEG2 to standard output."
)
N_HELP = (
    "Number of samples to draw of each scene's first frame; the scene keeps the noise of the best one. By default as "
    "many as for an image of this size."
)


@click.command(
    "video",
    cls=ShortHelp,
    first=("output", "bundle", "scale", "width", "start", "end", "codec", "crf", "dry_run", "force"),
)
@click.argument("source", metavar="IN", type=FilePath())
@click.option("-o", "--output", type=FilePath(path_type=Path), required=True, help=OUTPUT_HELP)
@partial(bundle_option, default=DEFAULT_FOR_VIDEOS)
@field_option(DrawOptions, "n", help=N_HELP)
@field_options(DrawOptions, "temperature", "seed", "rank")
@frame_options
@size_options
@field_options(VideoOptions, "codec", "preset", "pixel_format", "crf", "encoder", "segment_frames", "force")
@part_options
@live_options
@rejecting_options
@running_options
@workers_options
@metrics_option
@json_option
@quiet_option
@dry_run_option
def command(source: str, output: Path, dry_run: bool, **given: Any) -> None:
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
    console, options = command_console(), gathered(VideoCommandOptions, given)
    if is_pipe(output) and console.as_json and not dry_run:
        console.shows_messages = False  # standard error has the JSON objects
    options.check(output)
    pipe, video = options.execution.open_pipeline(), options.video
    with ExitStack() as stack:
        out = stack.enter_context(standard_output(output))
        streaming = video.streaming(options.draw.for_model(pipe.manifest))
        check_frames(pipe, streaming)
        check_drops(streaming, is_pipe(output) or is_numbered(output))
        keeps_alpha = out is None and holds_alpha(output)
        opened = stack.enter_context(closing(options.live.open(source, video, keeps_alpha, console.warning)))
        work = VideoCommand(pipe, opened, with_number(pipe, streaming, opened.info), options, console)
        if out is None:
            # An unfinished job may replace its output; `_draw_file` checks later that it is the same job.
            check_overwriting(output, source, video.force or holds_a_job(output))
            outcome = _draw_file(work, work.job(output), dry_run)
        else:
            writer = options.writer(out, opened.info)
            work.announce(None, dry_run, {})
            outcome = None if dry_run else draw_to_stream(work, writer)
    if outcome is not None:
        report(work, outcome, output)


def _draw_file(work: VideoCommand, job: VideoJob, dry_run: bool) -> VideoOutcome | None:
    """Write the output of a job. Return the outcome; None in a dry run."""
    execution, force = work.options.execution, work.options.video.force
    is_known = execution.ray is None  # Only a running cluster knows its backend, which is a setting.
    work.announce(job.settings.encoding, dry_run, job.earlier(force) if is_known else {})
    if dry_run:
        return None
    make_folder(job.output.parent)
    try:
        return (draw_by_workers if execution.is_spread else draw_to_file)(work, job, force)
    except UnwritableVideo as error:
        raise CommandError(str(error), FAILED) from None  # finished segments are kept
    except KeyboardInterrupt as stop:  # Ctrl-C after the first one, or while the segments are joined
        way = f"{same_command()} resumes with them" if work.source.path else "they can be played"
        kept = f"; the finished segments are in {job.folder}, and {way}" if holds_a_job(job.output) else ""
        raise CommandError(f"stopped before {job.output} was written{kept}", exit_code(stop)) from None


def report(work: VideoCommand, outcome: VideoOutcome, output: Path) -> None:
    """Report the outcome of the video.

    Raises:
        CommandError: if the video is incomplete.
    """
    source, untypical, console = work.source, work.streaming.draw.otherwise, work.console
    _report_frames(source.name, outcome, untypical, console)
    frames = counted(outcome.frames, "frame")
    kept = f"the typical ones of {frames}" if untypical == "drop" else frames
    way = f"; {same_command()} {where_resumed(outcome.finished)}" if holds_a_job(output) else ""
    result = STANDARD_OUTPUT if is_pipe(output) else output
    where = f"; {result} contains {kept}{way}"
    if outcome.frames and not outcome.written:
        raise CommandError(f"{output} was not written: all {frames} are untypical and were dropped", FAILED)
    if outcome.ended_early is not None:
        raise CommandError(f"{outcome.ended_early}{where}", FAILED)
    if not outcome.frames:
        code = exit_code(outcome.stopped) if outcome.stopped else FAILED
        raise CommandError("stopped before the first frame, so nothing was written", code)
    if outcome.stopped and not isinstance(source, LiveSource):
        raise CommandError(f"stopped after {frames}{where}", exit_code(outcome.stopped))
    done = f"{source.name} → {result}  {frames}"
    if is_pipe(output) and not console.as_json:
        console.message(done)
    elif not console.as_json:
        console.result(done)


def _report_frames(source: str, outcome: VideoOutcome, otherwise: Otherwise, console: CommandConsole) -> None:
    """Print warnings about frames, and about what of the source was not kept."""
    for line in outcome.lost:
        console.warning(f"{source}: {line}")
    if outcome.rejected:
        console.warning(f"{outcome.rejected} frames were replaced by the enlarged input: no sample was finite")
    if outcome.untypical:
        what = {"drop": "dropped", "bicubic": "replaced by the enlarged input"}.get(otherwise, "marked")
        console.warning(f"{outcome.untypical} frames are untypical: {what}")
    if outcome.dropped:
        console.warning(f"{outcome.dropped} frames arrived too fast and were dropped")
