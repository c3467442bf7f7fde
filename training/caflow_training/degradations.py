"""What happens to photographs before somebody wants to enlarge them: blur, reduction, noise, JPEG, video coding.

Makes the conditions of super-resolution in training. Every draw comes from the generator that is passed in, so a
condition is a function of the seed, the step and the row.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from caflow_training.tasks import STRICT, Image

Share = Annotated[float, Ge(0), Le(1)]
Sigma = Annotated[float, Ge(0)]
Quality = Annotated[int, Ge(1), Le(100)]
Crf = Annotated[int, Ge(0), Le(51)]
Reduction = Literal["bicubic", "bilinear", "lanczos", "area"]
Noise = Literal["gaussian", "grey", "poisson", "speckle"]
Codec = Literal["h264", "hevc"]

CONTEXT = 32
"""Pixels of the condition that are degraded beside a crop, both sides together: more than a JPEG or video block, so
that crops start anywhere in a block and see no border."""
BORDER = 8
"""Of these at least so many lie on each side."""
VIDEO_FRAMES = 3
LARGEST_PAN = 2
"""Pixels by which the frames of a coded video move between two frames, either way."""
ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "x264-params": "asm=0"}),
    "hevc": ("libx265", {"preset": "veryfast", "tune": "zerolatency", "x265-params": "log-level=none:pools=1:asm=0"}),
}
"""Without vector instructions: with AVX-512, x264 does not always code small frames alike."""


@dataclass(frozen=True, config=STRICT)
class Degradations:
    """Which degradations conditions suffer, and how often. The default is none: the task's own reduction alone.

    Shares are probabilities per crop. Ranges are (smallest, largest); a value is drawn uniformly between them.
    """

    clean_share: Share = 1.0
    """Crops that are reduced by the task's own filter and suffer nothing else."""
    reductions: tuple[Reduction, ...] = ("bicubic",)
    """Antialiased filters of the other crops, drawn with equal probability."""
    blur_share: Share = 0.0
    blur_sigma: tuple[Sigma, Sigma] = (0.5, 3.0)
    """Gaussian blur before the reduction, in pixels of the target."""
    noise_share: Share = 0.0
    noise_sigma: tuple[Sigma, Sigma] = (1.0, 10.0)
    """Standard deviation in grey levels of 255, after the reduction."""
    noises: tuple[Noise, ...] = ("gaussian",)
    """gaussian: independent per channel; grey: one value for all three; poisson: variance proportional to the
    brightness; speckle: standard deviation proportional to it."""
    jpeg_share: Share = 0.0
    jpeg_quality: tuple[Quality, Quality] = (30, 95)
    video_share: Share = 0.0
    """Of crops that are coded as frames of a video; a crop is coded by JPEG or as video, never both."""
    video_crf: tuple[Crf, Crf] = (18, 32)
    codecs: tuple[Codec, ...] = ("h264",)

    def __post_init__(self) -> None:
        if self.jpeg_share + self.video_share > 1:
            raise ValueError(
                f"jpeg_share + video_share = {self.jpeg_share + self.video_share:g}: a crop is coded by one of "
                "them, so their sum must not exceed 1."
            )
        for name in ("blur_sigma", "noise_sigma", "jpeg_quality", "video_crf"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = [{low}, {high}]: write the smaller value first.")
        for name in ("reductions", "noises", "codecs"):
            if not getattr(self, name):
                raise ValueError(f"{name} = []: name at least one.")

    def degrade(self, window: Image, scale: int, rng: np.random.Generator) -> Image:
        """Reduce a window of a photograph by `scale` and degrade it: (H, W, 3) to (H / scale, W / scale, 3)."""
        if rng.random() < self.blur_share:
            window = _blur(window, rng.uniform(*self.blur_sigma))
        small = _reduce(window, scale, self.reductions[rng.integers(len(self.reductions))])
        if rng.random() < self.noise_share:
            small = _add_noise(small, rng.uniform(*self.noise_sigma), self.noises[rng.integers(len(self.noises))], rng)
        coding = rng.random()
        if coding < self.jpeg_share:
            return _jpeg(small, int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1)), rng)
        if coding < self.jpeg_share + self.video_share:
            crf = int(rng.integers(self.video_crf[0], self.video_crf[1] + 1))
            return _video_frame(small, crf, self.codecs[rng.integers(len(self.codecs))], rng)
        return small


def _blur(image: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8, copy=False) if sigma else image


def _reduce(image: Image, scale: int, name: Reduction) -> Image:
    height, width = image.shape[0] // scale, image.shape[1] // scale
    if name == "area":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if name == "lanczos":
        # OpenCV's Lanczos does not widen its kernel, so what the small image cannot show is removed first.
        smooth = cv2.GaussianBlur(image, (0, 0), scale / 3)
        return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LANCZOS4).astype(np.uint8, copy=False)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = F.interpolate(planes, (height, width), mode=name, antialias=True)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())


def _add_noise(image: Image, sigma: float, kind: Noise, rng: np.random.Generator) -> Image:
    normal = rng.standard_normal((*image.shape[:2], 1 if kind == "grey" else 3), dtype=np.float32)
    brightness = image.astype(np.float32) / 255
    # Of equal strength as Gaussian noise at half of the full brightness.
    relative: dict[Noise, Any] = {"poisson": np.sqrt(2 * brightness), "speckle": 2 * brightness}
    return _to_bytes(image + sigma * normal * relative.get(kind, 1.0))


def _jpeg(image: Image, quality: int, rng: np.random.Generator) -> Image:
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)[int(rng.random() < 0.25)]
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    return cast(Image, cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB))


def _video_frame(image: Image, crf: int, codec: Codec, rng: np.random.Generator) -> Image:
    """The image as the last frame of a short video in which the camera pans."""
    try:
        import av
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "video_share > 0 codes crops with PyAV, which is not installed: pip install 'caflow-deploy[video]'",
            name="av",
        ) from None
    height, width = (side // 2 * 2 for side in image.shape[:2])  # both codecs halve the colour's resolution
    pan_x, pan_y = (int(rng.integers(-LARGEST_PAN, LARGEST_PAN + 1)) for _ in range(2))
    frames = int(rng.integers(1, VIDEO_FRAMES + 1))
    name, options = ENCODERS[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {**options, "crf": str(crf)}
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    packets = []
    for time in range(frames):
        steps = frames - 1 - time
        moved = np.roll(image, (steps * pan_y, steps * pan_x), axis=(0, 1))[:height, :width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
        frame.pts = time
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    result: NDArray[np.uint8] = decoded[-1].to_ndarray(format="rgb24")
    return np.pad(result, ((0, image.shape[0] - height), (0, image.shape[1] - width), (0, 0)), mode="edge")


def _to_bytes(values: NDArray[np.float32]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
