"""Windows of a large image: their weights sum to 1, and their parts add up to the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caflow_runtime.batching.batch_size import BatchLimits, plan_batches
from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.flow.log_likelihood_maps import map_per_pixel
from caflow_runtime.flow.tiles import TileCanvas, TooSmall, cut, pad

MULTIPLE = 8
sides = st.integers(1, 300)


@given(sides, sides, st.integers(64**2, 200**2), st.integers(0, 24))
def test_the_weights_of_every_pixel_sum_to_one(height: int, width: int, budget: int, overlap: int) -> None:
    windows = cut(height, width, MULTIPLE, budget, overlap)
    padded = [-(-side // MULTIPLE) * MULTIPLE for side in (height, width)]
    total = np.zeros(padded)
    for window in windows:
        rows, columns = slice(window.y.start, window.y.end), slice(window.x.start, window.x.end)
        assert window.shape == windows[0].shape
        assert np.prod(window.shape) <= budget
        assert window.y.start % MULTIPLE == window.x.start % MULTIPLE == window.shape[0] % MULTIPLE == 0
        total[rows, columns] += np.outer(window.y.weights, window.x.weights)
    inside = np.zeros(padded)
    inside[:height, :width] = 1
    np.testing.assert_allclose(total, inside, atol=1e-6)


@given(sides, sides, st.integers(64**2, 200**2))
def test_pixels_and_shares_come_back_from_their_windows(height: int, width: int, budget: int) -> None:
    rng = np.random.default_rng(0)
    padded = [-(-side // MULTIPLE) * MULTIPLE for side in (height, width)]
    pixels = rng.uniform(0, 255, (*padded, 3)).astype(np.float32)
    nats = {cell: rng.normal(size=[side // cell for side in padded]).astype(np.float32) for cell in (2, 8)}
    canvas = TileCanvas(height, width)
    for window in cut(height, width, MULTIPLE, budget, 16):
        (top, left), (bottom, right) = (window.y.start, window.x.start), (window.y.end, window.x.end)
        parts = [n[top // c : bottom // c, left // c : right // c] for c, n in nats.items()]
        canvas.add(window, pixels[top:bottom, left:right], parts)
    assert canvas.pixels is not None
    np.testing.assert_allclose(canvas.pixels, pixels[:height, :width], rtol=1e-5, atol=1e-3)
    per_pixel = sum(np.repeat(np.repeat(n, c, 0), c, 1) / c**2 for c, n in nats.items())
    mapped = map_per_pixel(canvas.maps, height, width)
    assert mapped.shape == (height, width)
    assert np.isclose(mapped.sum(dtype=np.float64), np.asarray(per_pixel)[:height, :width].sum(), atol=1e-2)


def test_windows_meet_in_the_middle_of_what_they_share() -> None:
    first, second = (window.x for window in cut(8, 184, 8, 8 * 104, 24))
    shared = first.end - second.start
    assert shared == 24
    ramp = second.weights[:shared]
    np.testing.assert_allclose(ramp, 1 - first.weights[-shared:], atol=1e-6)
    np.testing.assert_allclose(ramp, np.clip((np.arange(24) + 0.5 - 6) / 12, 0, 1), atol=1e-6)


def test_too_small_a_budget_is_an_error() -> None:
    with pytest.raises(
        TooSmall, match="tiles of at most 104×96 pixels are too small for an overlap of 64 pixels on both sides"
    ):
        cut(1000, 1000, MULTIPLE, 100**2, 64)


@pytest.mark.parametrize("side", [1, 2, 5, 8, 9])
def test_padding_reflects_where_it_can(side: int) -> None:
    image = np.arange(side * 3, dtype=np.uint8).reshape(side, 1, 3).repeat(side, 1)
    padded = pad(image, 16, 16)
    assert padded.shape == (16, 16, 3)
    np.testing.assert_array_equal(padded[:side, :side], image)
    # Reflection does not repeat the edge. An image that is too small to reflect is padded with its edge.
    expected = image[side - 2] if 16 - side < side else image[-1]
    np.testing.assert_array_equal(padded[side, :side], expected)


@pytest.mark.parametrize("profile", [None, Profile(1, 128, 96), Profile(5, 64, 48)])
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.integers(1, 12), st.integers(64**2, 200**2))
def test_every_row_runs_once_where_there_is_room(
    profile: Profile | None, shapes: list[tuple[int, int]], samples: int, budget: int
) -> None:
    limits = BatchLimits(budget, profile)
    windows = [cut(*shape, MULTIPLE, budget, 16, limits.largest_sides) for shape in shapes]
    rows: list[tuple[int, int, int, int]] = []
    for run in plan_batches(windows, range(samples), limits, canvas_pixels=300**2):
        assert len({unit.window.shape for unit in run}) == 1
        (height, width), count = run[0].window.shape, sum(len(unit.samples) for unit in run)
        assert count == 1 or count * height * width <= budget
        if profile is not None:
            assert max(count - profile.batch_size, height - profile.height, width - profile.width) <= 0
        rows += [(u.image, u.window.y.start, u.window.x.start, s) for u in run for s in u.samples]
    assert len(rows) == len(set(rows)) == samples * sum(map(len, windows))
