"""Frames of `caflow video` while it runs: progress, JSON lines, metrics and a player."""

import json
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caflow_cli.console import CommandConsole
from caflow_deploy.commands.output_options import open_metrics
from caflow_deploy.commands.video_progress import FrameProgress
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.frame_source import CLOCK, Source, TimedFrame
from caflow_runtime.video.player import Player


@dataclass(frozen=True)
class WatchingOptions:
    """Values of the options about frames that are shown while the command runs."""

    show: bool
    metrics_port: int | None

    def open(self, stack: ExitStack, pipe: Pipeline, source: Source, console: CommandConsole) -> "Watcher":
        """Serve the metrics, and open the progress bar and the player. They close with the stack."""
        metrics = open_metrics(stack, self.metrics_port, pipe, None, measures_drift=False)
        status = TextColumn("{task.fields[status]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), status, TimeRemainingColumn()
        bar = stack.enter_context(console.progress_bar(*columns))
        lines = FrameProgress(console.message if bar.disable else None, source.name, source.info.frames)
        bar.add_task("frames", total=source.info.frames, status="")
        player = Player(source.info) if self.show else None
        if player is not None:
            stack.callback(player.close)
        return Watcher(bar, lines, console, metrics, player)


@dataclass(frozen=True)
class Watcher:
    """Shows the frames of a video while they are drawn."""

    bar: Progress
    lines: FrameProgress
    console: CommandConsole
    metrics: Metrics | None
    player: Player | None

    def show(self, frame: Frame, timed: TimedFrame) -> None:
        """Show a finished frame, and the frame of the source that it was made from."""
        self.lines.done(frame.number + 1)
        (task,) = self.bar.tasks
        status = f"{task.speed or 0.0:.2f} frames/s  {frame.bits_per_dim:.3f} bits/dim"
        self.bar.update(task.id, completed=frame.number + 1, status=status)
        if self.console.as_json:
            self.console.result(json.dumps(_entry(frame, timed), allow_nan=False))
        if self.metrics is not None:
            self.metrics.observe_frame(frame)
        if self.player is not None and not self.player.show(frame, timed):
            raise KeyboardInterrupt  # closing the player ends the video as Ctrl-C does

    def show_dropped(self, frames: int) -> None:
        """Count frames that a live source dropped."""
        if self.metrics is not None:
            self.metrics.observe_dropped(frames)


def _entry(frame: Frame, timed: TimedFrame) -> dict[str, Any]:
    """Return the JSON object of a frame."""
    entry: dict[str, Any] = {
        "frame": frame.number,
        "seconds": float(timed.ticks * CLOCK),
        "latency": time.monotonic() - timed.captured,
        "log_likelihood": _number(frame.log_likelihood),
        "bits_per_dim": _number(frame.bits_per_dim),
        "sample": frame.sample,
        "starts_scene": frame.starts_scene,
        "rejected": frame.rejected,
        "sample_typicality": None if frame.sample_typicality is None else _number(frame.sample_typicality),
        "untypical": frame.untypical,
    }
    if frame.drawn_sides is not None:
        height, width = frame.drawn_sides
        entry["likelihood_of"] = {"width": width, "height": height}
    return entry


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
