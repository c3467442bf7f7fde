"""Outcome of `caflow video`: warnings, the last line and the exit code."""

from pathlib import Path

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, counted, same_command
from caflow_cli.stops import exit_code
from caflow_deploy.commands.pipes import STANDARD_OUTPUT, is_pipe
from caflow_deploy.commands.video_command import VideoCommand
from caflow_deploy.video.job import VideoOutcome, where_resumed
from caflow_deploy.video.live import LiveSource
from caflow_deploy.video.segment_store import holds_a_job
from caflow_runtime.batching.draw_options import Otherwise


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
