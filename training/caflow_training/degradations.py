"""Degradations of photographs: blur, reduction, noise, JPEG, video coding and dithering.

They make the conditions of super-resolution in training, so that the model learns to enlarge degraded photographs. All
random numbers come from the caller's generator. So a condition depends on the seed, the step and the row alone.
"""

import math
from dataclasses import fields, replace
from fractions import Fraction
from typing import Annotated, Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from caflow_runtime.degradation import Codec, Degradation, Dither, Noise, Reduction
from caflow_training.task_traits import STRICT, Image

Share = Annotated[float, Ge(0), Le(1)]
Sigma = Annotated[float, Ge(0)]
Quality = Annotated[int, Ge(1), Le(100)]
Crf = Annotated[int, Ge(0), Le(51)]
Bits = Annotated[int, Ge(1), Le(8)]

CONTEXT = 32
"""Width of the surroundings that are degraded together with a crop, in pixels of the condition, both sides together.
They are wider than a JPEG or video block, so a crop can start anywhere in a block and is not affected by the border."""
BORDER = 8
"""Smallest width of the surroundings on each side of the crop, in pixels of the condition."""
VIDEO_FRAMES = 3
"""Largest number of frames of a coded video."""
LARGEST_PAN = 2
"""Largest motion between two frames of a coded video, in pixels, in each direction."""
ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "x264-params": "asm=0"}),
    "hevc": ("libx265", {"preset": "veryfast", "tune": "zerolatency", "x265-params": "log-level=none:pools=1:asm=0"}),
}
"""Encoder and its options for each codec. Vector instructions are off (`asm=0`): with AVX-512, x264 does not always
give the same result for the same small frames."""

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
"""Order in which ordered dithering turns on the pixels of a 4×4 cell."""
UNUSED_IF_CLEAN = ("reductions", "blur_share", "noise_share", "jpeg_share", "video_share", "dither_share")
"""Keys that turn on a degradation, and so have no effect if all crops are clean."""
LARGEST_CELL = 8
"""Largest side of a checkerboard's cells, in pixels of the condition."""
SPREAD = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))
"""Floyd–Steinberg weights: rows down, columns to the right, and the fraction of the error that this pixel receives."""


class MissingPackage(ModuleNotFoundError):
    """Error for a degradation that requires a package which is not installed."""


