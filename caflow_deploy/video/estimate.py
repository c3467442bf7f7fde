"""Memory, time and tiles that a video requires, estimated before its first frame is drawn."""

from dataclasses import dataclass

from caflow_deploy.video.bounded_queue import WAITING_FRAMES
from caflow_runtime.pipeline.estimates import FLOATS, RGB, Buffers, SpeedTrial, Stage, stage_of
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import StreamSettings

LIBRARIES = 40e6
"""Bytes of FFmpeg's libraries."""
ENCODERS = {"h264": (0.0, 190), "hevc": (80e6, 200), "av1": (70e6, 250), "vp9": (0.0, 120), "ffv1": (0.0, 60)}
"""Memory of each software encoder: constant bytes, and bytes per pixel of a result frame.

The latter include all frames that the encoder buffers. Both were measured with the encoder's default settings.
"""
OTHER_ENCODERS = (0.0, 40)
"""The same for all other results: pipes, numbered images, animations, and frames that NVENC encodes."""


@dataclass(frozen=True)
class VideoEstimate:
    """Estimated requirements of a video."""

    sides: tuple[int, int]
    """Height and width of the source's frames, in pixels."""
    final: tuple[int, int]
    """Height and width of the result's frames, in pixels."""
    stage: Stage
    """Work of the model on each frame after the first frame of a scene, without its alpha."""
    trial: SpeedTrial
    memory: int
    """Peak memory of the process, in bytes."""


def estimate_video(
    pipe: Pipeline,
    settings: StreamSettings,
    sides: tuple[int, int],
    final: tuple[int, int],
    codec: str | None,
    has_alpha: bool = False,
) -> VideoEstimate:
    """Return the estimated requirements of drawing and encoding a video.

    Arguments:
        sides: height and width of the source's frames, in pixels.
        final: height and width of the result's frames, in pixels.
        codec: codec of the result; None if no software encoder is used.
        has_alpha: whether frames are transparent. Their alpha is drawn after their colours.

    Raises:
        InputError: if frames cannot be cut into tiles.
    """
    n, batch, scale = settings.draw.number, settings.batch, pipe.manifest.model.scale
    target, finished = (scale * sides[0], scale * sides[1]), final[0] * final[1]
    constant, of_pixel = ENCODERS.get(codec or "", OTHER_ENCODERS)
    waiting = (WAITING_FRAMES + 1) * ((FLOATS + has_alpha) * finished + (RGB + has_alpha) * sides[0] * sides[1])
    stage = stage_of(pipe.runner, *target)
    rows_of_kept_noise = {"fresh": 0, "fixed": batch}.get(str(settings.noise), n)
    noise = rows_of_kept_noise * FLOATS * stage.work
    frames = max(min(n, 2), batch) + 1 + 2 * has_alpha
    buffers = Buffers(frames, FLOATS, others=noise + waiting + LIBRARIES + constant + of_pixel * finished)
    memory = max(pipe.memory.of([target], n, buffers), pipe.memory.of([target], 1, buffers, batch))
    return VideoEstimate(sides, final, stage, pipe.trials[1], memory)
