"""What a video takes, before its first frame is drawn."""

from dataclasses import dataclass

from caflow_runtime.jobs.image_need import FLOATS, RGB, check_bytes
from caflow_runtime.pipeline.need import Needs
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.job import WAITING_FRAMES

LIBRARIES = 40e6
"""Bytes of FFmpeg."""
ENCODERS = {"h264": (0.0, 190), "hevc": (80e6, 200), "av1": (70e6, 250), "vp9": (0.0, 120), "ffv1": (0.0, 60)}
"""Bytes of an encoder, and bytes per pixel of the frames that it holds, as measured with each one's defaults."""
OTHER_ENCODERS = (0.0, 40)
"""Of pipes, numbered images and animations."""


@dataclass(frozen=True)
class VideoNeed:
    """What it takes."""

    sides: tuple[int, int]
    """Height and width of the frames of the source."""
    final: tuple[int, int]
    """Of the result."""
    windows: int
    """Of a frame."""
    bytes: int
    """Of the process at its peak."""
    is_measured: bool
    """Whether the memory of runs is known; else it comes on top."""


def need_of_video(
    needs: Needs,
    settings: StreamSettings,
    sides: tuple[int, int],
    final: tuple[int, int],
    codec: str | None,
    has_alpha: bool = False,
) -> VideoNeed:
    """What drawing and encoding the frames of a video takes.

    Arguments:
        sides: height and width of the frames of the source.
        final: of the result.
        codec: of the result; None where it is not encoded.
        has_alpha: whether frames are transparent: their alpha is drawn after their colours.

    Raises:
        InputError: if frames cannot be cut into tiles.
    """
    scale, n = needs.manifest.model.scale, settings.draw.n
    height, width = scale * sides[0], scale * sides[1]
    choosing, following = needs.drawing(height, width, n), needs.drawing(height, width, 1, settings.batch)
    run = max(choosing.run_bytes or 0.0, following.run_bytes or 0.0)
    pixels, finished = height * width, final[0] * final[1]
    held = max(min(n, 2), settings.batch) + 1
    arrays = max(choosing.canvas_bytes, following.canvas_bytes) + held * (FLOATS + needs.share_bytes) * pixels
    arrays += has_alpha * (FLOATS + RGB + needs.share_bytes) * pixels
    constant, of_pixel = ENCODERS.get(codec or "", OTHER_ENCODERS)
    waiting = (WAITING_FRAMES + 1) * ((FLOATS + has_alpha) * finished + (RGB + has_alpha) * sides[0] * sides[1])
    loaded = needs.graph_bytes(scores=False)
    total = (needs.before or 0) + (loaded or 0.0) + run + arrays + waiting + LIBRARIES + constant + of_pixel * finished
    return VideoNeed(sides, final, following.stage.windows, round(total), loaded is not None)


def check_memory(need: VideoNeed) -> None:
    """Whether there is as much memory as a video needs.

    Raises:
        TooLittleMemory
    """
    check_bytes(need.bytes, "give a smaller --pixel-budget, --batch or --width, or another --codec")
