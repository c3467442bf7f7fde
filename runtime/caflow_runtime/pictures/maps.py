"""Likelihood and uncertainty as pictures: where a result is unlikely, at which level, and where samples differ."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.shares import share_map, shares_per_level
from caflow_runtime.image import Image
from caflow_runtime.pipeline.results import Likelihood, Samples

BRIGHTEST = 0.99
"""Quantile of a map: a few outliers must not darken all the rest."""
CHANNELS = 3


def names(levels: int, samples: int) -> list[str]:
    """What `pictures` yields for so many samples, 0 of given images."""
    return ["likelihood", *(f"likelihood-{j}" for j in range(levels)), *(["uncertainty"] if samples > 1 else [])]


def pictures(result: Likelihood, image: int = 0) -> Iterator[tuple[str, Image, float, float]]:
    """The maps of one image of a batch; of samples, those of the best, and their standard deviation.

    Yields:
        name: "likelihood", "likelihood-0" … for each level, "uncertainty".
        picture: (H, W, 3) uint8 RGB, dark to bright; bright is unlikely, or uncertain.
        darkest, brightest: bits/dim, or grey levels, that are shown darkest and brightest.
    """
    shares = result.shares[image][0] if isinstance(result, Samples) else result.shares[image]
    levels = shares_per_level(shares, result.per_level.shape[-1])
    for name, part in [("likelihood", shares), *((f"likelihood-{j}", level) for j, level in enumerate(levels))]:
        bits = -share_map(part, *result.sides[image]) / (CHANNELS * np.log(2))
        darkest, brightest = (float(np.quantile(bits, share)) for share in (1 - BRIGHTEST, BRIGHTEST))
        yield name, coloured(bits, darkest, brightest), darkest, brightest
    if isinstance(result, Samples) and result.images[image].shape[0] > 1:
        deviation = np.asarray(result.std[image]).mean(2)
        brightest = float(np.quantile(deviation, BRIGHTEST))
        yield "uncertainty", coloured(deviation, 0.0, brightest), 0.0, brightest


def coloured(values: NDArray[Any], darkest: float, brightest: float) -> Image:
    """(H, W) values as colours from dark to bright."""
    share = (values - darkest) / max(brightest - darkest, 1e-6)
    scaled = np.asarray(np.clip(255 * share, 0, 255), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)
