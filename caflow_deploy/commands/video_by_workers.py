"""`caflow video` with workers: this process plans and joins the video, workers draw its segments."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from caflow_deploy.cluster.executor import Executor, WorkerLost
from caflow_deploy.command_error import FAILED, CommandError
from caflow_deploy.commands.video_progress import FrameProgress
from caflow_deploy.commands.video_report import report_frames
from caflow_deploy.commands.video_work import VideoWork
from caflow_deploy.console import CommandConsole, counted, resuming, same_command
from caflow_deploy.stops import exit_code
from caflow_runtime.errors import CaflowError, told
from caflow_runtime.jobs.folder import exclusive_lock
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.video.job import VideoJob
from caflow_runtime.video.parts import Record, Report, VideoSettings, open_parts, read_records, remove_parts
from caflow_runtime.video.segment_plan import Plan, Segment, plan_segments
from caflow_runtime.video.segments import draw_segment, join_segments


def draw_by_workers(work: VideoWork, job: VideoJob, force: bool) -> None:
    """Write the output of a job whose source is a file. Segments that are finished already are not drawn again.

    Raises:
        CaflowError, OSError: if the job cannot be started.
        CommandError: for stops and later errors.
    """
    assert job.source.path is not None
    running, console = work.running, work.console
    source, parts = job.source.path.absolute(), job.parts.absolute()  # workers may have other working directories
    with exclusive_lock(parts), running.open_executor(job.pipe) as executor:
        settings = msgspec.structs.replace(job.settings, pipeline=running.settings(job.pipe, executor))
        open_parts(parts, settings, force)
        records = read_records(parts, settings, "workers")
        planned = _plan(source, settings, job.source.info.frames, console)
        do = partial(draw_segment, source=source, settings=settings.streaming, encoding=settings.encoding, folder=parts)
        reports: list[Report] = []
        with console.progress_bar() as bar, _stopping(reports, len(planned.segments)):
            task = bar.add_task("frames", total=planned.frames)
            lines = FrameProgress(console.message if bar.disable else None, job.source.name, planned.frames)
            for report in _reports(executor, do, planned, records):
                reports.append(report)
                if report.drawn:
                    lines.done(sum(one.frames for one in reports))
                bar.advance(task, report.frames)
                if console.as_json:
                    console.result(msgspec.json.encode(report).decode())
        lost = _join(job, reports)
    _report(job, reports, planned, lost, console)


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


def _reports(
    executor: Executor, do: Callable[[Pipeline, Segment], Report], planned: Plan, records: Mapping[int, Record]
) -> Iterator[Report]:
    """Yield the reports of the segments that are finished already, then those of the others, in any order.

    Raises:
        WorkerLost: if every worker that tried a segment died.
    """
    for segment in planned.segments:
        if segment.number in records:
            yield msgspec.structs.replace(records[segment.number].report, drawn=False)
    left = [segment for segment in planned.segments if segment.number not in records]
    for _, report in executor.run(do, left, lambda segment: f"segment {segment.number}"):
        if isinstance(report, WorkerLost):
            raise report
        yield report


@contextmanager
def _stopping(reports: Sequence[Report], count: int) -> Iterator[None]:
    """Raise a `CommandError` that names the number of finished segments if the block is stopped or fails."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise CommandError(f"stopped: {resuming(len(reports), count, 'segment')}", exit_code(stop)) from None
    except (CaflowError, OSError) as error:
        raise CommandError(f"{told(error)}: {resuming(len(reports), count, 'segment')}", FAILED) from None


def _join(job: VideoJob, reports: Sequence[Report]) -> list[str]:
    """Join the segments to the video and remove them. Return a line for each thing of the source that was not kept."""
    assert job.source.path is not None
    if all(report.start is None for report in reports):
        remove_parts(job.parts)
        frames = sum(report.frames for report in reports)
        raise CommandError(f"{job.output} was not written: all {frames} frames are untypical and were dropped", FAILED)
    try:
        encoding, cut = job.settings.encoding, job.settings.cut
        lost = join_segments(reports, encoding, job.parts, job.source.path, job.output, cut)
    except (CaflowError, OSError) as error:
        raise CommandError(
            f"{told(error)}: all segments are finished and kept in {job.parts}; {same_command()} joins them", FAILED
        ) from None
    remove_parts(job.parts)
    return lost


def _report(
    job: VideoJob, reports: Sequence[Report], planned: Plan, lost: Sequence[str], console: CommandConsole
) -> None:
    """Report the outcome of the video. Raise a `CommandError` if the source ended early."""
    rejected, untypical = sum(one.rejected for one in reports), sum(one.untypical for one in reports)
    report_frames(str(job.source.path), lost, rejected, untypical, job.settings.streaming.untypical, console)
    if planned.ended_early is not None:
        raise CommandError(f"{planned.ended_early}; {job.output} contains {counted(planned.frames, 'frame')}", FAILED)
    if not console.as_json:
        console.result(f"{job.source.path} → {job.output}  {counted(planned.frames, 'frame')}")
