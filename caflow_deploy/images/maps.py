"""Maps as pictures: where a result is unlikely, in total and at each level, and where samples differ."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.log_likelihood_maps import map_per_pixel, maps_per_level
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.results import Likelihood, Samples

BRIGHTEST = 0.99
"""Quantile of a map that is shown brightest, so that a few outliers do not darken the rest."""
CHANNELS = 3


def names(levels: int, samples: int) -> list[str]:
    """Return the names that `pictures` yields.

    Arguments:
        samples: number of samples; 0 for scored images.
    """
    return ["likelihood", *(f"likelihood-{j}" for j in range(levels)), *(["uncertainty"] if samples > 1 else [])]


def pictures(result: Likelihood, image: int = 0) -> Iterator[tuple[str, Image, float, float]]:
    """Yield the maps of one image of a batch as pictures.

    Likelihood maps show the best sample, or the scored image. The uncertainty map shows the standard deviation of all
    samples, and exists only for two or more.

    Yields:
        name: "likelihood"; "likelihood-0", … for each level, coarsest first; or "uncertainty".
        picture: (H, W, 3) uint8 RGB. Bright means unlikely, or uncertain.
        darkest, brightest: values that are shown darkest and brightest, in bits/dim; for "uncertainty" in grey levels.
    """
    maps = result.maps[image][0] if isinstance(result, Samples) else result.maps[image]
    levels = maps_per_level(maps, result.per_level.shape[-1])
    for name, part in [("likelihood", maps), *((f"likelihood-{j}", level) for j, level in enumerate(levels))]:
        bits = -map_per_pixel(part, *result.sides[image]) / (CHANNELS * np.log(2))
        counted = bits[bits != 0] if bits.any() else bits  # not what is known, which has no likelihood
        darkest, brightest = (float(np.quantile(counted, share)) for share in (1 - BRIGHTEST, BRIGHTEST))
        yield name, coloured(bits, darkest, brightest), darkest, brightest
    if isinstance(result, Samples) and result.images[image].shape[0] > 1:
        deviation = np.asarray(result.std[image]).mean(2)
        brightest = float(np.quantile(deviation, BRIGHTEST))
        yield "uncertainty", coloured(deviation, 0.0, brightest), 0.0, brightest


def coloured(values: NDArray[Any], darkest: float, brightest: float) -> Image:
    """Return values, (H, W), as colours from dark to bright: (H, W, 3) uint8 RGB."""
    share = (values - darkest) / max(brightest - darkest, 1e-6)
    scaled = np.asarray(np.clip(255 * share, 0, 255), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)
