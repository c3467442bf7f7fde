"""What must hold of any flow, asked of its graphs alone: no other model of images can test itself like this."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.manifest import Manifest, Model, cell_side
from caflow_runtime.flow import scan
from caflow_runtime.flow.noise import Place, draw_noise
from caflow_runtime.flow.scan import Array, Graph

SIDES_IN_MULTIPLES = (2, 3)
IMAGES, ROWS = 2, 6
TEMPERATURE = 0.8

Case = tuple[NDArray[np.uint8], NDArray[np.int64], list[Any]]
"""Conditions, the image of each row, and noise."""
Kind = Literal["noise", "density", "rows"]


def flow_errors(
    graphs: Mapping[str, Graph],
    levels: int,
    condition: NDArray[np.uint8],
    image: NDArray[np.int64],
    noise: list[Array],
    is_invertible: bool = True,
) -> Iterator[tuple[Kind, str, Array]]:
    """Errors of a flow whose graphs take and give numpy arrays: what kind, of what, and how large.

    Noise comes back from decode and likelihood; the density of the sampling path is the scoring path's (relative);
    identical rows give identical pixels, and a row alone gives what it does in a batch (shares of full scale).

    Arguments:
        condition, image, noise: as `scan.encode` and `scan.sample` take them, at least two rows.
        is_invertible: False leaves out the first two, for imported models, whose way back is not quite an inverse.
    """
    encoded = scan.encode(graphs, condition)
    drawn = scan.sample(graphs, levels, encoded, image, noise)
    if is_invertible:
        scored = scan.score(graphs, levels, encoded, image, drawn.pixels)
        for j, (sent, returned) in enumerate(zip(noise, scored.noise, strict=True)):
            yield "noise", f"noise of level {j} after decode and likelihood", sent - returned
        again, total = scored.log_likelihood.sum(1), drawn.log_likelihood.sum(1)
        yield "density", "density: sampling against scoring, relative", likelihood_error(again, total, drawn.pixels)
    same = [np.repeat(z[:1], len(image), 0) for z in noise]
    alike = scan.sample(graphs, levels, encoded, np.zeros_like(image), same).pixels
    yield "rows", "identical rows, pixels", (alike - alike[:1]) / 256
    alone = scan.sample(graphs, levels, encoded, image[1:2], [z[1:2] for z in noise]).pixels
    yield "rows", "a row alone and in a batch, pixels", (alone - drawn.pixels[1:2]) / 256


def likelihood_error(found: Array, exact: Array, targets: Array) -> Array:
    """Relative errors of log-likelihoods.

    A log-likelihood near zero is a sum of large terms that cancel, and its relative error says nothing about them.
    Where it is less than one bit per dimension, the error is therefore relative to one bit per dimension.

    Arguments:
        found, exact: log-likelihoods of targets, (N,), in nats.
        targets: (N, H, W, 3), for their number of dimensions alone.
    """
    one_bit = math.log(2) * math.prod(targets.shape[1:])
    error: Array = (found - exact) / np.maximum(np.abs(exact), one_bit)
    return error


def is_invertible(manifest: Manifest) -> bool:
    """Whether the noise of samples comes back, which it does not quite for imported models."""
    return any(m.graph == "flow" and m.what.startswith("noise of level") for m in manifest.verification)


def case(model: Model, rows: int = ROWS, sides: tuple[int, int] | None = None) -> Case:
    """Smooth random conditions, the image of each of so many rows, and noise; of a small target by default."""
    height, width = sides or (side * model.size_multiple for side in SIDES_IN_MULTIPLES)
    image = np.arange(rows) * IMAGES // max(IMAGES, rows)
    condition = smooth_conditions(int(image.max()) + 1, height // model.scale, width // model.scale)
    noise = []
    for j, channels in enumerate(model.noise_channels):
        cell = cell_side(model, f"decode_{j}")
        place = Place(0, 0, height // cell, width // cell, tuple(range(len(image))))
        drawn = draw_noise(channels, j, place, seed=0)
        noise.append(np.float32(TEMPERATURE) * drawn)
    return condition, image, noise


def cases(model: Model, profiles: Sequence[Profile]) -> list[Case]:
    """One for each profile of a backend, that no later one takes: the last has the smallest targets."""
    if not profiles:
        return [case(model)]
    found = []
    for number, profile in enumerate(profiles):
        beyond = [later.height + model.size_multiple for later in profiles[number + 1 :]]
        wanted = [max([side * model.size_multiple, *beyond]) for side in SIDES_IN_MULTIPLES]
        sides = min(wanted[0], profile.height), min(wanted[1], profile.width)
        found.append(case(model, min(ROWS, profile.rows), sides))
    return found


def smooth_conditions(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Random images, smooth as photographs are, (count, height, width, 3)."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 5, 5, 3)).astype(np.float32)
    large = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.asarray(np.clip(large, 0, 255), np.uint8)
