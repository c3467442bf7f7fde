"""`caflow video` without workers: frames are drawn in this process, to a file, to a pipe or only to a window."""

from contextlib import ExitStack

import click

from caflow_deploy.command_error import ERROR_CODE, FAILED, CommandError
from caflow_deploy.commands.video_report import Outcome
from caflow_deploy.commands.video_work import VideoWork
from caflow_deploy.console import same_command
from caflow_deploy.stops import exit_code
from caflow_runtime.pipeline.stream import Frame, Stream
from caflow_runtime.video.job import VideoDrawing, VideoJob
from caflow_runtime.video.parts import holds_a_job
from caflow_runtime.video.pipe import PipeWriter
from caflow_runtime.video.source import TimedFrame, UnwritableVideo


def draw_to_file(work: VideoWork, job: VideoJob, force: bool) -> Outcome:
    """Write the output of a job, or resume it."""
    with ExitStack() as stack:
        watcher = work.watching.open(stack, work.pipe, work.source, work.console)
        job.show, job.show_dropped = watcher.show, watcher.show_dropped
        try:
            return Outcome(job.run(force), job.lost)
        except UnwritableVideo as error:
            raise CommandError(str(error), FAILED) from None  # finished segments are kept
        except KeyboardInterrupt as stop:  # Ctrl-C after the first one, or while the segments are joined
            way = f"{same_command()} resumes with them" if work.source.path else "they can be played"
            kept = f"; the finished segments are in {job.parts}, and {way}" if holds_a_job(job.output) else ""
            raise CommandError(f"stopped before {job.output} was written{kept}", exit_code(stop)) from None


def draw_to_stream(work: VideoWork, writer: PipeWriter | None) -> Outcome:
    """Draw frames that cannot be resumed.

    Arguments:
        writer: writer to standard output; None if frames are only shown.
    """
    with ExitStack() as stack:
        watcher = work.watching.open(stack, work.pipe, work.source, work.console)

        def take(frame: Frame, timed: TimedFrame) -> None:
            click.get_current_context().meta[ERROR_CODE] = FAILED  # some of the work is done
            if writer is not None:
                writer.write(frame.pixels, timed.ticks)

        stream = Stream(work.pipe, work.streaming)
        drawing = VideoDrawing(work.pipe, work.source, stream, watcher.show, watcher.show_dropped)
        drawing.run(take)
    drawing.written = drawing.frames
    return Outcome(drawing, [] if writer is None else writer.lost)
