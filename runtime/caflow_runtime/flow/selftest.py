"""Self-tests of a flow: properties that every flow has, checked with the graphs alone, without reference values."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.bundle.manifest import Manifest, Model, cell_side
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Graph
from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise

SIDES_IN_MULTIPLES = (2, 3)
IMAGES, ITEMS = 2, 6
TEMPERATURE = 0.8

Case = tuple[NDArray[np.uint8], NDArray[np.int64], list[Any]]
"""Conditions, the index of each item's condition, and noise."""
Kind = Literal["noise", "density", "items"]


def flow_errors(
    graphs: Mapping[str, Graph],
    levels: int,
    condition: NDArray[np.uint8],
    image: NDArray[np.int64],
    noise: list[Array],
    is_invertible: bool = True,
) -> Iterator[tuple[Kind, str, Array]]:
    """Yield errors of a flow whose graphs use NumPy arrays: the kind, a description, and the error values.

    Three properties are checked. Scoring a sample must return the noise that it was drawn from (absolute errors).
    Sampling and scoring must give the same log-likelihood (relative errors). Identical items must give identical
    pixels, and an item must give the same pixels alone and in a batch (errors as fractions of full scale).

    Arguments:
        condition, image, noise: inputs of `level_chain.encode` and `level_chain.sample`, with at least two items.
        is_invertible: False skips the first two properties, for imported models whose inverse is only approximate.
    """
    encoded = level_chain.encode(graphs, condition)
    drawn = level_chain.sample(graphs, levels, encoded, image, noise)
    if is_invertible:
        scored = level_chain.score(graphs, levels, encoded, image, drawn.pixels)
        for j, (sent, returned) in enumerate(zip(noise, scored.noise, strict=True)):
            yield "noise", f"noise of level {j} after decode and likelihood", sent - returned
        again, total = scored.log_likelihood.sum(1), drawn.log_likelihood.sum(1)
        yield "density", "density: sampling against scoring, relative", likelihood_error(again, total, drawn.pixels)
    same = [np.repeat(z[:1], len(image), 0) for z in noise]
    alike = level_chain.sample(graphs, levels, encoded, np.zeros_like(image), same).pixels
    yield "items", "identical items, pixels", (alike - alike[:1]) / 256
    alone = level_chain.sample(graphs, levels, encoded, image[1:2], [z[1:2] for z in noise]).pixels
    yield "items", "an item alone and in a batch, pixels", (alone - drawn.pixels[1:2]) / 256


def likelihood_error(found: Array, exact: Array, targets: Array) -> Array:
    """Return relative errors of log-likelihoods.

    A log-likelihood near zero is a sum of large terms that cancel, so its relative error is not meaningful. If its
    absolute value is below one bit per dimension, the error is relative to one bit per dimension instead.

    Arguments:
        found, exact: (N,) log-likelihoods of targets, in nats.
        targets: (N, H, W, 3); only their number of dimensions is used.
    """
    one_bit = math.log(2) * math.prod(targets.shape[1:])
    error: Array = (found - exact) / np.maximum(np.abs(exact), one_bit)
    return error


def is_invertible(manifest: Manifest) -> bool:
    """Return whether the exporter verified that scoring returns a sample's noise.

    With imported models, scoring returns the noise only roughly.
    """
    return any(m.graph == "flow" and m.what.startswith("noise of level") for m in manifest.verification)


def case(model: Model, items: int = ITEMS, sides: tuple[int, int] | None = None) -> Case:
    """Return a test case: smooth random conditions, the index of each item's condition, and noise.

    Arguments:
        items: number of items.
        sides: height and width of the target in pixels; by default a few size multiples.
    """
    height, width = sides or (side * model.size_multiple for side in SIDES_IN_MULTIPLES)
    image = np.arange(items) * IMAGES // max(IMAGES, items)
    condition = conditions_for(model, int(image.max()) + 1, height // model.scale, width // model.scale)
    noise = []
    for j, channels in enumerate(model.noise_channels):
        cell = cell_side(model, f"decode_{j}")
        place = NoiseWindow(0, 0, height // cell, width // cell, tuple(range(len(image))))
        drawn = draw_window_noise(channels, j, place, seed=0)
        noise.append(np.float32(TEMPERATURE) * drawn)
    return condition, image, noise


def case_within(model: Model, profile: Profile | None) -> Case:
    """Return a test case that a backend with these size limits can run."""
    if profile is None:
        return case(model)
    height, width = (
        min(side * model.size_multiple, most)
        for side, most in zip(SIDES_IN_MULTIPLES, (profile.height, profile.width), strict=True)
    )
    return case(model, min(ITEMS, profile.batch_size), (height, width))


def smooth_conditions(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return random images, (count, height, width, 3), that are smooth like photographs."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 5, 5, VALUES)).astype(np.float32)
    large = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.asarray(np.clip(large, 0, 255), np.uint8)


def conditions_for(model: Model, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return smooth random conditions of a model, (count, height, width, 3 or 4).

    If the model takes a mask, the left half of the targets is to be drawn, and the right half is known.
    """
    images = smooth_conditions(count, height, width)
    if model.condition_channels == VALUES:
        return images
    mask = np.zeros((count, height, width, 1), np.uint8)
    mask[:, :, -(-width // 2) :] = 255
    return np.concatenate([images, mask], 3)
