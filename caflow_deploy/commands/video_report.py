"""Outcome of `caflow video`: warnings, the last line and the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from caflow_deploy.commands.pace import Saying
from caflow_deploy.commands.standard_streams import STANDARD_OUTPUT, is_pipe
from caflow_deploy.commands.terminal import FAILED, counted, end
from caflow_deploy.stops import exit_code
from caflow_runtime.video.job import VideoDrawing
from caflow_runtime.video.live import LiveSource
from caflow_runtime.video.parts import holds_a_job


@dataclass(frozen=True)
class Outcome:
    """A video that was drawn in this process, maybe not to its end."""

    drawing: VideoDrawing
    lost: Sequence[str]
    """Properties of the source that could not be kept, one line each."""


def report(outcome: Outcome, output: Path | None, as_json: bool, saying: Saying) -> None:
    """Report the outcome of the video. If it is incomplete, end the command with its exit code."""
    drawing, untypical = outcome.drawing, outcome.drawing.stream.settings.untypical
    frames = counted(drawing.frames, "frame")
    report_frames(drawing.source.name, outcome.lost, drawing.rejected, drawing.untypical, untypical, saying)
    if drawing.dropped:
        saying.warn(f"{drawing.dropped} frames arrived too fast and were dropped")
    kept = f"the typical ones of {frames}" if untypical == "drop" else frames
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
        end(f"stopped after {frames}{where}", exit_code(drawing.stopped))
    done = f"{drawing.source.name} → {result or 'a window'}  {frames}"
    if is_pipe(output) and not as_json:
        saying.say(done)
    elif not as_json:
        click.echo(done)


def report_frames(
    source: str, lost: Sequence[str], rejected: int, untypical: int, became: str | None, saying: Saying
) -> None:
    """Print warnings about a video.

    Arguments:
        source: name of the source.
        lost: a line for each thing of the source that was not kept.
        rejected: number of frames for which no sample was finite.
        untypical: number of untypical frames.
        became: value of --untypical.
    """
    for line in lost:
        saying.warn(f"{source}: {line}")
    if rejected:
        saying.warn(f"{rejected} frames were replaced by the enlarged input: no sample was finite")
    if untypical:
        what = {"drop": "dropped", "bicubic": "replaced by the enlarged input"}.get(became or "", "marked")
        saying.warn(f"{untypical} frames are untypical: {what}")
