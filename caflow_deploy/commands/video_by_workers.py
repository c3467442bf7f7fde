"""`caflow video` with workers: this process plans and joins the video, workers draw its segments."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec

from caflow_deploy.cluster.fleet import Fleet, Work
from caflow_deploy.commands.pace import Saying
from caflow_deploy.commands.terminal import FAILED, counted, end, progress_bar
from caflow_deploy.commands.video_progress import FrameProgress
from caflow_deploy.commands.video_report import report_frames
from caflow_deploy.commands.video_work import VideoWork
from caflow_deploy.stops import exit_code
from caflow_runtime.errors import BackendError, CaflowError, told
from caflow_runtime.jobs.folder import alone
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.video.job import VideoJob
from caflow_runtime.video.parts import Record, Report, VideoSettings, open_parts, read_records, remove_parts
from caflow_runtime.video.segment_plan import Plan, Segment, plan_segments
from caflow_runtime.video.segments import draw_segment, join_segments

AGAIN = "run the same command again to resume"


def draw_by_workers(work: VideoWork, job: VideoJob, force: bool) -> None:
    """Write the output of a job whose source is a file. Segments that are finished already are not drawn again.

    Raises:
        CaflowError, OSError: if the job cannot be started. Later errors end the command.
    """
    assert job.source.path is not None
    running, saying, as_json = work.running, work.saying, work.watching.as_json
    source, parts = job.source.path.absolute(), job.parts.absolute()  # workers may have other working directories
    stdout = sys.stdout  # the real one: while Ray runs, sys.stdout leads to standard error
    with alone(parts), running.open_fleet(job.pipe) as fleet:
        assert fleet is not None
        settings = msgspec.structs.replace(job.settings, pipeline=running.settings(job.pipe, fleet))
        open_parts(parts, settings, force)
        records = read_records(parts, settings, "workers")
        planned = _plan(source, settings, job.source.info.frames, saying)
        do = partial(draw_segment, source=source, settings=settings.streaming, encoding=settings.encoding, folder=parts)
        reports: list[Report] = []
        with progress_bar(saying.quiet) as progress, _stopping(reports, len(planned.segments)):
            task = progress.add_task("frames", total=planned.frames)
            lines = FrameProgress(saying.say if progress.disable else None, job.source.name, planned.frames)
            for report in _reports(fleet, do, planned, records):
                reports.append(report)
                if report.drawn:
                    lines.done(sum(one.frames for one in reports))
                progress.advance(task, report.frames)
                if as_json:
                    click.echo(msgspec.json.encode(report), stdout)
        lost = _join(job, reports)
    _report(job, reports, planned, lost, as_json, saying)


def _plan(source: Path, settings: VideoSettings, frames: int | None, saying: Saying) -> Plan:
    with progress_bar(saying.quiet) as progress:
        task = progress.add_task("planning", total=frames)
        try:
            return plan_segments(
                source,
                settings.segment_frames,
                lambda done: progress.update(task, completed=done),
                settings.cut,
                settings.encoding.has_alpha,
            )
        except KeyboardInterrupt as stop:
            end(f"stopped while {source} was being divided into segments; {AGAIN}", exit_code(stop))


def _reports(
    fleet: Fleet, do: Callable[[Pipeline, Segment], Report], planned: Plan, records: Mapping[int, Record]
) -> Iterator[Report]:
    """Yield the reports of the segments that are finished already, then those of the others, in any order.

    Raises:
        BackendError: if every worker that tried a segment died.
    """
    for segment in planned.segments:
        if segment.number in records:
            yield msgspec.structs.replace(records[segment.number].report, drawn=False)
    left = [segment for segment in planned.segments if segment.number not in records]
    for segment, report in fleet.run(Work(do, left, most_in_part=1)):
        if report is None:
            raise BackendError(
                f"segment {segment.number}: every worker that tried it died, perhaps for lack of memory; give fewer "
                "--workers, or start again with --force and a smaller --pixel-budget"
            )
        yield report


@contextmanager
def _stopping(reports: Sequence[Report], count: int) -> Iterator[None]:
    """Report the number of finished segments if the block is stopped or fails, and end the command."""
    try:
        yield
    except KeyboardInterrupt as stop:
        end(f"stopped after {len(reports)} of {counted(count, 'segment')}; {AGAIN}", exit_code(stop))
    except (CaflowError, OSError) as error:
        end(f"{told(error)}: {len(reports)} of {counted(count, 'segment')} finished; {AGAIN}", FAILED)


def _join(job: VideoJob, reports: Sequence[Report]) -> list[str]:
    """Join the segments to the video and remove them. Return a line for each thing of the source that was not kept."""
    assert job.source.path is not None
    if all(report.start is None for report in reports):
        remove_parts(job.parts)
        frames = sum(report.frames for report in reports)
        end(f"{job.output} was not written: all {frames} frames are untypical and were dropped", FAILED)
    try:
        encoding, cut = job.settings.encoding, job.settings.cut
        lost = join_segments(reports, encoding, job.parts, job.source.path, job.output, cut)
    except (CaflowError, OSError) as error:
        end(f"{told(error)}: the segments are in {job.parts}; {AGAIN}", FAILED)
    remove_parts(job.parts)
    return lost


def _report(
    job: VideoJob, reports: Sequence[Report], planned: Plan, lost: Sequence[str], as_json: bool, saying: Saying
) -> None:
    """Report the outcome of the video, and end the command if the source ended early."""
    rejected, untypical = sum(one.rejected for one in reports), sum(one.untypical for one in reports)
    report_frames(str(job.source.path), lost, rejected, untypical, job.settings.streaming.untypical, saying)
    if planned.ended_early is not None:
        end(f"{planned.ended_early}; {job.output} contains {counted(planned.frames, 'frame')}", FAILED)
    if not as_json:
        click.echo(f"{job.source.path} → {job.output}  {counted(planned.frames, 'frame')}")
