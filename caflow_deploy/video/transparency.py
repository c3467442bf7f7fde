"""Transparent frames, (h, w, 4) RGBA. A stream draws their colours; their alpha is drawn like that of an image."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.alpha import Alpha, draw_alpha
from caflow_deploy.images.matte import matted
from caflow_runtime.image_arrays import Image
from caflow_runtime.linear_light import resample_alpha
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, Stream

OPAQUE = 255


def framed(rgb: Image, alpha: NDArray[np.uint8] | None, keeps_alpha: bool) -> Image:
    """Return a frame from its colours, (h, w, 3) RGB, and its alpha, (h, w). An alpha of None means opaque.

    Arguments:
        keeps_alpha: True returns (h, w, 4) RGBA, where wholly transparent pixels get the colour of the nearest mostly
            opaque pixel. False returns (h, w, 3) RGB on a white background.
    """
    if keeps_alpha:
        alpha = np.full(rgb.shape[:2], OPAQUE, np.uint8) if alpha is None else alpha
        return np.dstack([matted(rgb, alpha), alpha])
    if alpha is None:
        return rgb
    share = alpha[..., None].astype(np.float32) / OPAQUE
    return np.rint(255 + share * (rgb.astype(np.float32) - 255)).astype(np.uint8)


def split_alpha(rgba: Image) -> tuple[Image, NDArray[np.uint8] | None]:
    """Return the colours, (h, w, 3) RGB, and the alpha, (h, w). The alpha is None if all pixels are opaque."""
    alpha = rgba[..., 3]
    return np.ascontiguousarray(rgba[..., :3]), None if (alpha == OPAQUE).all() else alpha


def without_alpha(image: NDArray[Any]) -> NDArray[Any]:
    """Return the colours, (h, w, 3) RGB, of an RGB or RGBA frame of any dtype."""
    return image if image.shape[2] == 3 else np.ascontiguousarray(image[..., :3])


def draw_frames(pipe: Pipeline, stream: Stream, images: Iterable[Image]) -> Iterator[Frame]:
    """Draw frames with a stream of the pipeline. Transparent frames also get their alpha drawn.

    The alpha of all frames is drawn with the same noise, so that edges that do not move do not flicker.
    """
    waiting: deque[Image] = deque()
    given: Alpha | None = None
    drawn: Alpha | None = None

    def colours() -> Iterator[Image]:
        for image in images:
            waiting.append(image)
            yield without_alpha(image)

    for frame in stream(colours()):
        image = waiting.popleft()
        if image.shape[2] == 3:
            yield frame
            continue
        if given is None or not np.array_equal(given, image[..., 3]):
            given = np.ascontiguousarray(image[..., 3])
            drawn = resample_alpha(draw_alpha(pipe, given, stream.config), *frame.pixels.shape[:2])
        yield replace(frame, alpha=drawn)
