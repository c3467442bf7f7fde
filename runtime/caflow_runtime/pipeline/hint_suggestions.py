"""Where the next hint of colour helps most: the places whose colour would tell most about the colours around them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import Pipeline

PLACES = 1024
"""Largest number of cells into which an image is divided. A hint is suggested at the middle of a cell."""
NOISE = 4.0
"""Variance of a cell's colour that does not count, in squared grey levels: that of rounding and of fine detail."""
REACH = 0.25
"""Distance over which colours are taken to vary together, as a fraction of the image's longer side. Few samples have
large correlations by chance between places that are far apart."""
Floats = NDArray[np.float64]


def suggest_hints(
    pipe: Pipeline, condition: Image, count: int, samples: int = 16, seed: int = 0
) -> list[tuple[int, int]]:
    """Return the places where hints of colour would help most, the best first.

    Samples of the condition differ where the model is uncertain. Each place is the one whose known colour would reduce
    the variance of the samples most, in total over the image, given those before it.

    Arguments:
        condition: (h, w, 4) uint8, as `Pipeline.prepare` makes it from the image and the hints so far.
        count: largest number of places; small images have fewer.
        samples: number of samples to draw, at temperature 1.

    Returns: column and row of each place, in pixels of the image.

    Raises:
        InputError: if an argument is not valid, or the model takes no hints.
    """
    check_integer("count", count, 1, PLACES)
    check_integer("samples", samples, 2)
    model = pipe.manifest.model
    if "hints" not in [port.name for port in model.inputs]:
        raise InputError(
            f"this model, of the task {model.task!r}, takes no hints of colour: use a model of the task color-hints"
        )
    drawn = np.asarray(pipe.sample(condition, n=samples, temperature=1.0, seed=seed).images[0])
    side = max(1, round(np.sqrt(drawn[0, ..., 0].size / PLACES)))
    places, deviations = _cells(drawn[..., 1:], side)
    nearness = _nearness(places, REACH * max(drawn.shape[1:3]))
    found = list[int]()
    for _ in range(min(count, len(places))):
        covariances = [each.T @ each / (samples - 1) * nearness for each in deviations]
        gains = _gains(covariances)
        gains[found] = -1  # few samples leave little variance after many places
        best = int(np.argmax(gains))
        found.append(best)
        deviations = [_given(each, best) for each in deviations]
    # The first pixel of a reduced one is inside the image, even at a border that the reduction does not divide.
    return [(int(x) * model.reduction, int(y) * model.reduction) for y, x in places[found]]


def _cells(chroma: NDArray[np.uint8], side: int) -> tuple[Floats, list[Floats]]:
    """Return the middle (row, column) of each cell, (P, 2), and the deviation of its Cb and Cr in each sample, (N, P).

    Arguments:
        chroma: (N, h, w, 2).
        side: side of a cell in pixels.
    """
    height, width = (max(1, extent // side) for extent in chroma.shape[1:3])
    small = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in chroma.astype(float)])
    rows, columns = (
        (np.arange(n) + 0.5) * extent / n for n, extent in ((height, chroma.shape[1]), (width, chroma.shape[2]))
    )
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    flat = small.reshape(len(chroma), -1, 2)
    return places, [flat[..., k] - flat[..., k].mean(0) for k in range(2)]


def _nearness(places: Floats, reach: float) -> Floats:
    distances = np.square(places[:, None] - places).sum(2)
    return np.asarray(np.exp(-distances / (2 * reach**2)))


def _gains(covariances: list[Floats]) -> Floats:
    """Return by how much knowing each place would reduce the variance of all places in total, (P,)."""
    return np.asarray(np.sum([np.square(one).sum(0) / (np.diagonal(one) + NOISE) for one in covariances], 0))


def _given(deviations: Floats, place: int) -> Floats:
    """Return the deviations that remain if the value of a place is known: those that do not depend on it linearly."""
    known = deviations[:, place]
    return np.asarray(deviations - np.outer(known, known @ deviations / (known @ known + NOISE * len(known))))
