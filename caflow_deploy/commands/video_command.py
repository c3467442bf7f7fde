"""Work of `caflow video`: an opened source, and how its frames are drawn: in this process or by workers."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import msgspec

from caflow_cli.command_error import ERROR_CODE, FAILED, CommandError
from caflow_cli.console import CommandConsole
from caflow_cli.stops import exit_code
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.video_progress import FrameProgress, Watcher, line_of_earlier, line_of_video
from caflow_deploy.jobs.executor import Executor
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_deploy.video.encoding import Encoding, check_size
from caflow_deploy.video.estimate import estimate_video
from caflow_deploy.video.frame_source import Source
from caflow_deploy.video.job import VideoDrawing, VideoJob, VideoOutcome
from caflow_deploy.video.pipe import PipeWriter
from caflow_deploy.video.segment_plan import Plan, plan_segments
from caflow_deploy.video.segment_store import SegmentRecord, VideoSettings
from caflow_deploy.video.segments import draw_segment
from caflow_runtime.pipeline.memory_estimate import check_memory
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Stream, StreamSettings


@dataclass(frozen=True)
class VideoCommand:
    """An opened source, and how its frames are drawn."""

    pipe: Pipeline
    source: Source
    streaming: StreamSettings
    execution: ExecutionOptions
    metrics_port: int | None
    console: CommandConsole

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the result. They are swapped if frames are rotated, which only decoding shows."""
        info, scale = self.source.info, self.pipe.manifest.model.scale
        if self.streaming.size is None:
            return scale * info.height, scale * info.width
        final = self.streaming.size.of(info.height, info.width, scale)
        return final.height, final.width

    def announce(self, encoding: Encoding | None, dry_run: bool, earlier: Mapping[int, SegmentRecord]) -> None:
        """Report the sizes, the memory required, and what earlier runs have drawn.

        In a dry run, this is the result, and the first frame is checked.

        Arguments:
            encoding: encoding of the result; None if it is not encoded.
            dry_run: whether nothing else is done.
            earlier: segments that earlier runs have finished, by their numbers.

        Raises:
            TooLittleMemory: if there is too little memory.
            InputError: if the result of the first frame cannot have the requested size.
            UnreadableVideo: if no frame can be read.
        """
        info, processes = self.source.info, self.execution.workers or 1 if self.execution.ray is None else 1
        codec = None if encoding is None or encoding.hardware else encoding.codec
        given = info.height, info.width
        need = estimate_video(self.pipe, self.streaming, given, self.sides, codec, info.has_alpha)
        if dry_run or self.console.shows_messages:
            report = self.console.summary if dry_run else self.console.message
            drawn = sum(record.frames for record in earlier.values())
            report(line_of_video(self.source.name, need, info, processes, None if self.execution.is_spread else drawn))
            if drawn:
                report(line_of_earlier(self.source.name, info, earlier))
        check_memory([need.memory] * processes, processes, "use a smaller --batch or --width, or another --codec")
        if dry_run:
            self._check_first_frame(encoding)

    def _check_first_frame(self, encoding: Encoding | None) -> None:
        """Read the first frame, and check that its result can have the requested size.

        A frame is decoded, because the properties of a source do not include its rotation.
        """
        first = next(self.source.frames(), None)
        if first is not None:
            final = self.streaming.final_size(first.image, self.pipe.manifest.model.scale)
            if encoding is not None:
                check_size(encoding, final.height, final.width)


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


def draw_to_file(work: VideoCommand, job: VideoJob, force: bool) -> VideoOutcome:
    """Write the output of a job, or resume it."""
    with ExitStack() as stack:
        watcher = Watcher.open(stack, work.pipe, work.source, work.metrics_port, work.console)
        job.show, job.show_dropped = watcher.show, watcher.show_dropped
        return job.run(force)


def draw_to_stream(work: VideoCommand, writer: PipeWriter) -> VideoOutcome:
    """Write frames to a pipe. They cannot be resumed."""
    outcome = VideoOutcome()
    with ExitStack() as stack:
        watcher = Watcher.open(stack, work.pipe, work.source, work.metrics_port, work.console)
        stream = Stream(work.pipe, work.streaming)
        drawing = VideoDrawing(work.pipe, work.source, stream, watcher.show, watcher.show_dropped)
        try:
            with drawing.reading():
                for frame, timed in drawing.draw():
                    click.get_current_context().meta[ERROR_CODE] = FAILED  # some of the work is done
                    writer.write(frame.pixels, timed.ticks)
                    outcome.frames += 1
                    outcome.rejected += frame.rejected
                    outcome.untypical += frame.untypical
        except KeyboardInterrupt as stop:
            outcome.stopped = stop
    outcome.written = outcome.frames
    outcome.dropped, outcome.ended_early = drawing.dropped, drawing.ended_early
    outcome.lost = writer.lost
    return outcome
