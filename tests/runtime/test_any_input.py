"""Random inputs from Hypothesis: each gives a correct image or a clear error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline, load


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="cpu", pixel_budget=64**2, overlap=8) as pipe:
        yield pipe


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 24), st.integers(1, 24)), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_any_size_gives_an_image_of_its_size(pipe: Pipeline, sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    best = pipe.best_of(images, n=2, seed=seed)
    for (height, width), image, mapped in zip(sizes, best.images, best.log_likelihood_map, strict=True):
        assert image.shape == (4 * height, 4 * width, 3)
        assert image.dtype == np.uint8
        assert mapped.shape == (4 * height, 4 * width)
    assert np.isfinite(best.log_likelihood).all()
    assert np.isfinite(pipe.score(list(best.images), images).bits_per_dim).all()


GOOD = np.zeros((4, 4, 3), np.uint8)
DTYPES = [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64, np.complex64, "O", "U4"]
shapes = st.lists(st.integers(0, 5), max_size=6).map(tuple)


@settings(max_examples=60)
@given(shapes, st.sampled_from([np.uint8, *DTYPES]))
def test_any_array_is_an_image_or_refused(pipe: Pipeline, shape: tuple[int, ...], dtype: Any) -> None:
    array = np.zeros(shape, dtype)
    fits = dtype is np.uint8 and len(shape) in (3, 4) and shape[-1] == 3 and 0 not in shape
    if fits:
        assert len(pipe.best_of(array, n=1).images) == (1 if len(shape) == 3 else shape[0])
    else:
        with pytest.raises(InputError, match="expected"):
            pipe.best_of(array, n=1)
