"""Degradations that make the conditions of the evaluation from targets.

The degradations have fixed strengths and are independent of those that training draws at random. Noise depends on the
name of the target only, not on other targets or on their order. Blur is applied before the target is reduced by
Pillow's bicubic filter. Noise, JPEG and H.264 are applied to the reduced image.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import replace

import av
import cv2
import numpy as np
from metrics import Crop, Picture, reduce
from PIL import Image

from caflow_deploy.video.opening import accurate_conversion

PAN_FRAMES, PAN_STEP = 8, 3
"""Number of frames in a clip made from one target, and shift from frame to frame, in target pixels."""
FRAME_RATE = 25
X264 = {"preset": "medium", "threads": "1", "x264-params": "asm=0"}
"""Options of x264. Assembly is disabled, because with AVX-512 the same small frames may be coded differently."""

Degrade = Callable[[Picture, int, np.random.Generator], Picture]
"""Makes a condition from a target, the scale, and a generator of random numbers."""


def jpeg(picture: Picture, quality: int) -> Picture:
    """Return the picture after coding and decoding as JPEG, with 4:2:0 chroma subsampling."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def noisy(picture: Picture, sigma: float, random: np.random.Generator) -> Picture:
    """Return the picture with Gaussian noise of `sigma` grey levels, independent for each value."""
    return np.clip(np.rint(picture + random.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """Return the picture, blurred by a Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def h264(frames: list[Picture], crf: int) -> list[Picture]:
    """Return frames of equal size after coding as one clip by x264 (preset medium, 4:2:0) and decoding.

    Colours are converted as `caflow video` converts them. The result is the same on every machine. If a side is odd,
    its last row or column is repeated for coding, and cropped again afterwards.
    """
    height, width = frames[0].shape[:2]
    conversion = accurate_conversion()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.options = {"crf": str(crf), **X264}
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            rgb = av.VideoFrame.from_ndarray(even, format="rgb24")
            container.mux(stream.encode(rgb.reformat(format="yuv420p", interpolation=conversion)))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as coded:
        decoded = [
            frame.reformat(format="rgb24", interpolation=conversion).to_ndarray() for frame in coded.decode(video=0)
        ]
    return [np.ascontiguousarray(frame[:height, :width]) for frame in decoded]


def filmed(target: Picture, scale: int, crf: int) -> Picture:
    """Return the last frame of a reduced and coded clip that pans over the target.

    The last frame shows the target itself. Each earlier frame shows the target `PAN_STEP` pixels further to the right,
    mirrored at the left border. The last frame is therefore predicted from moving frames, as most frames of a video
    are. At the same CRF, a clip without motion would have a much better quality than a video.
    """
    far = (PAN_FRAMES - 1) * PAN_STEP
    wide = np.pad(target, ((0, 0), (far, 0), (0, 0)), "symmetric")
    starts = range(0, far + 1, PAN_STEP)
    return h264([reduce(np.ascontiguousarray(wide[:, x : x + target.shape[1]]), scale) for x in starts], crf)[-1]


DEGRADATIONS: dict[str, Degrade] = {
    "clean": lambda target, scale, _: reduce(target, scale),
    "jpeg90": lambda target, scale, _: jpeg(reduce(target, scale), 90),
    "jpeg75": lambda target, scale, _: jpeg(reduce(target, scale), 75),
    "jpeg30": lambda target, scale, _: jpeg(reduce(target, scale), 30),
    "noise5": lambda target, scale, random: noisy(reduce(target, scale), 5, random),
    "noise5-jpeg75": lambda target, scale, random: jpeg(noisy(reduce(target, scale), 5, random), 75),
    "blur3": lambda target, scale, _: reduce(blurred(target, 3), scale),
    "h264-crf28": lambda target, scale, _: filmed(target, scale, 28),
}


def generator(name: str) -> np.random.Generator:
    """Return the generator of random numbers for a target, seeded by the target's name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def degraded(crop: Crop, name: str) -> Crop:
    """Return a crop whose condition is made by the degradation `name` of `DEGRADATIONS`, at the crop's own scale."""
    scale = crop.target.shape[0] // crop.condition.shape[0]
    return replace(crop, condition=DEGRADATIONS[name](crop.target, scale, generator(crop.name)))