@dataclass(frozen=True, config=STRICT)
class Degradations:
    """Keys that define how the conditions of super-resolution are degraded in training.

    By default they are not degraded: each condition is the target, reduced by `down_filter`.

    A crop is either clean or degraded. `pattern_share` replaces photographs by patterns, for both kinds. The
    degradation has four steps, in this order: blur, reduction, noise, and coding (JPEG, video or dithering). The
    reduction is always applied; the other steps have probabilities, in keys that end in `_share`. Ranges are written as
    `[smallest, largest]`, and a value is drawn uniformly between the two for each crop.
    """

    clean_share: Share = 1.0
    """Probability that a crop is clean: reduced by `down_filter`, without any degradation. The other keys, except
    `pattern_share`, concern the remaining crops. So they require a value below 1."""
    reductions: tuple[Reduction, ...] = ("bicubic",)
    """Antialiased filters that reduce degraded crops. One is drawn for each crop, with equal probability."""
    blur_share: Share = 0.0
    """Probability that a degraded crop is blurred before the reduction."""
    blur_sigma: tuple[Sigma, Sigma] = (0.5, 3.0)
    """Range of the standard deviation of the Gaussian blur, in pixels of the target."""
    noise_share: Share = 0.0
    """Probability that noise is added to a degraded crop after the reduction."""
    noise_sigma: tuple[Sigma, Sigma] = (1.0, 10.0)
    """Range of the noise's standard deviation, for pixel values 0…255. For `poisson` and `speckle` it applies to a
    brightness of one half."""
    noises: tuple[Noise, ...] = ("gaussian",)
    """Kinds of noise; one is drawn at random for each crop. `gaussian`: independent in each channel. `grey`: equal in
    all three channels. `poisson`: its variance is proportional to the brightness. `speckle`: its standard deviation is
    proportional to the brightness."""
    jpeg_share: Share = 0.0
    """Probability that a degraded crop is coded as JPEG."""
    jpeg_quality: tuple[Quality, Quality] = (30, 95)
    """Range of the JPEG quality, as OpenCV defines it; higher values give higher quality."""
    video_share: Share = 0.0
    """Probability that a degraded crop is coded as a frame of a video. A value above 0 requires the extra `video` of
    caflow-deploy. A crop is coded in one way at most, so `jpeg_share` + `video_share` + `dither_share` must be at most
    1."""
    video_crf: tuple[Crf, Crf] = (18, 32)
    """Range of the constant rate factor of the video encoder; higher values give lower quality."""
    codecs: tuple[Codec, ...] = ("h264",)
    """Video codecs; one is drawn at random for each crop."""
    dither_share: Share = 0.0
    """Probability that a degraded crop is dithered, as pictures with few colours are."""
    dither_bits: tuple[Bits, Bits] = (1, 3)
    """Range of the bits per channel that dithering leaves."""
    dithers: tuple[Dither, ...] = ("ordered", "diffused")
    """Kinds of dithering; one is drawn at random for each crop. `ordered`: with a pattern of 4×4 pixels. `diffused`:
    each pixel passes its error to its neighbours (Floyd and Steinberg)."""
    pattern_share: Share = 0.0
    """Probability that a training crop, degraded or clean, is cut from a checkerboard of two random colours instead of
    a photograph. Its cells are rectangles of 1 to 8 pixels of the condition, and have the same colours there, because a
    pattern is neither blurred nor reduced by a filter that mixes cells. A model that has seen photographs alone can
    fail on drawings."""

    def __post_init__(self) -> None:
        coded = math.fsum((self.jpeg_share, self.video_share, self.dither_share))
        if coded > 1 and not math.isclose(coded, 1):  # decimal shares are not exact in floating point
            raise ValueError(
                "jpeg_share + video_share + dither_share must be at most 1, because a crop is coded in one way at "
                f"most; got {coded:g}."
            )
        for name in ("blur_sigma", "noise_sigma", "jpeg_quality", "video_crf", "dither_bits"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must contain the smaller value first; got [{low}, {high}].")
        for name in ("reductions", "noises", "codecs", "dithers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must contain at least one entry; got [].")
        defaults = {field.name: field.default for field in fields(self)}
        unused = [name for name in UNUSED_IF_CLEAN if getattr(self, name) != defaults[name]]
        if self.clean_share == 1 and unused:
            raise ValueError(
                f"{unused[0]} has no effect with clean_share = 1, which is the default: set clean_share below 1, such "
                f"as clean_share = 0.2, or remove {' and '.join(unused)}."
            )

    def check_packages(self) -> None:
        """Check that the packages which these degradations require are installed.

        Raises:
            MissingPackage: if one is missing.
        """
        if self.video_share:
            _import_av()

    def for_pattern(self, rng: np.random.Generator) -> "Degradations":
        """Return the degradations of a crop that shows a pattern, whose condition has the colours of the pattern.

        Blur and most reductions make narrow cells greyer. A model that learns to undo this makes the cells of drawings,
        whose colours are right, more contrasting.
        """
        exact = replace(self, clean_share=0.0, blur_share=0.0, reductions=("area",))
        if self.clean_share < 1 and rng.random() >= self.clean_share:
            return exact
        return replace(exact, noise_share=0.0, jpeg_share=0.0, video_share=0.0, dither_share=0.0)

    def degrade(self, window: Image, scale: int, rng: np.random.Generator) -> tuple[Image, Degradation]:
        """Degrade a window (H, W, 3) of a photograph, and reduce it by `scale`.

        Return the condition, (H / scale, W / scale, 3), and how it was degraded.
        """
        applied: dict[str, Any] = {}
        if rng.random() < self.blur_share:
            applied["blur_sigma"] = rng.uniform(*self.blur_sigma)
            window = _blur(window, applied["blur_sigma"])
        applied["reduction"] = self.reductions[rng.integers(len(self.reductions))]
        small = _reduce(window, scale, applied["reduction"])
        if rng.random() < self.noise_share:
            applied["noise_sigma"] = rng.uniform(*self.noise_sigma)
            applied["noise"] = self.noises[rng.integers(len(self.noises))]
            small = _add_noise(small, applied["noise_sigma"], applied["noise"], rng)
        coding = rng.random()
        if coding < self.jpeg_share:
            applied["jpeg_quality"] = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1))
            small = _jpeg(small, applied["jpeg_quality"], rng)
        elif coding < self.jpeg_share + self.video_share:
            applied["crf"] = int(rng.integers(self.video_crf[0], self.video_crf[1] + 1))
            applied["codec"] = self.codecs[rng.integers(len(self.codecs))]
            small = _video_frame(small, applied["crf"], applied["codec"], rng)
        elif coding < self.jpeg_share + self.video_share + self.dither_share:
            applied["dither_bits"] = int(rng.integers(self.dither_bits[0], self.dither_bits[1] + 1))
            applied["dither"] = self.dithers[rng.integers(len(self.dithers))]
            small = dithered(small, applied["dither_bits"], applied["dither"])
        return small, Degradation(**applied)


