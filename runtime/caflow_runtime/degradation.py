"""How one condition was degraded, as a value and as the vector that networks read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import is_number, shown
from caflow_runtime.errors import InputError

Reduction = Literal["bicubic", "bilinear", "lanczos", "area"]
Noise = Literal["gaussian", "grey", "poisson", "speckle"]
Codec = Literal["h264", "hevc"]
Dither = Literal["ordered", "diffused"]

MAX_BLUR_SIGMA, MAX_NOISE_SIGMA, MIN_JPEG_QUALITY, MAX_CRF = 4.0, 12.0, 30, 32
"""Strongest degradations of a usual training. They become the value 1 of the vector."""

PARAMETERS = (
    *("blur", "gaussian noise", "grey noise", "poisson noise", "speckle noise"),
    *("jpeg", "h264", "hevc", "bilinear", "lanczos", "area", "ordered dithering", "diffused dithering"),
)
"""Names of the vector's values, in order."""
GROUPS = (0, 1, 1, 1, 1, 2, 3, 3, 4, 4, 4, 5, 5)
"""Group of each value, an index of `GROUP_NAMES`. The values of a group are known together."""
GROUP_NAMES = ("blur", "noise", "jpeg", "video", "reduction", "dithering")


@dataclass(frozen=True)
class Degradation:
    """Degradation of one condition. By default it is clean: reduced by the bicubic filter, and nothing else."""

    blur_sigma: float = 0.0
    """Standard deviation of the blur before the reduction, in pixels of the target."""
    reduction: Reduction = "bicubic"
    noise: Noise = "gaussian"
    noise_sigma: float = 0.0
    """Standard deviation of the noise, for pixel values 0…255; for `poisson` and `speckle` at half brightness."""
    jpeg_quality: int | None = None
    codec: Codec | None = None
    crf: int = 0
    """Constant rate factor of the codec."""
    dither: Dither | None = None
    dither_bits: int = 8
    """Bits per channel that dithering left."""

    def vector(self) -> NDArray[np.float32]:
        """Return one value for each of `PARAMETERS`, (13,) float32: 0 if absent, about 1 for the strongest.

        The vector of a clean condition is 0.
        """
        values = dict.fromkeys(PARAMETERS, 0.0)
        values["blur"] = self.blur_sigma / MAX_BLUR_SIGMA
        values[f"{self.noise} noise"] = self.noise_sigma / MAX_NOISE_SIGMA
        if self.jpeg_quality is not None:
            values["jpeg"] = (100 - self.jpeg_quality) / (100 - MIN_JPEG_QUALITY)
        if self.codec is not None:
            values[self.codec] = self.crf / MAX_CRF
        if self.reduction != "bicubic":
            values[self.reduction] = 1.0
        if self.dither is not None:
            values[f"{self.dither} dithering"] = (8 - self.dither_bits) / 7
        return np.array(list(values.values()), np.float32)


def described(vector: NDArray[np.float32]) -> dict[str, float]:
    """Return a vector of a degradation in a user's units, with the names of `known`.

    "noise" is that of noise of all kinds together, and "video" the constant rate factor of any codec.

    Arguments:
        vector: (13,), as `Degradation.vector` returns it.
    """
    values: dict[str, float] = dict(zip(PARAMETERS, vector.tolist(), strict=True))
    noises = [values[f"{kind} noise"] for kind in get_args(Noise)]
    return {
        "blur": MAX_BLUR_SIGMA * values["blur"],
        "noise": MAX_NOISE_SIGMA * math.hypot(*noises),
        "jpeg": 100 - (100 - MIN_JPEG_QUALITY) * values["jpeg"],
        "video": MAX_CRF * max(values[codec] for codec in get_args(Codec)),
    }


def known(assume: Mapping[str, float]) -> dict[int, float]:
    """Return the values of the vector that a user knows, by their index.

    Arguments:
        assume: "blur", the standard deviation of the blur in pixels of the target; "noise", the standard deviation of
            Gaussian noise for pixel values 0…255; "jpeg", the quality of the JPEG file, 1…100; "video", the constant
            rate factor of H.264, 0 for none.

    Raises:
        InputError: if a name or a value is not valid.
    """
    limits = {"blur": (0.0, 10.0), "noise": (0.0, 50.0), "jpeg": (1.0, 100.0), "video": (0.0, 51.0)}
    if not isinstance(assume, Mapping):
        raise InputError(f"assume must be a mapping of names to values; got {shown(assume)}")
    for name, value in assume.items():
        if name not in limits:
            raise InputError(f"assume: expected values for {', '.join(limits)}; got {shown(name)}")
        low, high = limits[name]
        if not is_number(value) or not low <= value <= high:
            raise InputError(f"assume: {name} must be from {low:g} to {high:g}; got {shown(value)}")
    of_user = Degradation(
        blur_sigma=float(assume.get("blur", 0)),
        noise_sigma=float(assume.get("noise", 0)),
        jpeg_quality=round(assume["jpeg"]) if "jpeg" in assume else None,
        codec="h264" if assume.get("video") else None,
        crf=round(assume.get("video", 0)),
    ).vector()
    groups = {GROUP_NAMES.index(name) for name in assume}
    return {k: float(value) for k, (value, group) in enumerate(zip(of_user, GROUPS, strict=True)) if group in groups}
