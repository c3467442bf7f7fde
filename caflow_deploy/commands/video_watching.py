"""Frames of `caflow video` while it runs: progress, JSON lines and metrics."""

import json
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caflow_cli.console import CommandConsole
from caflow_deploy.commands.video_progress import FrameProgress
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.frame_source import CLOCK, Source, TimedFrame


@dataclass(frozen=True)
class Watcher:
    """Shows the frames of a video while they are drawn."""

    bar: Progress
    lines: FrameProgress
    console: CommandConsole
    metrics: Metrics | None

    @classmethod
    def open(
        cls, stack: ExitStack, pipe: Pipeline, source: Source, metrics_port: int | None, console: CommandConsole
    ) -> Self:
        """Open the progress bar, and serve the metrics if a port is given. Both close with the stack."""
        metrics = None
        if metrics_port is not None:
            metrics = stack.enter_context(Metrics(pipe))
            metrics.serve(metrics_port)
        status = TextColumn("{task.fields[status]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), status, TimeRemainingColumn()
        bar = stack.enter_context(console.progress_bar(*columns))
        lines = FrameProgress(console.message if bar.disable else None, source.name, source.info.frames)
        bar.add_task("frames", total=source.info.frames, status="")
        return cls(bar, lines, console, metrics)

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
