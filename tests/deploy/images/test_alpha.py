"""Transparency: alpha has sharp edges, and hidden colours cause no fringe."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import caflow
from numpy.typing import NDArray
from tiny import stored

from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.matte import matted
from caflow_runtime.ood.consistency import enlarge_image

RED = np.array([220, 40, 30], np.uint8)
SIDE = 32


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Red disc with a hard edge. The transparent pixels around it are green."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(alpha, (SIDE // 2, SIDE // 2), SIDE // 3, 255, -1)
    rgb = np.where(alpha[..., None] > 0, RED, np.array([0, 255, 0], np.uint8)).astype(np.uint8)
    path = tmp_path / "disc.png"
    assert cv2.imwrite(str(path), np.dstack([rgb[..., ::-1], alpha]))
    return path


def farthest_from_a_mixture(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], ground: int) -> float:
    """Return the largest distance, in grey levels, of composited pixels from the mixtures of red and the background."""
    share = alpha[..., None] / 255
    found = share * rgb + (1 - share) * ground
    lowest, highest = np.minimum(RED, ground), np.maximum(RED, ground)
    return float(np.maximum(lowest - found, found - highest).max())


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ([], 8),
        (["--scale", 2.5], 8),
        (["--scale", 2], 16),
        (["--width", 20], 8),
        pytest.param(["--scale", 6, "--keep-all"], 8, marks=pytest.mark.full),
    ],
)
def test_a_hard_edge_has_no_fringe(disc: Path, tmp_path: Path, options: list[object], bits: int) -> None:
    """There is no fringe on black or white, whether the model enlarges the image or it is only reduced."""
    out, given = tmp_path / "out.png", stored(disc)
    if bits == 16:
        assert cv2.imwrite(str(disc), given.astype(np.uint16) * 257)
    caflow("image", disc, "-o", out, "-n", 1, *options, code=0)
    found = read_image(out)
    assert found.bits == bits
    assert found.alpha is not None
    for ground in (0, 255):
        assert farthest_from_a_mixture(found.rgb, found.alpha, ground) < 25
    assert found.alpha[: found.alpha.shape[0] // 16].max() == 0
    assert found.alpha[found.alpha.shape[0] // 2, found.alpha.shape[1] // 2] == 255
    if not options:  # if the hidden green is used, there is a fringe
        green = enlarge_image(np.ascontiguousarray(given[..., 2::-1]), 4)
        assert farthest_from_a_mixture(green, found.alpha, 0) > 60


def test_hidden_colours_are_replaced_by_the_nearest_visible_ones() -> None:
    """Visible colours are unchanged, and a second call changes nothing."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    alpha = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), (20, 30), p=[0.5, 0.1, 0.1, 0.1, 0.2])
    found = matted(rgb, alpha)
    np.testing.assert_array_equal(found[alpha > 0], rgb[alpha > 0])
    seen = np.argwhere(alpha >= 128)
    for y, x in np.argwhere(alpha == 0):
        far = np.hypot(*(seen - (y, x)).T)
        near = rgb[tuple(seen[far <= far.min() * 1.05 + 1e-6].T)]
        assert (near == found[y, x]).all(1).any()
    np.testing.assert_array_equal(matted(found, alpha), found)
    np.testing.assert_array_equal(matted(rgb, np.zeros_like(alpha)), rgb)  # without visible colours, nothing changes
    deep = rgb.astype(np.uint16) * 257
    np.testing.assert_array_equal(matted(deep, alpha), found * np.uint16(257))
