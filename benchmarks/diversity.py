"""How much the samples of one condition differ, in three ways.

`s10` is the diversity of the challenge "Learning the Super-Resolution Space" (Lugmayr, Danelljan and Timofte, "NTIRE
2021 Learning the Super-Resolution Space Challenge: Methods and Results", CVPR Workshops 2021), as its published
`measure.py` computes it from LPIPS maps of ten samples. A large value means that every part of the true image is
matched better by some other sample than by the best one; noise that matches nothing does not count.
"""

from dataclasses import dataclass

import numpy as np
from metrics import Judge, Picture
from numpy.typing import NDArray


@dataclass(frozen=True)
class Diversity:
    """Of the samples of one condition, or a mean over conditions."""

    s10: float
    """Per cent, from 0 to 100: (global best − local best) / global best."""
    lpips_between: float
    """Mean LPIPS between two samples."""
    deviation: float
    """Standard deviation of a value over the samples, mean over all values, in grey levels."""


def diversity(judge: Judge, samples: NDArray[np.uint8], target: Picture) -> Diversity:
    """Of samples, (N, H, W, 3), of one condition.

    LPIPS is measured between each sample and the next, and the last and the first: samples are independent, so the mean
    over these N pairs estimates the mean over all pairs.
    """
    images = list(samples)
    between = judge.lpips(images, [*images[1:], images[0]])
    maps = judge.lpips_maps(images, [target] * len(images))
    return Diversity(s10(maps), float(np.mean(between)), float(samples.std(0).mean()))


def s10(maps: NDArray[np.floating]) -> float:
    """NTIRE's score, in per cent, from the LPIPS maps of the samples, (N, H, W)."""
    best_sample = float(maps.mean((1, 2)).min())
    best_of_each_pixel = float(maps.min(0).mean())
    return 100 * (best_sample - best_of_each_pixel) / max(best_sample, 1e-12)
