"""Work of `caflow video`: an opened source, and how its frames are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

from caflow_cli.console import CommandConsole
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.video_progress import line_of_earlier, line_of_video
from caflow_runtime.pipeline.memory_estimate import check_memory
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.encoding import Encoding, check_size
from caflow_runtime.video.estimate import estimate_video
from caflow_runtime.video.frame_source import Source
from caflow_runtime.video.segment_store import SegmentRecord


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
