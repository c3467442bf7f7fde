"""`caflow video` without workers: frames are drawn in this process, to a file or to a pipe."""

from contextlib import ExitStack

import click

from caflow_cli.command_error import ERROR_CODE, FAILED
from caflow_deploy.commands.video_command import VideoCommand
from caflow_deploy.commands.video_watching import Watcher
from caflow_runtime.pipeline.stream import Stream
from caflow_runtime.video.job import VideoDrawing, VideoJob, VideoOutcome
from caflow_runtime.video.pipe import PipeWriter


def draw_to_file(work: VideoCommand, job: VideoJob, force: bool) -> VideoOutcome:
    """Write the output of a job, or resume it."""
    with ExitStack() as stack:
        watcher = Watcher.open(stack, work.pipe, work.source, work.metrics_port, work.console)
        job.show, job.show_dropped = watcher.show, watcher.show_dropped
        return job.run(force)


def draw_to_stream(work: VideoCommand, writer: PipeWriter) -> VideoOutcome:
    """Write frames to a pipe. They cannot be resumed."""
    outcome = VideoOutcome()
    with ExitStack() as stack:
        watcher = Watcher.open(stack, work.pipe, work.source, work.metrics_port, work.console)
        stream = Stream(work.pipe, work.streaming)
        drawing = VideoDrawing(work.pipe, work.source, stream, watcher.show, watcher.show_dropped)
        try:
            with drawing.reading():
                for frame, timed in drawing.draw():
                    click.get_current_context().meta[ERROR_CODE] = FAILED  # some of the work is done
                    writer.write(frame.pixels, timed.ticks)
                    outcome.frames += 1
                    outcome.rejected += frame.rejected
                    outcome.untypical += frame.untypical
        except KeyboardInterrupt as stop:
            outcome.stopped = stop
    outcome.written = outcome.frames
    outcome.dropped, outcome.ended_early = drawing.dropped, drawing.ended_early
    outcome.lost = writer.lost
    return outcome
