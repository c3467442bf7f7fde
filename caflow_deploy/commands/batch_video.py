"""A video of `caflow batch`: planned here, its segments drawn by workers, joined here."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from caflow_deploy.cluster.batch import Fleet
from caflow_deploy.commands.terminal import FAILED, end, progress_bar
from caflow_deploy.commands.video import check_overwriting, encoding_of
from caflow_runtime.errors import CaflowError
from caflow_runtime.jobs.folder import alone
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.segment_folder import open_folder, remove_folder, settings_of
from caflow_runtime.video.segment_plan import Plan, Segment, plan
from caflow_runtime.video.segments import Report, draw_segment, join_segments
from caflow_runtime.video.sink import Encoding, check_output
from caflow_runtime.video.source import FileSource


def draw_video(
    pipe: Pipeline,
    opening: AbstractContextManager[Fleet],
    source: Path,
    output: Path,
    settings: StreamSettings,
    codec: Any,
    crf: int,
    segment_frames: int,
    as_json: bool,
    force: bool,
    tiling: dict[str, int | None],
) -> None:
    """Write `output`, or what could be done of it; segments that are there, of the same settings, are not drawn again.

    Raises:
        CaflowError, OSError: before anything is drawn.
    """

    check_overwriting(output, str(source), force)
    pipe.open_stream(settings)  # checks them
    opened = FileSource(source)
    encoding = encoding_of(codec, crf, "software", opened.info, pipe)
    check_output(output, encoding.codec, crf)
    folder = output.with_name(f"{output.name}.segments")
    stdout = sys.stdout  # kept: Ray's messages go elsewhere in the meantime
    with alone(folder), opening as fleet:
        others = {"backend": fleet.backend, **tiling}
        open_folder(folder, settings_of(pipe, source, settings, encoding, segment_frames, **others), force)
        with progress_bar() as progress:
            task = progress.add_task("planning", total=opened.info.frames)
            planned = plan(source, segment_frames, lambda done: progress.update(task, completed=done))
        reports = _draw(fleet, planned, source, settings, encoding, folder, stdout if as_json else None)
        lost = _join(reports, encoding, folder, source, output)
    _report(reports, planned, lost, source, output, settings, as_json)


def draw(
    pipe: Pipeline, segment: Segment, source: Path, settings: StreamSettings, encoding: Encoding, folder: Path
) -> Report:
    """What a worker does."""

    return draw_segment(pipe, source, segment, settings, encoding, folder)


def _draw(
    fleet: Fleet,
    planned: Plan,
    source: Path,
    settings: StreamSettings,
    encoding: Encoding,
    folder: Path,
    lines: IO[str] | None,
) -> list[Report]:
    """Reports, in any order; each is also a line of JSON in `lines`."""

    reports: list[Report] = []
    count = len(planned.segments)
    do = partial(draw, source=source, settings=settings, encoding=encoding, folder=folder)
    try:
        with progress_bar() as progress:
            task = progress.add_task("frames", total=planned.frames)
            for segment, report in fleet.run(do, planned.segments, most_in_part=1):
                if report is None:
                    way = "give fewer --workers, or begin anew, by --force, with a --pixel-budget"
                    end(f"segment {segment.number}: its worker died each time: {way}", FAILED)
                reports.append(report)
                progress.advance(task, report.frames)
                if lines:
                    click.echo(msgspec.json.encode(report), lines)
    except KeyboardInterrupt:
        end(f"stopped after {len(reports)} of {count} segments: run the same command again to resume", FAILED)
    except (CaflowError, OSError) as error:
        end(f"{error}: {len(reports)} of {count} segments are done; run the same command again to resume", FAILED)
    return reports


def _join(reports: Sequence[Report], encoding: Encoding, folder: Path, source: Path, output: Path) -> list[str]:
    """The video in place of its segments; what could not be kept of the source."""

    try:
        lost = join_segments(reports, encoding, folder, source, output)
    except (CaflowError, OSError) as error:
        end(f"{error}: the segments are in {folder}; run the same command again to resume", FAILED)
    remove_folder(folder)
    return lost


def _report(
    reports: Sequence[Report],
    planned: Plan,
    lost: Sequence[str],
    source: Path,
    output: Path,
    settings: StreamSettings,
    as_json: bool,
) -> None:
    """What became of it."""
    for line in lost:
        click.echo(f"caflow: {source}: {line}", err=True)
    if rejected := sum(report.rejected for report in reports):
        click.echo(f"caflow: {rejected} frames are the input, enlarged: no sample was finite", err=True)
    if untypical := sum(report.untypical for report in reports):
        became = {"drop": "left out", "bicubic": "the input, enlarged"}.get(settings.untypical, "marked")
        click.echo(f"caflow: {untypical} frames are untypical: {became}", err=True)
    if planned.ended_early:
        end(f"{planned.ended_early}; {output} holds {planned.frames} frames", FAILED)
    if not as_json:
        click.echo(f"{source} → {output}  {planned.frames} frames")