def checkerboard(side: int, scale: int, rng: np.random.Generator) -> Image:
    """Return a checkerboard of two random colours or greys, (side, side, 3) uint8.

    Its cells are whole pixels of the condition. The first cell of each row and column may be cut off by the border.

    Arguments:
        side: side in pixels of the target.
        scale: sides of the target divided by those of the condition.
    """
    down, right = scale * rng.integers(LARGEST_CELL, size=2)
    y, x = np.mgrid[down : down + side, right : right + side]
    # Small cells, which are the hardest, come most often: sides are log-uniform. Half of the boards have square cells.
    height, width = scale * ((LARGEST_CELL + 1) ** rng.random(2)).astype(int)
    width = height if rng.integers(2) else width
    any_two, saturated = rng.integers(256, size=(2, 3)), 255 * rng.integers(2, size=(2, 3))
    greys = any_two[:, :1].repeat(3, axis=1)  # two random colours are hardly ever grey, but drawings often are
    colours = (any_two, saturated, greys)[rng.integers(3)]
    return cast(Image, colours.astype(np.uint8)[(y // height + x // width) % 2])


def dithered(image: Image, bits: int, kind: Dither) -> Image:
    """Return an image (H, W, 3), uint8, dithered to `bits` bits per channel, 1…8: 2^bits values from 0 to 255."""
    height, width = image.shape[:2]
    steps = 2**bits - 1
    levels = image / 255 * steps
    if kind == "ordered":
        threshold = np.tile((BAYER + 0.5) / BAYER.size, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
        return _to_bytes(np.floor(levels + threshold) / steps * 255)
    for y in range(height):
        for x in range(width):
            chosen = np.clip(np.rint(levels[y, x]), 0, steps)
            error, levels[y, x] = levels[y, x] - chosen, chosen
            for down, right, share in SPREAD:
                if y + down < height and 0 <= x + right < width:
                    levels[y + down, x + right] += error * share
    return _to_bytes(levels / steps * 255)


def _blur(image: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8, copy=False) if sigma else image


def _reduce(image: Image, scale: int, name: Reduction) -> Image:
    height, width = image.shape[0] // scale, image.shape[1] // scale
    if name == "area":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if name == "lanczos":
        # OpenCV's Lanczos filter is not antialiased: its kernel has a fixed width. So blur the image first.
        smooth = cv2.GaussianBlur(image, (0, 0), scale / 3)
        return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LANCZOS4).astype(np.uint8, copy=False)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = F.interpolate(planes, (height, width), mode=name, antialias=True)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())


def _add_noise(image: Image, sigma: float, kind: Noise, rng: np.random.Generator) -> Image:
    normal = rng.standard_normal((*image.shape[:2], 1 if kind == "grey" else 3), dtype=np.float32)
    brightness = image.astype(np.float32) / 255
    # At half of the full brightness all kinds of noise have the same standard deviation.
    relative: dict[Noise, Any] = {"poisson": np.sqrt(2 * brightness), "speckle": 2 * brightness}
    return _to_bytes(image + sigma * normal * relative.get(kind, 1.0))


def _jpeg(image: Image, quality: int, rng: np.random.Generator) -> Image:
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)[int(rng.random() < 0.25)]
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    return cast(Image, cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB))


def _import_av() -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise MissingPackage(
            "video_share above 0 requires PyAV, which is not installed: pip install 'caflow-deploy[video]'",
            name="av",
        ) from None
    return av


def _video_frame(image: Image, crf: int, codec: Codec, rng: np.random.Generator) -> Image:
    """Code a short video in which the camera pans over the image, and return its last frame, decoded."""
    av = _import_av()
    # Both codecs require even sides, because they store colour at half the resolution.
    height, width = (side // 2 * 2 for side in image.shape[:2])
    pan_x, pan_y = (int(rng.integers(-LARGEST_PAN, LARGEST_PAN + 1)) for _ in range(2))
    frames = int(rng.integers(1, VIDEO_FRAMES + 1))
    name, options = ENCODERS[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {**options, "crf": str(crf)}
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    # As `caflow video` converts colours. By default, FFmpeg truncates: pictures become darker by a grey level.
    ways = av.video.reformatter.Interpolation
    accurate = {"interpolation": ways.BICUBIC | ways.ACCURATE_RND | ways.FULL_CHR_H_INT}
    packets = []
    for time in range(frames):
        steps = frames - 1 - time
        moved = np.roll(image, (steps * pan_y, steps * pan_x), axis=(0, 1))[:height, :width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
        frame = frame.reformat(format="yuv420p", **accurate)
        frame.pts = time
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    result: NDArray[np.uint8] = decoded[-1].reformat(format="rgb24", **accurate).to_ndarray()
    return np.pad(result, ((0, image.shape[0] - height), (0, image.shape[1] - width), (0, 0)), mode="edge")


def _to_bytes(values: NDArray[np.float64] | NDArray[np.float32]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
