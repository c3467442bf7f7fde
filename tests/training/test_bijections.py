"""Invertible layers: round trips, log-determinants and gradients of each layer of a table, at several resolutions."""

from collections.abc import Callable

import pytest
import torch
from small_models import stir
from torch import Tensor

from caflow_training.bijections import (
    ActNorm,
    AffineCoupling,
    AffineInjector,
    Bijection,
    Chain,
    InvertibleConv1x1,
    Squeeze,
    TransitionStep,
    initialize_actnorm,
)
from caflow_training.conditional_flow import BlockSettings, conditional_block
from caflow_training.dequantization import CentredPixels, KnownPixels, LogitPixels

CHANNELS, CONDITION_CHANNELS = 3, 2

# name: (layer, condition as (channels, divisor of the image's sides) or None, kind of input values)
LAYERS: dict[str, tuple[Callable[[], Bijection], tuple[int, int] | None, str]] = {
    "ActNorm": (lambda: ActNorm(CHANNELS), None, "real"),
    "InvertibleConv1x1": (lambda: InvertibleConv1x1(CHANNELS), None, "real"),
    "TransitionStep": (lambda: TransitionStep(CHANNELS), None, "real"),
    "Squeeze": (Squeeze, None, "real"),
    "AffineCoupling": (lambda: AffineCoupling(CHANNELS, 4), None, "real"),
    "AffineCoupling, conditional": (lambda: AffineCoupling(CHANNELS, 4, CONDITION_CHANNELS), (2, 1), "real"),
    "AffineInjector": (lambda: AffineInjector(CHANNELS, 4, CONDITION_CHANNELS), (2, 1), "real"),
    "Chain": (lambda: Chain([TransitionStep(CHANNELS), AffineCoupling(CHANNELS, 4)]), None, "real"),
    "conditional block": (
        lambda: conditional_block(CHANNELS, 4 * CONDITION_CHANNELS, 2, BlockSettings(4)),
        (8, 2),
        "real",
    ),
    "CentredPixels": (CentredPixels, None, "pixels"),
    "CentredPixels, residual": (CentredPixels, (CHANNELS, 1), "pixels"),
    "KnownPixels": (KnownPixels, (2 * CHANNELS, 1), "pixels"),
    "LogitPixels": (LogitPixels, None, "pixels"),
}


@pytest.mark.parametrize("size", [(2, 2), (4, 2)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_invertible_with_exact_log_determinants_and_gradients(name: str, size: tuple[int, int]) -> None:
    make, condition_shape, values = LAYERS[name]
    layer = make().double()
    stir(layer)
    x = torch.randn(2, CHANNELS, *size, dtype=torch.float64)
    if values == "pixels":
        x = 255 * torch.rand_like(x)
    condition = None
    if condition_shape is not None:
        channels, divisor = condition_shape
        condition = torch.randn(2, channels, size[0] // divisor, size[1] // divisor, dtype=torch.float64)

    z, log_det = layer(x, condition)
    back, inverse_log_det = layer.inverse(z, condition)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10 * float(x.abs().max().clamp(min=1)))
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=0, atol=1e-10)
    assert log_det.shape == (2,)

    for row in range(2):
        c = None if condition is None else condition[row : row + 1]
        forward = _log_abs_det(layer, x[row : row + 1], c)
        inverse = _log_abs_det(layer.inverse, z[row : row + 1], c)
        torch.testing.assert_close(forward, log_det[row], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(inverse, inverse_log_det[row], rtol=1e-10, atol=1e-10)

    for direction, image in ((layer, x), (layer.inverse, z.detach())):
        layer.zero_grad()
        out, out_log_det = direction(image.clone().requires_grad_(), condition)
        (out.square().sum() + out_log_det.sum()).backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def _log_abs_det(
    direction: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]], image: Tensor, condition: Tensor | None
) -> Tensor:
    def flat(v: Tensor) -> Tensor:
        return direction(v.reshape(image.shape), condition)[0].flatten()

    jacobian = torch.autograd.functional.jacobian(flat, image.flatten())
    log_det: Tensor = torch.linalg.slogdet(jacobian).logabsdet
    return log_det


def test_affine_layers_start_as_the_identity() -> None:
    x, condition = torch.randn(2, 4, 4, 4), torch.randn(2, 2, 4, 4)
    for layer in (AffineCoupling(4, 8, 2), AffineInjector(4, 8, 2)):
        z, log_det = layer(x, condition)
        torch.testing.assert_close(z, x)
        assert not log_det.any()


@pytest.mark.parametrize("layer_type", [ActNorm, TransitionStep])
def test_initialization_normalizes_each_channel(layer_type: type[ActNorm | TransitionStep]) -> None:
    layer = layer_type(3)
    if isinstance(layer, TransitionStep):
        torch.nn.init.eye_(layer.conv.weight)
    x = torch.tensor([2.0, 30.0, 0.0])[:, None, None] * torch.randn(8, 3, 16, 16) + 5
    initialize_actnorm(layer, lambda: layer(x))
    z, _ = layer(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3))[:2], torch.ones(2), atol=1e-4, rtol=0)
    assert torch.isfinite(z).all()  # the third channel is constant: it is centred, but not scaled up
    assert z[:, 2].abs().max() < 1e-5
