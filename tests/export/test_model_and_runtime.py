"""The runtime compared with the model in PyTorch: samples as `CAFlow.sample`, scores as `CAFlow.log_prob`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import torch_noise
from tiny import TINY, photograph

from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.flow.tolerances import TOLERANCES
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training import checkpoint
from caflow_training.model import CAFlow
from caflow_training.results import to_integers

ALLOWED = TOLERANCES["fp32"]


@pytest.fixture(scope="module", params=["tiny", pytest.param("x4-photo", marks=pytest.mark.full)])
def bundle(request: pytest.FixtureRequest) -> Path:
    return TINY if request.param == "tiny" else find_bundle(request.param)


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Iterator[Pipeline]:
    with load(bundle, backend="cpu") as pipe:
        yield pipe


@pytest.fixture(scope="module")
def model(bundle: Path) -> CAFlow:
    return checkpoint.load(bundle)


@pytest.fixture(scope="module")
def conditions(photographs: Path) -> list[NDArray[np.uint8]]:
    return [photograph(photographs, k, 8, 12) for k in range(3)]


def planes(image: NDArray[np.uint8], rows: int = 1) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].expand(rows, -1, -1, -1)


@torch.no_grad()
def test_samples_are_those_of_the_model(pipe: Pipeline, model: CAFlow, conditions: list[NDArray[np.uint8]]) -> None:
    """Equal noise gives equal images and likelihoods, within tolerances. The most likely sample is the first."""
    n, temperatures = 4, np.linspace(0.7, 0.9, model.config.levels).tolist()
    drawn = pipe.sample(np.stack(conditions), n=n, temperature=temperatures, seed=3)
    assert drawn.density_at == "sample"
    assert np.shape(drawn.images) == (3, n, 32, 48, 3)
    noise = torch_noise(pipe.manifest.model.noise_channels, 32, 48, np.arange(n), seed=3)
    for k, condition in enumerate(conditions):
        expected = model.sample(planes(condition, n), noise, temperatures)
        order = np.argsort(-expected.log_likelihood.total.numpy())
        np.testing.assert_array_equal(drawn.sample[k], order)
        np.testing.assert_allclose(
            drawn.per_level[k], expected.log_likelihood.per_level[order], rtol=ALLOWED.log_likelihood, atol=1e-2
        )
        np.testing.assert_allclose(
            drawn.log_likelihood[k], expected.log_likelihood.total[order], rtol=ALLOWED.log_likelihood
        )
        images = to_integers(expected.images).permute(0, 2, 3, 1)[order].numpy()
        assert ALLOWED.rounded is not None
        assert (drawn.images[k] != images).mean() <= ALLOWED.rounded


@torch.no_grad()
def test_scores_are_those_of_the_model(pipe: Pipeline, model: CAFlow, photographs: Path) -> None:
    targets = [photograph(photographs, k, 32, 48) for k in range(3)]
    conditions = [np.ascontiguousarray(target[::4, ::4]) for target in targets]
    scored = pipe.score(np.stack(targets), np.stack(conditions))
    assert scored.density_at == "image"
    for k, (target, condition) in enumerate(zip(targets, conditions, strict=True)):
        expected = model.log_prob(planes(target), planes(condition))
        np.testing.assert_allclose(scored.log_likelihood[k], expected.total, rtol=ALLOWED.log_likelihood)
        np.testing.assert_allclose(scored.per_level[k], expected.per_level[0], rtol=ALLOWED.log_likelihood, atol=1e-2)
        bits = -expected.total.item() / (np.log(2) * target.size)
        np.testing.assert_allclose(scored.bits_per_dim[k], bits, rtol=1e-5)
