"""Fold, hoist, batch, free likelihood: each transformation for the export equals the model in float64."""

import numpy as np
import pytest
import torch
from small_models import MEAN, small_model, stir
from torch import Tensor

from caflow_export.fold import FoldedChain
from caflow_export.levels import FlowLevel, Precision
from caflow_export.verify import torch_graphs
from caflow_runtime.flow import level_chain
from caflow_training.bijections import Chain, ReferenceSqueeze, Squeeze, TransitionStep
from caflow_training.model import CAFlow
from caflow_training.tasks import ImageToImage, SuperResolution

DOUBLE = Precision(torch.float64, torch.float64)
EXACT = 1e-9

VARIANTS: dict[str, dict[str, object]] = {
    "unshared": {},
    "shared": {"dependencies": "shared", "levels": 4},
    "dual-glow": {"dependencies": "dual-glow"},
    "residual super-resolution": {"residual": True, "task": SuperResolution(scale=4)},
    "mean network": {"residual": True, "mean_blocks": 1, "task": SuperResolution(scale=2)},
    "mean network, features": {**MEAN, "log_scale_bound": 0.5},
    "mean network, degradation": {**MEAN, "degradation_aware": True},
    "mean network, features, shared, ×8": {**MEAN, "dependencies": "shared", "task": SuperResolution(scale=8)},
    "logit, variational": {"pixels": "logit", "dequantization_steps": 1},
    "one level": {"levels": 1},
    "one level, ×8": {"levels": 1, "task": SuperResolution(scale=8)},
    "two levels, shared": {"levels": 2, "dependencies": "shared"},
}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> CAFlow:
    return small_model(torch.float64, **{"task": ImageToImage(), **VARIANTS[request.param]})


@pytest.mark.parametrize("first", [Squeeze(), ReferenceSqueeze(3)], ids=["plain", "reference"])
def test_folded_layers_compute_the_run_of_layers(first: Squeeze | ReferenceSqueeze) -> None:
    """A run of ActNorms and 1×1 convolutions, after the reference's kernel, is one map in each direction."""
    flow = small_model(levels=1).target_flow.levels[0]
    chain = Chain([first, TransitionStep(12), TransitionStep(12), *list(flow.layers)[-2:]]).double()  # type: ignore[arg-type]
    stir(chain)
    if isinstance(first, ReferenceSqueeze):
        first.kernel.add_(0.1 * torch.randn_like(first.kernel))
    level = FlowLevel(chain, DOUBLE)
    x, z = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 12, 2, 3, dtype=torch.float64)
    assert len(FoldedChain.of(chain).steps) == 1
    for direction, folded, image, sign in ((chain, level, x, 1), (chain.inverse, level.inverse, z, -1)):
        expected, log_det = direction(image)
        got, share = folded(image)
        torch.testing.assert_close(got, expected, rtol=0, atol=EXACT)
        torch.testing.assert_close(sign * share.sum((1, 2)), log_det, rtol=0, atol=EXACT)


@pytest.mark.parametrize("size", [(1, 1), (2, 1)], ids=str)
def test_the_chain_samples_as_the_model_does_and_knows_its_likelihood(model: CAFlow, size: tuple[int, int]) -> None:
    """All transformations together, for rows of two images in any order. Scoring a sample returns its noise."""
    height, width = (k * model.config.size_multiple for k in size)
    condition, image = conditions(model, 2, height, width), torch.tensor([1, 0, 1])
    blocks = model.draw_noise(3, height, width)
    graphs, levels = torch_graphs(model, DOUBLE), model.config.levels
    encoded, noise = encode(graphs, condition), side_by_side(blocks, levels)
    with torch.no_grad():
        expected = model.sample(condition[image], blocks)
    drawn = level_chain.sample(graphs, levels, encoded, image.numpy(), noise)
    pixels = torch.from_numpy(drawn.pixels).permute(0, 3, 1, 2)
    torch.testing.assert_close(pixels, expected.images, rtol=EXACT, atol=EXACT)
    per_level = torch.from_numpy(drawn.log_likelihood)
    torch.testing.assert_close(per_level, expected.log_likelihood.per_level, rtol=EXACT, atol=1e-7)
    scored = level_chain.score(graphs, levels, encoded, image.numpy(), drawn.pixels)
    for sent, returned in zip(noise, scored.noise, strict=True):
        np.testing.assert_allclose(returned, sent, rtol=0, atol=1e-7)


def test_the_chain_scores_as_the_model_does(model: CAFlow) -> None:
    side = model.config.size_multiple
    condition, image = conditions(model, 2, side, 2 * side), torch.tensor([0, 1])
    target = torch.randint(0, 256, (2, 3, side, 2 * side), dtype=torch.uint8)
    graphs, levels = torch_graphs(model, DOUBLE), model.config.levels
    with torch.no_grad():
        expected = model.log_prob(target, condition).total
    integers = target.permute(0, 2, 3, 1).contiguous().numpy()
    pixels: level_chain.Array = integers + 0.5
    dequantization: level_chain.Array = np.zeros(2)
    if "dequantize" in graphs:
        out = graphs["dequantize"]({"integers": integers})
        pixels, dequantization = out["pixels"], out["log_likelihood_map"].sum((1, 2))
    scored = level_chain.score(graphs, levels, encode(graphs, condition), image.numpy(), pixels)
    got = torch.from_numpy(scored.log_likelihood.sum(1) + dequantization)
    torch.testing.assert_close(got, expected, rtol=EXACT, atol=0)


def conditions(model: CAFlow, count: int, height: int, width: int) -> Tensor:
    scale = model.config.task.scale
    return torch.randint(0, 256, (count, 3, height // scale, width // scale), dtype=torch.uint8)


def encode(graphs: dict[str, level_chain.Graph], condition: Tensor) -> dict[str, level_chain.Array]:
    return level_chain.encode(graphs, condition.permute(0, 2, 3, 1).contiguous().numpy())


def side_by_side(blocks: dict[tuple[int, int], Tensor], levels: int) -> list[level_chain.Array]:
    return [torch.cat([blocks[i, j] for i in range(levels) if (i, j) in blocks], 1).numpy() for j in range(levels)]
