"""Frames of `caflow video` while it runs: the plan, lines on standard error, JSON lines and metrics."""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caflow_cli.console import CommandConsole, counted
from caflow_deploy.commands.progress_reporter import ProgressReporter
from caflow_deploy.serving.metrics import Metrics
from caflow_deploy.video.estimate import VideoEstimate
from caflow_deploy.video.frame_source import CLOCK, WHOLE, Source, TimedFrame, VideoInfo
from caflow_deploy.video.job import where_resumed
from caflow_deploy.video.segment_store import SegmentRecord, first_missing
from caflow_runtime.available_memory import readable
from caflow_runtime.pipeline.estimates import duration
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame


def line_of_video(name: str, need: VideoEstimate, info: VideoInfo, processes: int, drawn: int | None) -> str:
    """Return the line about a video: frames, sizes, tiles and memory; the time, if it is known and not short.

    Arguments:
        processes: number of local processes that work at the same time.
        drawn: number of frames that earlier runs have drawn, which take no time; None if the time is not estimated.
    """
    (height, width), final = need.sides, need.final
    of_video = _frames_of(info) if info.frames else "frames"
    windows = f"{counted(need.stage.windows, 'tile')} each"
    memory = f"about {readable(processes * need.memory)} of memory"
    of_processes = f" in {processes} processes" if processes > 1 else ""
    work, time = need.stage.work * max(0, (info.frames or 0) - (drawn or 0)), ""
    if drawn is not None and need.trial.is_short_for(work):
        time = f", about {duration(need.trial.seconds(work))}"
    return f"{name}: {of_video} of {width}×{height} → {final[1]}×{final[0]} in {windows}, {memory}{of_processes}{time}"


def line_of_earlier(name: str, info: VideoInfo, earlier: Mapping[int, SegmentRecord]) -> str:
    """Return the line about the segments that earlier runs have finished, and about where this run resumes."""
    drawn = sum(record.frames for record in earlier.values())
    has_gaps = first_missing(earlier) < len(earlier)
    way = "draws the others" if has_gaps else where_resumed(drawn)
    of = f" of {_frames_of(info)}" if info.frames else " frames"
    return f"{name}: {drawn}{of} are drawn already; the command {way}"


def _frames_of(info: VideoInfo) -> str:
    """Return the number of frames, which is an estimate if only a part of the video is read."""
    return "about " * (info.cut != WHOLE) + counted(info.frames or 0, "frame")


class FrameProgress:
    """Lines about the finished frames of a video and the remaining time.

    The estimate of the remaining time ignores frames of an earlier run. It also ignores the first frames of this run,
    which are slow: graphs and encoders are loaded, and the sample of the scene is chosen.
    """

    def __init__(self, say: Callable[[str], None] | None, name: str, frames: int | None) -> None:
        """Start before the first frame.

        Arguments:
            say: function that prints a line; None if a progress bar is shown instead.
            name: name of the source.
            frames: number of frames of the video; None if it is unknown, and then no line is printed.
        """
        self.pace, self.name, self.frames = ProgressReporter(say), name, frames
        self._has_begun = False

    def done(self, count: int) -> None:
        """Record the number of finished frames, including those of an earlier run."""
        if not self.frames:
            return
        if not self._has_begun:
            self.pace.begin_at(count / self.frames)
        self._has_begun = True
        self.pace.tell(count / self.frames, f"{self.name}: {count} of {self.frames} frames")


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
