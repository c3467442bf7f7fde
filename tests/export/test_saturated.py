"""Logit pixels near black and white, where the derivative of the sigmoid is almost 0.

PyTorch exports log(sigmoid(v)) as Log(Sigmoid), and ONNX Runtime's Sigmoid on the CPU is an approximation that is 0
for v ≤ −18. The result was −inf there. The model therefore writes the term with softplus.
"""

import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from small_models import small_model, torch_noise

from caflow_export.export import export
from caflow_export.to_onnx import GraphToTrace, Port, trace
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training import checkpoint
from caflow_training.dequantization import log_sigmoid_slope
from caflow_training.model import CAFlow
from caflow_training.tasks import ImageToImage

SIDE = 64
DARKNESS = 10.0
"""The samples' logits are around −`DARKNESS`, with a standard deviation of 2.4."""


@pytest.fixture(scope="module")
def model() -> CAFlow:
    """Two levels, a target flow of depth 1, and samples that are nearly black."""
    torch.manual_seed(0)
    model = small_model(torch.float32, levels=2, target_steps=1, own_steps=1, pixels="logit", task=ImageToImage())
    with torch.no_grad():
        norm: Any = model.target_flow.levels[-1].layers[1].norm  # type: ignore[index]
        norm.log_scale.sub_(0.5)
        norm.bias.add_(DARKNESS * math.exp(-0.5))
    return model


@pytest.fixture(scope="module")
def pipe(model: CAFlow, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    path = tmp_path_factory.mktemp("saturated") / "model.pt"
    checkpoint.save(path, model)
    return load(export(path).path, backend="cpu")


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Black, white, half of each, and noise: (4, 64, 64, 3) uint8."""
    images = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    images[1] = 255
    images[2, :, : SIDE // 2] = 255
    images[3] = np.random.default_rng(0).integers(0, 256, images[3].shape)
    return images


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
def test_likelihoods_of_nearly_black_samples_are_those_of_the_model(
    model: CAFlow, pipe: Pipeline, images: NDArray[np.uint8]
) -> None:
    drawn = pipe.sample(images, n=2, temperature=1.0, seed=3)
    for k, image in enumerate(images):
        samples = np.arange(2)
        noise = torch_noise(pipe.manifest.model.noise_channels, SIDE, SIDE, samples, seed=3)
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
        exact = model.double()
        with torch.no_grad():
            wanted = exact.sample(planes, {key: z.double() for key, z in noise.items()}, 1.0)
        order = np.argsort(-wanted.log_likelihood.total.numpy())
        np.testing.assert_allclose(
            np.sort(drawn.log_likelihood[k])[::-1], wanted.log_likelihood.total.numpy()[order], rtol=1e-5
        )


@pytest.mark.full
def test_saturated_images_have_the_scores_of_the_model(
    model: CAFlow, pipe: Pipeline, images: NDArray[np.uint8]
) -> None:
    scored = pipe.score(images, images[::-1].copy())
    targets, conditions = (torch.from_numpy(x.copy()).permute(0, 3, 1, 2) for x in (images, images[::-1]))
    with torch.no_grad():
        wanted = model.double().log_prob(targets, conditions).total
    np.testing.assert_allclose(scored.log_likelihood, wanted.numpy(), rtol=1e-5)
