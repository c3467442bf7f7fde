"""`caflow video` with workers: this process plans and joins the video, workers draw its segments."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from caflow_cli.command_error import CommandError
from caflow_cli.console import CommandConsole
from caflow_cli.stops import exit_code
from caflow_deploy.cluster.executor import Executor
from caflow_deploy.commands.video_command import VideoCommand
from caflow_deploy.commands.video_progress import FrameProgress
from caflow_runtime.jobs.folder import exclusive_lock
from caflow_runtime.video.job import VideoJob, VideoOutcome
from caflow_runtime.video.segment_plan import Plan, plan_segments
from caflow_runtime.video.segment_store import SegmentRecord, VideoSettings
from caflow_runtime.video.segments import draw_segment


def draw_by_workers(work: VideoCommand, job: VideoJob, force: bool) -> VideoOutcome:
    """Write the output of a job whose source is a file. Segments that are finished already are not drawn again.

    Raises:
        CaflowError, OSError: if the job cannot be started, or the output cannot be written.
        CommandError: if the command is stopped while it plans the segments.
    """
    assert job.source.path is not None
    with exclusive_lock(job.folder), work.execution.open_executor(job.pipe) as executor:
        job.settings = msgspec.structs.replace(job.settings, pipeline=work.execution.settings(job.pipe, executor))
        records = job.open(force)
        planned = _plan(job.source.path, job.settings, job.source.info.frames, work.console)
        outcome = job.take(_drawn(executor, job, planned, records, work.console), records)
    outcome.ended_early = outcome.ended_early or planned.ended_early
    return outcome


def _plan(source: Path, settings: VideoSettings, frames: int | None, console: CommandConsole) -> Plan:
    with console.progress_bar() as bar:
        task = bar.add_task("planning", total=frames)
        try:
            return plan_segments(
                source,
                settings.segment_frames,
                lambda done: bar.update(task, completed=done),
                settings.cut,
                settings.encoding.has_alpha,
            )
        except KeyboardInterrupt as stop:
            text = f"stopped while {source} was being divided into segments; the same command begins with that again"
            raise CommandError(text, exit_code(stop)) from None


def _drawn(
    executor: Executor, job: VideoJob, planned: Plan, records: Mapping[int, SegmentRecord], console: CommandConsole
) -> Iterator[SegmentRecord]:
    """Yield the segments that workers draw, in any order, and report each.

    Raises:
        WorkerLost: if every worker that tried a segment died.
    """
    assert job.source.path is not None
    source, parts = job.source.path.absolute(), job.folder.absolute()  # workers may have other working directories
    streaming, encoding = job.settings.streaming, job.settings.encoding
    draw = partial(draw_segment, source=source, settings=streaming, encoding=encoding, folder=parts)
    left = [segment for segment in planned.segments if segment.number not in records]
    done = planned.frames - sum(len(segment.frames.ticks) for segment in left)
    with console.progress_bar() as bar:
        task = bar.add_task("frames", total=planned.frames, completed=done)
        lines = FrameProgress(console.message if bar.disable else None, job.source.name, planned.frames)
        for record in executor.results(draw, left, lambda segment: f"segment {segment.number}"):
            yield record
            done += record.frames
            lines.done(done)
            bar.update(task, completed=done)
            if console.as_json:
                console.result(msgspec.json.encode(record).decode())
