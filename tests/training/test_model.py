"""The model: exact densities, dependencies between latents, the mean network, conditions of tasks, and errors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import MEAN, log_density_by_autograd, small_model
from torch import Tensor

from caflow_training.conditional_flow import Dependencies
from caflow_training.tasks import Colorization, ImageToImage, Inpainting, SuperResolution, Task

VARIANTS: list[Dependencies] = ["unshared", "shared", "dual-glow"]


def images(rows: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(0, 256, (rows, 3, height, width))


EXACT: dict[str, dict[str, Any]] = {
    **{name: {"dependencies": name} for name in VARIANTS},
    "residual": {"residual": True},
    "logit": {"pixels": "logit"},
    "logit, dequantization without a network": {"pixels": "logit", "dequantization_steps": 0},
    "logit, variational dequantization": {"pixels": "logit", "dequantization_steps": 2},
    "mean network": {**MEAN, "task": Colorization()},
    **{f"mean network, ×{scale}": {**MEAN, "task": SuperResolution(scale=scale)} for scale in (2, 4, 8)},
    "mean network, degradation": {**MEAN, "task": SuperResolution(scale=4), "degradation_aware": True},
}


@pytest.mark.parametrize("changes", EXACT.values(), ids=EXACT)
def test_samples_know_their_density_and_targets_are_decoded(changes: dict[str, Any]) -> None:
    """The degradation that a model estimates is a function of the condition, so its likelihood stays exact."""
    model = small_model(**{"task": ImageToImage(), **changes})
    condition, target = images(2, *(side // model.config.task.scale for side in (48, 32))), images(2, 48, 32) + 0.25
    with torch.no_grad():
        sample = model.sample(condition, temperature=0.8)
        density = model.log_density(sample.images, condition)
        encoded = model.encode(condition)
        decoded = model.decode(model.encode_target(target.double(), encoded), encoded)
        density_of_target = model.log_density(target.double(), condition)
    torch.testing.assert_close(density.per_level, sample.log_likelihood.per_level, rtol=1e-10, atol=1e-6)
    torch.testing.assert_close(decoded.images, target.double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(decoded.log_likelihood.total, density_of_target.total, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "changes", [{"residual": True, "mean_blocks": 1, "mean_features": 4}, {"log_scale_bound": 0.5}], ids=str
)
def test_the_density_integrates_what_the_layers_say(changes: dict[str, Any]) -> None:
    model = small_model(levels=1, task=ImageToImage(), **changes)
    condition, target = images(1, 4, 4), images(1, 4, 4).double() + 0.5
    expected = log_density_by_autograd(model, target, condition)
    torch.testing.assert_close(model.log_density(target, condition).total[0], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("dependencies", VARIANTS)
def test_latents_depend_on_coarser_levels_as_in_the_paper(dependencies: Dependencies) -> None:
    """Eq. 8: L_i depends on D_j and on the noise of L_j, for all j ≤ i. Eq. 6 (DUAL-GLOW): for j = i only."""
    model = small_model(dependencies=dependencies, task=ImageToImage())
    noise = model.draw_noise(1, 32, 32)
    condition_latents, _ = model.encode_condition(model.prepare(images(1)))
    with torch.no_grad():
        before, _ = model.conditional_flow.inverse(noise, condition_latents)
        for changed in range(3):
            other = [d + (0.5 if j == changed else 0.0) for j, d in enumerate(condition_latents)]
            after, _ = model.conditional_flow.inverse(noise, other)
            moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert moved == [i == changed if dependencies == "dual-glow" else i >= changed for i in range(3)]

            other_noise = {(i, j): z + (0.5 if i == changed else 0.0) for (i, j), z in noise.items()}
            after, _ = model.conditional_flow.inverse(other_noise, condition_latents)
            moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert moved == [i == changed if dependencies == "dual-glow" else i >= changed for i in range(3)]


@pytest.mark.parametrize("dependencies", VARIANTS)
def test_gradients_reach_every_parameter_and_fp32_follows_fp64(dependencies: Dependencies) -> None:
    model = small_model(dependencies=dependencies, pixels="logit", dequantization_steps=1, task=ImageToImage())
    condition, target = images(), images()
    likelihood, condition_log_prob = model.log_joint(target, condition, condition_u=0.3)
    (likelihood.total + condition_log_prob).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    single = model.float().log_prob(target, condition, condition_u=0.3).total
    torch.testing.assert_close(single.double(), likelihood.total, rtol=1e-5, atol=0)


def test_variational_dequantization_is_a_density_on_the_cell() -> None:
    """The returned −log q is the log-determinant of u → position in the cell, and positions stay inside the cell."""
    model = small_model(dequantization_steps=2, pixels="logit", task=ImageToImage())
    w, u = images(1, 2, 2).double(), torch.rand(1, 3, 2, 2, dtype=torch.float64)
    x, term = model.target_dequantizer(w, u)
    assert ((x > w) & (x < w + 1)).all()
    jacobian = torch.autograd.functional.jacobian(
        lambda v: model.target_dequantizer(w, v.reshape(u.shape))[0].flatten(), u.flatten()
    )
    torch.testing.assert_close(term[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_model(task=ImageToImage()).sample(torch.zeros(1, 3, 24, 32)), "multiples of 16"),
        (lambda: small_model(task=SuperResolution(scale=4)).sample(torch.zeros(1, 3, 6, 8)), "multiples of 4"),
        (lambda: small_model(task=ImageToImage()).sample(torch.zeros(1, 1, 32, 32)), r"got \(1, 1, 32, 32\)"),
        (lambda: small_model().log_prob(images(1, 16, 16), images(1, 8, 8)), "4 times the condition"),
        (lambda: small_model().sample(images(1, 8, 8), temperature=[1.0, 1.0]), "expected 1 number or 3"),
    ],
)
def test_wrong_calls_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_scores_are_deterministic_and_draws_bound_them() -> None:
    model = small_model(task=ImageToImage(), dequantization_steps=1, pixels="logit")
    condition, target = images(), images()
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(target, condition).total, model.log_prob(target, condition).total)
        generator = torch.Generator().manual_seed(0)
        estimates = torch.stack([model.importance_log_prob(target, condition, 1, generator) for _ in range(16)])
        generator = torch.Generator().manual_seed(0)
        together = model.importance_log_prob(target, condition, 16, generator)
    torch.testing.assert_close(together, torch.logsumexp(estimates, 0) - math.log(16), rtol=1e-12, atol=0)
    assert (together >= estimates.mean(0)).all()


def test_the_target_is_modelled_as_a_residual_to_the_mean() -> None:
    """Adding 3 to the mean adds 3 to samples and does not change their density."""
    task = SuperResolution(scale=4)
    model = small_model(task=task, residual=True, mean_blocks=1)
    condition = images(2, 8, 12)
    noise = model.draw_noise(2, 32, 48)
    with torch.no_grad():
        before = model.sample(condition, noise)
        assert model.mean_network is not None
        model.mean_network.last.bias.add_(3 / 256)  # type: ignore[union-attr]
        after = model.sample(condition, noise)
    torch.testing.assert_close(after.images, before.images + 3, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.log_likelihood.total, before.log_likelihood.total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("task", [Colorization(), Inpainting()], ids=lambda task: task.task)
def test_the_mean_sees_no_more_than_the_prepared_condition(task: Task) -> None:
    """The mean network must not see the colours of an image to be colorized, or the pixels inside the hole."""
    model = small_model(task=task, **MEAN)
    image = images()
    with torch.no_grad():
        given: Any = model.encode(image.double())
        prepared: Any = model.encode(task.prepare(image.double()))
    torch.testing.assert_close(given.mean, prepared.mean, rtol=0, atol=0)
