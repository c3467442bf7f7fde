"""Statistics of latents: their definitions, equality of tiles and the whole image, and the effect of blur."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tiny import photograph

from caflow_runtime.flow.latent_statistics import STATISTICS, name_of, statistics_of, sums_of
from caflow_runtime.flow.tiles import cut
from caflow_runtime.pipeline.pipeline import load

CHANNELS = (3, 2)
CELL = 4


def statistics(z: np.ndarray, overlap: int = 0, budget: int = 2**20) -> np.ndarray:
    """Return the statistics of one level's latents, (5, h, w), computed from the sums of all windows."""
    height, width = (CELL * side for side in z.shape[1:])
    sums = None
    for window in cut(height, width, CELL, budget, overlap):
        part = z[:, window.y.start // CELL : window.y.end // CELL, window.x.start // CELL : window.x.end // CELL]
        found = sums_of(part, CHANNELS, window)
        sums = found if sums is None else [one + more for one, more in zip(sums, found, strict=True)]
    assert sums is not None
    return statistics_of(sums)


def test_each_statistic_equals_its_formula() -> None:
    z = np.random.default_rng(0).normal(0.1, 1.3, (5, 9, 11)).astype(np.float32)
    found = statistics(z).reshape(2, len(STATISTICS))
    for block, of_block in ((z[:3].astype(np.float64), found[0]), (z[3:].astype(np.float64), found[1])):
        covariance = np.einsum("ayx,byx->ab", block, block) / (9 * 11)
        others = covariance[~np.eye(len(block), dtype=bool)]
        expected = [
            block.mean(),
            (block**2).mean(),
            (block**4).mean(),
            (block[:, :, 1:] * block[:, :, :-1]).mean(),
            (block[:, 1:] * block[:, :-1]).mean(),
            np.sqrt((others**2).mean()),
        ]
        np.testing.assert_allclose(of_block, expected, rtol=1e-9)
    for blocks in [(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1)]:
        wanted = [f"{name} of z[{i}, {j}]" for i, j in blocks for name in STATISTICS]
        assert [name_of(number, len(wanted), levels=2) for number in range(len(wanted))] == wanted


def test_latents_of_a_single_cell_have_statistics() -> None:
    found = statistics(np.full((5, 1, 1), 2.0, np.float32)).reshape(2, len(STATISTICS))
    np.testing.assert_allclose(found, [[2, 4, 16, 0, 0, 4]] * 2)


def test_statistics_of_tiles_add_up_to_those_of_the_image() -> None:
    z = np.random.default_rng(1).normal(0, 1, (5, 40, 30)).astype(np.float32)
    whole = statistics(z)
    tiled = statistics(z, overlap=16, budget=64 * 64)
    # The weights of each cell sum to 1. The weights of a pair of cells at a seam do not, so statistics of pairs differ.
    np.testing.assert_allclose(tiled.reshape(2, 6)[:, [0, 1, 2, 5]], whole.reshape(2, 6)[:, [0, 1, 2, 5]], rtol=1e-6)
    np.testing.assert_allclose(tiled, whole, atol=0.02)


def test_smooth_images_have_unusual_latents(calibrated: Path, photographs: Path) -> None:
    target = photograph(photographs, 4, 32, 32)
    condition = photograph(photographs, 4, 8, 8)
    condition[:] = cv2.resize(target, (8, 8), interpolation=cv2.INTER_AREA)
    smooth = np.asarray(cv2.GaussianBlur(target, (0, 0), 1.5), np.uint8)
    with load(calibrated, backend="cpu") as pipe:
        scored: Any = pipe.score([target, smooth], [condition, condition])
        energy = scored.statistics[:, [1, 7, 13]]
        sample = pipe.best_of(condition, n=1)
    assert (np.abs(energy[0] - energy[1]) > 0.01).any()
    assert sample.statistics is None
    assert scored.measures.shape == (2, 20)
