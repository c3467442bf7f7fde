"""Work of `caflow video`: an opened source, and how its frames are drawn: in this process or by workers."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from caflow_cli.command_error import ERROR_CODE, FAILED, CommandError
from caflow_cli.console import CommandConsole
from caflow_cli.stops import exit_code
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.pipes import is_pipe
from caflow_deploy.commands.video_input import LiveOptions
from caflow_deploy.commands.video_progress import FrameProgress, Watcher, line_of_earlier, line_of_video
from caflow_deploy.jobs.executor import Executor
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_deploy.video.encoding import Encoding, check_size
from caflow_deploy.video.enlarge_video import sides_of, video_job
from caflow_deploy.video.estimate import estimate_video
from caflow_deploy.video.frame_source import Source, VideoInfo
from caflow_deploy.video.job import VideoDrawing, VideoJob, VideoOutcome
from caflow_deploy.video.pipe import PipeWriter
from caflow_deploy.video.segment_plan import Plan, plan_segments
from caflow_deploy.video.segment_store import SegmentRecord, VideoSettings
from caflow_deploy.video.segments import draw_segment
from caflow_deploy.video.video_options import VideoOptions
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.estimates import check_memory
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Stream, StreamSettings


@dataclass(frozen=True)
class VideoCommandOptions:
    """Values of the options of the command."""

    draw: DrawOptions
    video: VideoOptions
    live: LiveOptions
    execution: ExecutionOptions
    metrics_port: int | None

    def check(self, output: Path) -> None:
        """End the command if options contradict each other."""
        if self.video.batch > 1 and self.video.noise != "fixed":
            raise click.UsageError(
                "--batch requires --noise fixed: other frames are computed one by one; remove --batch"
            )
        self.execution.refuse(
            {
                "--metrics": self.metrics_port is not None,
                "-o -": is_pipe(output),
                "--encoder nvenc": self.video.encoder == "nvenc",
            }
        )

    def writer(self, out: BinaryIO, info: VideoInfo) -> PipeWriter:
        """Return the writer of frames to standard output. They are not encoded.

        Raises:
            InputError: if --codec or --preset is given, or the pixel format is not supported.
        """
        if self.video.codec is not None or self.video.preset is not None:
            raise InputError("-o - writes frames that are not encoded; remove --codec and --preset")
        return PipeWriter(out, info, self.video.pixel_format)


@dataclass(frozen=True)
class VideoCommand:
    """An opened source, and how its frames are drawn."""

    pipe: Pipeline
    source: Source
    streaming: StreamSettings
    options: VideoCommandOptions
    console: CommandConsole

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the result. They are swapped if frames are rotated, which only decoding shows."""
        return sides_of(self.pipe, self.source.info, self.streaming)

    def job(self, output: Path) -> VideoJob:
        """Return the job that writes a file.

        Raises:
            InputError: if the encoding does not fit the file, or if workers cannot read the source.
        """
        source, is_spread = self.source, self.options.execution.is_spread
        job = video_job(self.pipe, source, output, self.streaming, self.options.video, not is_spread)
        if is_spread and (source.path is None or job.settings.rate):
            what = "live" if source.path is None else "not a single file"
            raise InputError(f"{source.name} is {what}: --workers and --ray require a video file")
        return job

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
        info, execution = self.source.info, self.options.execution
        processes = execution.workers or 1 if execution.ray is None else 1
        codec = None if encoding is None or encoding.hardware else encoding.codec
        given = info.height, info.width
        need = estimate_video(self.pipe, self.streaming, given, self.sides, codec, info.has_alpha)
        if dry_run or self.console.shows_messages:
            report = self.console.summary if dry_run else self.console.message
            drawn = sum(record.frames for record in earlier.values())
            to_time = None if execution.is_spread else drawn
            report(line_of_video(self.source.name, need, info, processes, to_time))
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
            final = self.streaming.final_size(first.image.shape[:2], self.pipe.manifest.model.scale)
            if encoding is not None:
                check_size(encoding, final.height, final.width)


def draw_by_workers(work: VideoCommand, job: VideoJob, force: bool) -> VideoOutcome:
    """Write the output of a job whose source is a file. Segments that are finished already are not drawn again.

    Raises:
        CaflowError, OSError: if the job cannot be started, or the output cannot be written.
        CommandError: if the command is stopped while it plans the segments.
    """
    assert job.source.path is not None
    with exclusive_lock(job.folder), work.options.execution.open_executor(job.pipe) as executor:
        pipeline = work.options.execution.settings(job.pipe, executor)
        job.settings = msgspec.structs.replace(job.settings, pipeline=pipeline)
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
        watcher = Watcher.open(stack, work.pipe, work.source, work.options.metrics_port, work.console)
        job.show, job.show_dropped = watcher.show, watcher.show_dropped
        return job.run(force)


def draw_to_stream(work: VideoCommand, writer: PipeWriter) -> VideoOutcome:
    """Write frames to a pipe. They cannot be resumed."""
    outcome = VideoOutcome()
    with ExitStack() as stack:
        watcher = Watcher.open(stack, work.pipe, work.source, work.options.metrics_port, work.console)
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
