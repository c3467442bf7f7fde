"""Outcome of `caflow video`: warnings, the last line and the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caflow_deploy.command_error import FAILED, CommandError
from caflow_deploy.commands.standard_streams import STANDARD_OUTPUT, is_pipe
from caflow_deploy.console import CommandConsole, counted, same_command
from caflow_deploy.stops import exit_code
from caflow_runtime.video.job import VideoDrawing, where_resumed
from caflow_runtime.video.live import LiveSource
from caflow_runtime.video.parts import holds_a_job


@dataclass(frozen=True)
class Outcome:
    """A video that was drawn in this process, maybe not to its end."""

    drawing: VideoDrawing
    lost: Sequence[str]
    """Properties of the source that could not be kept, one line each."""


def report(outcome: Outcome, output: Path | None, console: CommandConsole) -> None:
    """Report the outcome of the video.

    Raises:
        CommandError: if the video is incomplete.
    """
    drawing, untypical = outcome.drawing, outcome.drawing.stream.settings.untypical
    frames = counted(drawing.frames, "frame")
    report_frames(drawing.source.name, outcome.lost, drawing.rejected, drawing.untypical, untypical, console)
    if drawing.dropped:
        console.warning(f"{drawing.dropped} frames arrived too fast and were dropped")
    kept = f"the typical ones of {frames}" if untypical == "drop" else frames
    way = f"; {same_command()} {where_resumed(drawing.finished)}" if output and holds_a_job(output) else ""
    result = STANDARD_OUTPUT if is_pipe(output) else output
    where = f"; {result} contains {kept}{way}" if output else ""
    if output and drawing.frames and not drawing.written:
        raise CommandError(f"{output} was not written: all {frames} are untypical and were dropped", FAILED)
    if drawing.ended_early is not None:
        raise CommandError(f"{drawing.ended_early}{where}", FAILED)
    if output and not drawing.frames:
        code = exit_code(drawing.stopped) if drawing.stopped else FAILED
        raise CommandError("stopped before the first frame, so nothing was written", code)
    if drawing.stopped and not isinstance(drawing.source, LiveSource):
        raise CommandError(f"stopped after {frames}{where}", exit_code(drawing.stopped))
    done = f"{drawing.source.name} → {result or 'a window'}  {frames}"
    if is_pipe(output) and not console.as_json:
        console.message(done)
    elif not console.as_json:
        console.result(done)


def report_frames(
    source: str, lost: Sequence[str], rejected: int, untypical: int, became: str | None, console: CommandConsole
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
        console.warning(f"{source}: {line}")
    if rejected:
        console.warning(f"{rejected} frames were replaced by the enlarged input: no sample was finite")
    if untypical:
        what = {"drop": "dropped", "bicubic": "replaced by the enlarged input"}.get(became or "", "marked")
        console.warning(f"{untypical} frames are untypical: {what}")
