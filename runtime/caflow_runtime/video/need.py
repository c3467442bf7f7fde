"""Memory, time and tiles that a video requires, estimated before its first frame is drawn."""

from dataclasses import dataclass

from caflow_runtime.jobs.image_need import FLOATS, RGB, check_bytes
from caflow_runtime.pipeline.need import Needs, SpeedTrial, Stage
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.lane import WAITING_FRAMES

LIBRARIES = 40e6
"""Bytes of FFmpeg's libraries."""
ENCODERS = {"h264": (0.0, 190), "hevc": (80e6, 200), "av1": (70e6, 250), "vp9": (0.0, 120), "ffv1": (0.0, 60)}
"""Memory of each software encoder: constant bytes, and bytes per pixel of a result frame.

The latter include all frames that the encoder buffers. Both were measured with the encoder's default settings.
"""
OTHER_ENCODERS = (0.0, 40)
"""The same for all other results: pipes, numbered images, animations, and frames that NVENC encodes."""


@dataclass(frozen=True)
class VideoNeed:
    """Estimated requirements of a video."""

    sides: tuple[int, int]
    """Height and width of the source's frames, in pixels."""
    final: tuple[int, int]
    """Height and width of the result's frames, in pixels."""
    stage: Stage
    """Work of the model on each frame after the first frame of a scene, without its alpha."""
    trial: SpeedTrial
    bytes: int
    """Peak memory of the process."""
    is_measured: bool
    """Whether the memory of graph runs was measured. If not, `bytes` does not include it."""

    @property
    def operations(self) -> float:
        """Multiplications and additions of each frame."""
        return self.stage.operations(self.stage.windows)


def need_of_video(
    needs: Needs,
    settings: StreamSettings,
    sides: tuple[int, int],
    final: tuple[int, int],
    codec: str | None,
    has_alpha: bool = False,
) -> VideoNeed:
    """Return the estimated requirements of drawing and encoding a video.

    Arguments:
        sides: height and width of the source's frames, in pixels.
        final: height and width of the result's frames, in pixels.
        codec: codec of the result; None if no software encoder is used.
        has_alpha: whether frames are transparent. Their alpha is drawn after their colours.

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
    arrays += _rows_of_kept_noise(settings) * needs.noise_bytes(height, width)
    arrays += has_alpha * (FLOATS + RGB + needs.share_bytes) * pixels
    constant, of_pixel = ENCODERS.get(codec or "", OTHER_ENCODERS)
    waiting = (WAITING_FRAMES + 1) * ((FLOATS + has_alpha) * finished + (RGB + has_alpha) * sides[0] * sides[1])
    loaded = needs.graph_bytes(scores=False)
    total = (needs.before or 0) + (loaded or 0.0) + run + arrays + waiting + LIBRARIES + constant + of_pixel * finished
    return VideoNeed(sides, final, following.stage, needs.trial(1), round(total), loaded is not None)


def _rows_of_kept_noise(settings: StreamSettings) -> int:
    """Return the number of rows whose noise is kept from one frame to the next."""
    if settings.noise == "fresh":
        return 0
    return settings.batch if settings.noise == "fixed" else settings.draw.n


def check_memory(need: VideoNeed) -> None:
    """Check that enough memory is available for a video.

    Raises:
        TooLittleMemory: if there is not.
    """
    check_bytes(need.bytes, "use a smaller --pixel-budget, --batch or --width, or another --codec")
