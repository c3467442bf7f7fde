"""Parity with the public implementation: its checkpoints load, and its tensors are reproduced."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from small_models import stir
from tiny import DATA
from torch import Tensor

from caflow_training import checkpoint
from caflow_training.bijections import AffineCoupling, AffineInjector, Chain, ReferenceSqueeze, TransitionStep
from caflow_training.conditional_flow import Dependencies
from caflow_training.config import CAFlowConfig
from caflow_training.dequantization import VariationalDequantizer
from caflow_training.model import CAFlow
from caflow_training.results import to_integers
from caflow_training.tasks import ImageToImage

TENSOR_TOLERANCE = 1e-4
LOG_LIKELIHOOD_TOLERANCE = 1e-5
ON_BORDER = 1e-3


@pytest.fixture(params=["unshared", "shared"])
def case(request: pytest.FixtureRequest) -> tuple[CAFlow, dict[str, Tensor]]:
    folder = DATA / "reference" / request.param
    model = checkpoint.load(folder / "lightning.ckpt")
    assert model.config.dependencies == request.param
    return model, load_file(folder / "tensors.safetensors")


def test_every_tensor_of_the_reference_is_reproduced(case: tuple[CAFlow, dict[str, Tensor]]) -> None:
    model, expected = case
    computed = dict(_reference_tensors(model, expected))
    assert set(computed) | {"Y", "W"} | {key for key in expected if key.startswith("sample_z.")} == set(expected)
    for key, value in computed.items():
        if key == "sample_W_8bit":
            continuous = expected["sample_W_continuous"]
            on_border = (continuous - continuous.round()).abs() < ON_BORDER  # rounding may go up or down
            assert torch.equal(value[~on_border], expected[key][~on_border]), key
            assert (value - expected[key]).abs().max() <= 1
            continue
        tolerance = LOG_LIKELIHOOD_TOLERANCE if key.startswith("log") else TENSOR_TOLERANCE
        error = (value - expected[key]).abs().max() / expected[key].abs().max()
        assert error < tolerance, f"{key}: relative error {error:.2e}"


@torch.no_grad()
def _reference_tensors(model: CAFlow, given: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield our value for each tensor of the reference's file, by its key. There, position 0 is the finest level."""

    def position(level: int) -> int:
        return model.config.levels - 1 - level

    likelihood = model.log_prob(given["W"], given["Y"])
    yield "logdet_target_flow", likelihood.target_log_det.sum(1)
    yield "logprior_conditional", likelihood.prior.sum(1)
    yield "logdet_conditional", likelihood.conditional_log_det.sum(1)
    yield "log_prob_w_given_y", likelihood.total

    condition_latents, log_prob_y = model.encode_condition(model.prepare(given["Y"]))
    target_latents, _ = model.target_flow(model.target_pixels(given["W"] + 0.5)[0])
    z, _ = model.conditional_flow(target_latents, condition_latents)
    yield "log_prob_y", log_prob_y
    for level, (d, latent) in enumerate(zip(condition_latents, target_latents, strict=True)):
        yield f"D.{position(level)}", d
        yield f"L.{position(level)}", latent
    for (i, j), value in z.items():
        yield f"z.{position(i)}.{position(j)}", value

    noise = {(i, j): given[f"sample_z.{position(i)}.{position(j)}"] for i, j in z}
    images = model.sample(given["Y"], noise).images
    yield "sample_W_continuous", images
    yield "sample_W_8bit", to_integers(images).float()
    for level, latent in enumerate(model.conditional_flow.inverse(noise, condition_latents)[0]):
        yield f"sample_L.{position(level)}", latent


@pytest.mark.parametrize(("dependencies", "levels"), [("unshared", 1), ("unshared", 4), ("shared", 4)])
@pytest.mark.parametrize("vardeq_depth", [None, 0, 3])
def test_checkpoints_of_the_reference_with_other_options_are_loaded(
    tmp_path: Path, dependencies: Dependencies, vardeq_depth: int | None, levels: int
) -> None:
    """A model that is written with the reference's names is the same model when it is loaded."""
    model = CAFlow(
        CAFlowConfig(
            levels=levels,
            condition_steps=1,
            target_steps=2,
            own_steps=3,
            cross_steps=2 if dependencies == "shared" else 3,
            image_width=6,
            conditional_width=4,
            conditional_transition_steps=1,
            dependencies=dependencies,
            pixels="logit",
            reference=True,
            dequantization_steps=vardeq_depth,
            task=ImageToImage(),
        )
    )
    stir(model)
    path = tmp_path / "lightning.ckpt"
    options = argparse.Namespace(vardeq_depth=vardeq_depth, data_dim=2, data_channels=3, coupling_type="Affine")
    torch.save({"state_dict": dict(_by_reference_names(model)), "hyper_parameters": {"opts": options}}, path)
    loaded = checkpoint.load(path)
    assert loaded.config == model.config
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    checkpoint.save(tmp_path / "ours.pt", loaded)
    assert checkpoint.load(tmp_path / "ours.pt").config == model.config


def _by_reference_names(model: CAFlow) -> Iterator[tuple[str, Tensor]]:
    n = model.config.levels
    for name, flow, dequantizer in (
        ("rflow", model.condition_flow, model.condition_dequantizer),
        ("tflow", model.target_flow, model.target_dequantizer),
    ):
        blocks = f"model.{name}.uflow.scale_blocks"
        if isinstance(dequantizer, VariationalDequantizer):
            yield from _layers(f"{blocks}.0", list(dequantizer.layers))
        for j, level in enumerate(flow.levels):
            yield from _layers(f"{blocks}.{n - j}", list(level.layers))  # type: ignore[arg-type]
    conditional = model.conditional_flow
    for i in range(n):
        for j in range(i + 1):
            block = (
                cast(Chain, conditional.own[j])
                if i == j
                else next(block for block, flows in conditional.cross_blocks(j) if i in flows)
            )
            if model.config.dependencies == "unshared":
                name = f"model.UnsharedConditionalFlow.scale_flows.{n - 1 - i}.{i - j}"
            elif i == j:
                name = f"model.SharedConditionalFlow.g_I_cond_flows.{n - 1 - j}"
            else:
                name = f"model.SharedConditionalFlow.g_S_cond_flows.{n - 2 - j}"
            yield from _layers(name, list(block.layers))


def _layers(prefix: str, layers: list[torch.nn.Module]) -> Iterator[tuple[str, Tensor]]:
    number = 0
    for layer in layers:
        name = f"{prefix}.layers.{number}"
        if isinstance(layer, ReferenceSqueeze):
            yield f"{name}.downsample_kernel", layer.kernel
        elif isinstance(layer, TransitionStep):
            yield f"{name}.scale", layer.norm.log_scale.detach()[None, :, None, None]
            yield f"{name}.bias", layer.norm.bias.detach()[None, :, None, None]
            number += 1
            yield f"{prefix}.layers.{number}.weight", layer.conv.weight.detach()
        elif isinstance(layer, AffineCoupling | AffineInjector):
            network = layer.network
            for k, convolution in ((0, network.first), (2, network.middle), (4, network.last)):
                for part, tensor in convolution.named_parameters():
                    yield f"{name}.subnet.nn.{k}.{part}", tensor.detach()
        number += 1
