"""Lines of `caflow video` on standard error: one before the work and, without a terminal, others about the progress."""

from collections.abc import Callable

from caflow_deploy.commands.pace import Pace, duration
from caflow_deploy.console import counted
from caflow_runtime.available_memory import readable
from caflow_runtime.video.need import VideoNeed


def line_of_video(name: str, need: VideoNeed, frames: int | None, processes: int, is_timed: bool) -> str:
    """Return the line about a video: frames, sizes, tiles and memory; the time, if it is known and not short.

    Arguments:
        frames: number of frames; None if it is unknown.
        processes: number of local processes that work at the same time.
        is_timed: whether to estimate the time that the model takes in this process.
    """
    (height, width), final = need.sides, need.final
    of_video = counted(frames, "frame") if frames else "frames"
    windows = f"{counted(need.stage.windows, 'tile')} each"
    about = "about" if need.is_measured else "at least"
    memory = f"{about} {readable(processes * need.bytes)} of memory"
    of_processes = f" in {processes} processes" if processes > 1 else ""
    operations, time = need.operations * (frames or 0), ""
    if is_timed and need.trial.is_short_for(operations):
        time = f", about {duration(need.trial.seconds(operations))}"
    return f"{name}: {of_video} of {width}×{height} → {final[1]}×{final[0]} in {windows}, {memory}{of_processes}{time}"


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
        self.pace, self.name, self.frames = Pace(say), name, frames
        self._has_begun = False

    def done(self, count: int) -> None:
        """Record the number of finished frames, including those of an earlier run."""
        if not self.frames:
            return
        if not self._has_begun:
            self.pace.begin_at(count / self.frames)
        self._has_begun = True
        self.pace.tell(count / self.frames, f"{self.name}: {count} of {self.frames} frames")
