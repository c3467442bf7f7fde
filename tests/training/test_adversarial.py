"""Adversarial training: its losses and their gradients, its beginning, stopped runs, and what checkpoints contain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import small_model
from test_objective import MEAN, batch_of
from test_trainer import log_of, short_recipe

from caflow_training import checkpoint
from caflow_training.adversarial import Adversary, Discriminator, adversarial_share
from caflow_training.checkpoint import CheckpointError
from caflow_training.objective import Objective
from caflow_training.recipe import TrainingConfig
from caflow_training.resuming import ADVERSARY
from caflow_training.tasks import SuperResolution
from caflow_training.trainer import train

ADVERSARIAL: dict[str, Any] = {"adversarial_weight": 0.1, "adversarial_start": 2, "adversarial_ramp": 4}


def test_each_loss_trains_its_own_side_alone() -> None:
    discriminator = Discriminator()
    images = (256 * torch.rand(2, 3, 20, 24)).requires_grad_()
    of_discriminator, of_images = discriminator.losses(images, 256 * torch.rand(2, 3, 20, 24))
    weights = list(discriminator.parameters())
    (of_discriminator_gradient,) = torch.autograd.grad(of_discriminator, images, retain_graph=True, allow_unused=True)
    assert of_discriminator_gradient is None
    assert all(gradient.any() for gradient in torch.autograd.grad(of_discriminator, weights))
    (of_images_gradient,) = torch.autograd.grad(of_images, images, retain_graph=True)
    assert of_images_gradient.any()
    assert not any(gradient is not None for gradient in torch.autograd.grad(of_images, weights, allow_unused=True))


def test_the_losses_are_relativistic_averages() -> None:
    discriminator = Discriminator()
    images, targets = 256 * torch.rand(2, 3, 16, 16), 256 * torch.rand(2, 3, 16, 16)
    discriminator.eval()  # the spectral norms are then not estimated further
    of_discriminator, of_images = discriminator.losses(images, targets)
    imitated, real = discriminator(images), discriminator(targets)

    def cross_entropy(values: torch.Tensor, label: float) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(values, torch.full_like(values, label))

    above, below = real - imitated.mean(), imitated - real.mean()
    torch.testing.assert_close(of_discriminator, (cross_entropy(above, 1) + cross_entropy(below, 0)) / 2)
    torch.testing.assert_close(of_images, (cross_entropy(below, 1) + cross_entropy(above, 0)) / 2)


def test_a_discriminator_learns_to_tell_noise_from_stripes() -> None:
    torch.manual_seed(0)
    adversary = Adversary(torch.device("cpu"))
    stripes = torch.tensor([0.0, 255.0]).repeat(8).expand(4, 3, 16, 16)
    found = []
    for _ in range(30):
        loss, _ = adversary.discriminator.losses(256 * torch.rand(4, 3, 16, 16), stripes)
        adversary.optimizer.zero_grad()
        loss.backward()
        adversary.optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]


def test_the_loss_contains_both_terms_and_the_discriminator_leaves_the_likelihood_alone() -> None:
    model = small_model(torch.float32, levels=2, task=SuperResolution(), residual=True, **MEAN)
    discriminator, batch = Discriminator().eval(), batch_of()
    without = Objective(model, TrainingConfig())(batch)
    objective = Objective(model, TrainingConfig(adversarial_weight=0.3), discriminator=discriminator)
    terms = objective(batch, adversarial_share=0.5)
    torch.testing.assert_close(terms["likelihood"], without["likelihood"])
    expected = terms["likelihood"] + terms["discriminator"] + 0.5 * 0.3 * terms["adversarial"]
    torch.testing.assert_close(terms["loss"], expected)


def test_the_weight_rises_from_the_start() -> None:
    config = TrainingConfig(adversarial_weight=1.0, adversarial_start=10, adversarial_ramp=4)
    assert [adversarial_share(step, config) for step in (0, 9, 10, 11, 13, 14, 99)] == [0, 0, 0.25, 0.5, 1, 1, 1]
    assert adversarial_share(0, TrainingConfig(adversarial_weight=1.0)) == 1


def test_until_its_start_the_model_is_trained_as_without_it(photographs: Path, tmp_path: Path) -> None:
    """A checkpoint contains the discriminator only if there is one, and the model is loaded without it."""
    still = {"still_weight": 1.0, "steps": 4}
    plain = train(short_recipe(**still), photographs, tmp_path / "plain")
    later = train(short_recipe(**still, adversarial_weight=1.0, adversarial_start=4), photographs, tmp_path / "later")
    now = train(short_recipe(**still, adversarial_weight=1.0), photographs, tmp_path / "now")
    weights = [checkpoint.read(path)["weights"] for path in (plain, later, now)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert ADVERSARY not in checkpoint.read(plain)["training"]
    assert checkpoint.read(now)["training"][ADVERSARY]["weights"].keys() == Discriminator().state_dict().keys()
    assert checkpoint.load(now).state_dict().keys() == checkpoint.load(plain).state_dict().keys()
    assert "adversarial" in log_of(tmp_path / "now")[0]


def test_a_checkpoint_of_a_version_without_these_keys_is_resumed(photographs: Path, tmp_path: Path) -> None:
    path = train(short_recipe(steps=2), photographs, tmp_path)
    contents = checkpoint.read(path)
    for key in [key for key in contents["training"]["recipe"] if key.startswith("adversarial")]:
        del contents["training"]["recipe"][key]
    torch.save(contents, path)
    train(short_recipe(steps=4), photographs, tmp_path)
    assert checkpoint.read(path)["training"]["step"] == 4


def test_a_damaged_discriminator_is_refused(photographs: Path, tmp_path: Path) -> None:
    recipe = short_recipe(**ADVERSARIAL, steps=2)
    path = train(recipe, photographs, tmp_path)
    damages: list[tuple[Callable[[Any], object], str]] = [
        (lambda training: training[ADVERSARY]["weights"].update({"last.bias": torch.zeros(2)}), "'last.bias'"),
        (lambda training: training[ADVERSARY]["weights"].pop("last.bias"), "'last.bias'"),
        (lambda training: training.pop(ADVERSARY), "discriminator is missing"),
    ]
    for damage, message in damages:
        contents = checkpoint.read(path)
        damage(contents["training"])
        torch.save(contents, path)
        with pytest.raises(CheckpointError, match=message):
            train(recipe, photographs, tmp_path)
