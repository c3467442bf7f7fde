"""Noise: the published generator, the normal numbers of the specification, and independence of the drawn window."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise, philox

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_the_generator_is_philox4x32_10(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """The generator gives the test values that its authors published."""
    words = philox([np.array([word], np.uint32) for word in counter], key)
    assert tuple(int(word[0]) for word in words) == expected


def test_a_normal_number_equals_the_formula_of_the_specification() -> None:
    """Computed by hand: channel 5 of z[2, 1] at row 3 and column 7, for sample 9, seed 11 and frame 13."""
    z = draw_window_noise([4, 8], 1, NoiseWindow(0, 0, 4, 8, (9,)), seed=11, frame=13)
    counter = (7, 3, 1 + (2 << 16) + (1 << 24), 9)
    a, b, _, _ = (int(w[0]) for w in philox([np.array([c], np.uint32) for c in counter], (11, 13)))
    radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
    assert z[0, 4 + 5, 3, 7] == np.float32(radius * math.sin(2 * math.pi * b / 2**32))
    assert z[0, 4 + 4, 3, 7] == np.float32(radius * math.cos(2 * math.pi * b / 2**32))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9))
def test_the_noise_of_a_window_is_a_part_of_that_of_the_image(top: int, left: int, height: int, width: int) -> None:
    whole = draw_window_noise([6, 3], 0, NoiseWindow(0, 0, 50, 50, (0, 1, 2, 3)), seed=5)
    part = draw_window_noise([6, 3], 0, NoiseWindow(top, left, height, width, (3, 1)), seed=5)
    np.testing.assert_array_equal(part, whole[[3, 1], :, top : top + height, left : left + width])


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"frame": 1}, {"level": 1}, {"samples": (1,)}, {"top": 32}, {"left": 32}]
)
def test_noise_of_another_place_sample_seed_or_frame_is_independent(other: dict[str, Any]) -> None:
    def drawn(channels: list[int], level: int = 0, seed: int = 0, frame: int = 0, **place: Any) -> NDArray[np.float32]:
        window = NoiseWindow(**{"top": 0, "left": 0, "height": 32, "width": 32, "samples": (0,), **place})
        return draw_window_noise(channels, level, window, seed, frame)

    a, b = drawn([8]), drawn([8], **other)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05
    blocks = drawn([8, 8])
    assert abs(np.corrcoef(blocks[:, :8].ravel(), blocks[:, 8:].ravel())[0, 1]) < 0.05


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    z = draw_window_noise([16], 0, NoiseWindow(0, 0, 128, 128, (0, 1, 2, 3)), seed=0).astype(np.float64)
    count = z.size
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert np.abs(z).max() < 6.8
    neighbours = [(z[:, :, 1:], z[:, :, :-1]), (z[..., 1:], z[..., :-1]), (z[:, 1:], z[:, :-1]), (z[1:], z[:-1])]
    for a, b in neighbours:
        assert abs((a * b).mean()) < 5 / math.sqrt(a.size)
