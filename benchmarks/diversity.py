"""Three measures of how much the samples of one condition differ.

`s10` is the diversity of the challenge "Learning the Super-Resolution Space" (Lugmayr, Danelljan and Timofte, "NTIRE
2021 Learning the Super-Resolution Space Challenge: Methods and Results", CVPR Workshops 2021), as its published
`measure.py` computes it from the LPIPS maps of ten samples. A large value means that for most parts of the true image
some sample is better than the sample that is best overall. Noise that matches nothing does not increase the value.
"""

from dataclasses import dataclass

import numpy as np
from metrics import Judge, Picture
from numpy.typing import NDArray


@dataclass(frozen=True)
class Diversity:
    """Diversity of the samples of one condition, or its mean over several conditions."""

    s10: float
    """NTIRE's diversity, 0 to 100 per cent: (global best − local best) / global best."""
    lpips_between: float
    """Mean LPIPS between two samples."""
    deviation: float
    """Standard deviation over the samples, in grey levels, as a mean over all values of the image."""


def diversity(judge: Judge, samples: NDArray[np.uint8], target: Picture) -> Diversity:
    """Return the diversity of the samples, (N, H, W, 3), of one condition. `target` is the true image, (H, W, 3).

    LPIPS is measured between each sample and the next sample, and between the last and the first one. Samples are
    independent, so the mean over these N pairs estimates the mean over all pairs.
    """
    images = list(samples)
    between = judge.lpips(images, [*images[1:], images[0]])
    maps = judge.lpips_maps(images, [target] * len(images))
    return Diversity(s10(maps), float(np.mean(between)), float(samples.std(0).mean()))


def s10(maps: NDArray[np.floating]) -> float:
    """Return NTIRE's diversity, in per cent, from the LPIPS maps of the samples, (N, H, W)."""
    best_sample = float(maps.mean((1, 2)).min())
    best_of_each_pixel = float(maps.min(0).mean())
    return 100 * (best_sample - best_of_each_pixel) / max(best_sample, 1e-12)
