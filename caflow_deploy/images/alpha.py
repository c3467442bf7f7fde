"""Enlargement of alpha: by the model as a grey image, so that its edges are as sharp as those of the colours."""

from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import NotFinite
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import sample_best

Alpha = NDArray[np.uint8]
NEIGHBOURS = np.ones((3, 3), np.uint8)


def draw_alpha(pipe: Pipeline, alpha: Alpha, config: DrawOptions, passes: int = 1) -> Alpha:
    """Return alpha, (h, w), enlarged to the size of a result. Each pass draws one sample.

    Samples have the temperature and seed of the draw. Each value is limited to the range of the 3×3 pixels around it in
    the input, so fully transparent and fully opaque areas remain so. Alpha is enlarged bicubically if it is constant,
    if no sample is finite, and for models that do not enlarge.
    """
    model = pipe.manifest.model
    one = DrawOptions(1, config.temperature, config.seed, config.frame)
    for _ in range(passes):
        height, width = (model.scale * side for side in alpha.shape)
        large = enlarge_alpha(alpha, height, width)
        if model.scale > 1 and alpha.min() < alpha.max():
            with suppress(NotFinite):
                drawn = sample_best(pipe, np.repeat(alpha[..., None], 3, 2), one).images[0]
                large = np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY), np.uint8)
        lowest, highest = (
            cv2.resize(around(alpha, NEIGHBOURS), (width, height), interpolation=cv2.INTER_NEAREST)
            for around in (cv2.erode, cv2.dilate)
        )
        alpha = np.asarray(np.clip(large, lowest, highest), np.uint8)
    return alpha


def enlarge_alpha(alpha: Alpha, height: int, width: int) -> Alpha:
    """Return alpha, (h, w), enlarged bicubically to (height, width)."""
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
