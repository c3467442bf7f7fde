"""What a target goes through before a model sees it: the conditions of the evaluation.

They are fixed, a few at known strengths, and share nothing with what training draws. Noise depends on the name of the
target alone: neither on the other targets nor on their order. Blur acts on the target before it is reduced by Pillow's
bicubic filter; noise, JPEG and H.264 act on the reduced image.
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

PAN_FRAMES, PAN_STEP = 8, 3
"""Frames of the clip that a still image becomes, and the target pixels by which each is moved to the right."""
FRAME_RATE = 25
X264 = {"preset": "medium", "threads": "1", "x264-params": "asm=0"}
"""Without hand-written kernels: those for AVX-512 do not code small frames alike every time."""

Degrade = Callable[[Picture, int, np.random.Generator], Picture]
"""Makes a condition of a target, a scale and a source of randomness."""


def jpeg(picture: Picture, quality: int) -> Picture:
    """Coded and decoded, chroma at half the resolution both ways (4:2:0)."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def noisy(picture: Picture, sigma: float, random: np.random.Generator) -> Picture:
    """With Gaussian noise of `sigma` grey levels, independent for each value."""
    return np.clip(np.rint(picture + random.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """Under a Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def h264(frames: list[Picture], crf: int) -> list[Picture]:
    """Frames of one size as a clip, coded by x264 (preset medium, 4:2:0) and decoded; the same everywhere.

    Where a side is odd, its last pixels are repeated for coding, and cropped again.
    """
    height, width = frames[0].shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.options = {"crf": str(crf), **X264}
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as coded:
        decoded = [frame.to_ndarray(format="rgb24") for frame in coded.decode(video=0)]
    return [np.ascontiguousarray(frame[:height, :width]) for frame in decoded]


def filmed(target: Picture, scale: int, crf: int) -> Picture:
    """The last frame of a coded clip that pans over the target, reduced.

    The clip ends on the target itself. The frames before it show the target moved to the right, 3 pixels more for every
    frame further back, mirrored at the left border. So the frame that is used is predicted from moving ones,
    as most frames of a video are; a clip that stands still would be coded much better than a video at the same CRF.
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
    """The source of randomness that belongs to the name of a target."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def degraded(crop: Crop, name: str) -> Crop:
    """A crop of which the condition is made by one of `DEGRADATIONS`, at the crop's own scale."""
    scale = crop.target.shape[0] // crop.condition.shape[0]
    return replace(crop, condition=DEGRADATIONS[name](crop.target, scale, generator(crop.name)))
