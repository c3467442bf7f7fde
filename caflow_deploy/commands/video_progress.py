"""What `caflow video` says before the work, and without a terminal while it lasts."""

from collections.abc import Callable

from caflow_deploy.commands.pace import Pace
from caflow_runtime.available_memory import readable
from caflow_runtime.video.need import VideoNeed


def line_of_video(name: str, need: VideoNeed, frames: int | None, processes: int) -> str:
    """What is to be done with a video."""
    (height, width), final = need.sides, need.final
    counted = f"{frames} frames" if frames else "frames"
    windows = f"{need.windows} window{'s' * (need.windows != 1)} each"
    about = "about" if need.is_measured else "at least"
    memory = f"{about} {readable(processes * need.bytes)} of memory"
    of_processes = f" in {processes} processes" if processes > 1 else ""
    return f"{name}: {counted} of {width}×{height} → {final[1]}×{final[0]} in {windows}, {memory}{of_processes}"


class FrameProgress:
    """Lines about how many frames of a video are done, and how long the rest will take.

    That time does not count the first frames, during which graphs and encoders are loaded and the scene's sample is
    chosen, nor frames of an earlier run.
    """

    def __init__(self, say: Callable[[str], None] | None, name: str, frames: int | None) -> None:
        """
        Arguments:
            say: takes a line; None where a terminal shows it otherwise.
            frames: of the video; None where that is unknown, and nothing is said.
        """
        self.pace, self.name, self.frames = Pace(say), name, frames
        self._has_begun = False

    def done(self, count: int) -> None:
        """So many are done, those of an earlier run included."""
        if not self.frames:
            return
        if not self._has_begun:
            self.pace.begin_at(count / self.frames)
        self._has_begun = True
        self.pace.tell(count / self.frames, f"{self.name}: {count} of {self.frames} frames")
