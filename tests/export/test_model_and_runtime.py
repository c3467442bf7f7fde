"""The runtime compared with the model in PyTorch: samples as `CAFlow.sample`, scores as `CAFlow.log_prob`.

Logit pixels near black and white are compared too, where the derivative of the sigmoid is almost 0. PyTorch exports
log(sigmoid(v)) as Log(Sigmoid), and ONNX Runtime's Sigmoid on the CPU is an approximation that is 0 for v ≤ −18. The
result was −inf there. The model therefore writes the term with softplus.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from small_models import planes, small_model, torch_noise
from tiny import TINY, photograph

from caflow_export.export import export
from caflow_export.to_onnx import GraphToTrace, Port, trace
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.flow.tolerances import TOLERANCES
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training import checkpoint
from caflow_training.dequantization import log_sigmoid_slope
from caflow_training.model import CAFlow
from caflow_training.results import to_integers
from caflow_training.tasks import ImageToImage

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


def test_the_slope_of_the_sigmoid_is_exact_in_onnx_runtime() -> None:
    class Slope(torch.nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return log_sigmoid_slope(v)

    v = np.arange(-40, 40.001, 0.05).astype(np.float32)
    proto = trace(GraphToTrace("slope", Slope(), (Port("v", torch.float32, ("items",)),), ("slope",)))
    assert not {"Sigmoid", "Log"} & {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"v": v})[0]
    v = v.astype(np.float64)
    exact = -np.abs(v) - 2 * np.log1p(np.exp(-np.abs(v)))
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.full
@torch.no_grad()
def test_nearly_black_samples_and_saturated_images_have_the_likelihoods_of_the_model(tmp_path: Path) -> None:
    """Two levels and a target flow of depth 1. Logits of samples are around −10, with a standard deviation of 2.4."""
    torch.manual_seed(0)
    model = small_model(torch.float32, levels=2, target_steps=1, own_steps=1, pixels="logit", task=ImageToImage())
    norm: Any = model.target_flow.levels[-1].layers[1].norm  # type: ignore[index]
    norm.log_scale.sub_(0.5)
    norm.bias.add_(10 * math.exp(-0.5))
    checkpoint.save(tmp_path / "model.pt", model)
    images = np.zeros((4, 64, 64, 3), np.uint8)  # black, white, half of each, and noise
    images[1] = images[2, :, :32] = 255
    images[3] = np.random.default_rng(0).integers(0, 256, images[3].shape)
    others, samples, exact = images[::-1].copy(), np.arange(2), model.double()
    with load(export(tmp_path / "model.pt").path, backend="cpu") as pipe:
        drawn, scored = pipe.sample(images, n=2, temperature=1.0, seed=3), pipe.score(images, others)
        noise = torch_noise(pipe.manifest.model.noise_channels, 64, 64, samples, seed=3)
    for k, image in enumerate(images):
        wanted = exact.sample(planes(image, 2), {key: z.double() for key, z in noise.items()}, 1.0).log_likelihood.total
        np.testing.assert_allclose(drawn.log_likelihood[k], np.sort(wanted.numpy())[::-1], rtol=1e-5)
        wanted = exact.log_prob(planes(image), planes(others[k])).total
        np.testing.assert_allclose(scored.log_likelihood[k], wanted.numpy()[0], rtol=1e-5)
