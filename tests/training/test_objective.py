"""Terms of the loss beside the likelihood: values, gradients, adversarial ones, resumed runs, and other starts."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import small_model
from test_trainer import assert_same_checkpoint, log_of, losses, short_recipe
from torch import Tensor

from caflow_runtime.degradation import PARAMETERS
from caflow_training import checkpoint
from caflow_training.adversarial import Discriminator, adversarial_share
from caflow_training.config import CAFlowConfig
from caflow_training.crop_sampler import TrainingBatch
from caflow_training.model import CAFlow
from caflow_training.objective import Objective
from caflow_training.perceptual import FeatureError, PerceptualDistance
from caflow_training.recipe import TrainingConfig
from caflow_training.resuming import ADVERSARY
from caflow_training.start import StartError, start_from
from caflow_training.tasks import Colorization, ImageToImage, SuperResolution
from caflow_training.trainer import train

MEAN: dict[str, Any] = {"mean_blocks": 1, "mean_width": 4, "mean_features": 2}
ADVERSARIAL: dict[str, Any] = {"adversarial_weight": 0.1, "adversarial_start": 2, "adversarial_ramp": 4}
EVERY_TERM: dict[str, Any] = {**MEAN, "likelihood_weight": 0.01, "mean_weight": 0.5, "still_weight": 1.0}


def batch_of(rows: int = 2, side: int = 16, scale: int = 4) -> TrainingBatch:
    return TrainingBatch(
        torch.randint(0, 256, (rows, 3, side, side)),
        torch.randint(0, 256, (rows, 3, side // scale, side // scale)),
        torch.rand(rows, 3, side, side),
        torch.rand(rows, 3, side, side),
        torch.randn(rows, 3, side, side),
        torch.rand(rows, 1, 1, 1),
        torch.randint(0, 16, (rows, 2)),
        torch.rand(rows, len(PARAMETERS)),
        torch.rand(rows, len(PARAMETERS)) < 0.5,
    )


class Square(torch.nn.Module):
    """Distance that is easy to differentiate, as a replacement for LPIPS."""

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        return (images - targets).square().mean((1, 2, 3))


def test_gradients_go_through_the_sampling_direction() -> None:
    """The gradient of every parameter that samples depend on equals finite differences of the loss."""
    model = small_model(levels=2, task=SuperResolution(), residual=True, **MEAN)
    config = TrainingConfig(likelihood_weight=0.0, still_weight=1.0, feature_weight=1.0, lattice_weight=1.0)
    objective, batch = Objective(model, config, Square()), batch_of(1, 8)
    objective(batch)["loss"].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_dequantizer"):
            continue
        assert parameter.grad is not None, name
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            values = []
            for step in (1e-6, -1e-6):
                parameter.add_(step * direction)
                values.append(objective(batch)["loss"])
                parameter.sub_(step * direction)
        expected = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close((parameter.grad * direction).sum(), expected, rtol=1e-4, atol=1e-8, msg=name)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    model = small_model(levels=2, task=SuperResolution(), residual=True, **MEAN)
    batch = batch_of()
    config = TrainingConfig(
        likelihood_weight=0.01,
        mean_weight=0.3,
        still_weight=2.0,
        feature_weight=0.1,
        lattice_weight=0.7,
        feature_temperature=0.5,
    )
    terms = Objective(model, config, Square())(batch)
    expected = 0.01 * terms["likelihood"] + 0.3 * terms["mean"] + 2 * terms["still"]
    expected = expected + 0.1 * terms["features"] + 0.7 * terms["lattice"]
    torch.testing.assert_close(terms["loss"], expected)
    targets = batch.targets + 0.5
    mean: Any = model.encode(batch.conditions, batch.condition_u).mean
    torch.testing.assert_close(terms["mean"], (mean - targets).abs().mean() / 256)
    squared = Objective(model, replace(config, mean_error="squared"), Square())(batch)
    torch.testing.assert_close(squared["mean"], ((mean - targets) / 256).square().mean())
    still = model.sample(batch.conditions, temperature=0.0, condition_u=batch.condition_u).images
    torch.testing.assert_close(terms["still"], (still - targets).abs().mean() / 256)
    sample = model.sample(batch.conditions, model.noise_from(batch.noise.double()), 0.5, batch.condition_u).images
    torch.testing.assert_close(terms["features"], (sample - targets).square().mean())
    places = ((sample - targets) / 256).reshape(2, 3, 4, 4, 4, 4).mean((2, 4)).flatten(2)
    torch.testing.assert_close(terms["lattice"], (places - places.mean(2, keepdim=True)).abs().mean())


def test_the_likelihood_term_is_equation_9() -> None:
    model, batch = small_model(levels=1, task=ImageToImage()), batch_of(2, 8, 1)
    likelihood, condition_log_prob = model.log_joint(batch.targets, batch.conditions, batch.target_u, batch.condition_u)
    terms = Objective(model, TrainingConfig(condition_weight=0.25))(batch)
    torch.testing.assert_close(terms["conditional"], -likelihood.total.mean() / 192)
    torch.testing.assert_close(terms["loss"], -(likelihood.total + 0.25 * condition_log_prob).mean() / 192)


def test_the_likelihood_alone_trains_the_coarsest_level() -> None:
    """All other weights have the gradient of the whole loss, and every one can be trained by the next step."""
    model, batch = small_model(levels=2, task=SuperResolution(), residual=True, **MEAN), batch_of()
    config = TrainingConfig(still_weight=1.0, feature_weight=1.0)

    def gradients(config: TrainingConfig) -> dict[str, Tensor]:
        model.zero_grad()
        Objective(model, config, Square())(batch)["loss"].backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    whole = gradients(config)
    likelihood = gradients(TrainingConfig())
    found = gradients(replace(config, coarsest_by_likelihood=True))
    coarsest = {
        name for name in whole if name.startswith(("condition_flow", "conditional_flow.own.0", "target_flow.levels.0"))
    }
    assert len(coarsest) > 10
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, (likelihood if name in coarsest else whole)[name], msg=name)
    assert not any(torch.equal(whole[name], likelihood[name]) for name in coarsest)
    assert found.keys() == whole.keys()
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_temperature_of_each_crop_is_its_own_part_of_the_range() -> None:
    model = small_model(levels=2, task=SuperResolution(), residual=True, **MEAN)
    batch = batch_of()._replace(noise_level=torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1))
    config = TrainingConfig(
        likelihood_weight=0.0, feature_weight=1.0, feature_temperature=0.9, lowest_feature_temperature=0.1
    )
    terms = Objective(model, config, Square())(batch)
    noise = torch.tensor([0.3, 0.7]).reshape(2, 1, 1, 1) * batch.noise.double()
    sample = model.sample(batch.conditions, model.noise_from(noise), 1.0, batch.condition_u).images
    torch.testing.assert_close(terms["features"], (sample - batch.targets - 0.5).square().mean())


def test_features_are_compared_wherever_a_stride_begins() -> None:
    """Sample and target of a row are shifted by the same number of pixels, which differs between rows."""

    class Recorder(Square):
        def forward(self, images: Tensor, targets: Tensor) -> Tensor:
            self.seen = images, targets
            return super().forward(images, targets)

    model, distance = small_model(levels=2, task=SuperResolution(), residual=True, **MEAN), Recorder()
    batch = batch_of()._replace(shift=torch.tensor([[0, 0], [3, 5]]))
    Objective(model, TrainingConfig(likelihood_weight=0.0, feature_weight=1.0, feature_temperature=0.0), distance)(
        batch
    )
    sample = model.sample(batch.conditions, temperature=0.0, condition_u=batch.condition_u).images
    for seen, whole in zip(distance.seen, (sample, batch.targets + 0.5), strict=True):
        torch.testing.assert_close(seen[0], whole[0])
        torch.testing.assert_close(seen[1, :, 3:, 5:], whole[1, :, :-3, :-5])


def test_noise_on_latents_is_seen_by_finer_flows_alone() -> None:
    """The target flow and the finest level, which has no cross block, are unchanged. Strength 0 changes nothing."""
    model = small_model(task=ImageToImage())
    batch = batch_of(2, 32, 1)
    plain = model.log_prob_given(batch.targets, model.encode(batch.conditions), batch.target_u)
    noisy = model.log_prob_given(batch.targets, model.encode(batch.conditions), batch.target_u, 0.3 * batch.noise)
    assert not torch.allclose(plain.conditional_log_det[:, 0], noisy.conditional_log_det[:, 0])
    torch.testing.assert_close(plain.target_log_det, noisy.target_log_det)
    finest = model.config.levels - 1  # g[n−1][n−1] sees D alone
    torch.testing.assert_close(plain.conditional_log_det[:, finest], noisy.conditional_log_det[:, finest])
    without = Objective(model, TrainingConfig())(batch)
    with_noise = Objective(model, TrainingConfig(latent_noise=0.3))(batch)
    assert without["likelihood"] != with_noise["likelihood"]
    still = batch._replace(noise_level=torch.zeros_like(batch.noise_level))
    torch.testing.assert_close(Objective(model, TrainingConfig(latent_noise=0.3))(still), without)


@pytest.mark.parametrize("side", [0, 17])
def test_the_prediction_of_the_mean_network_is_compared_too(side: int) -> None:
    """With `compared = "mean"`, no samples are drawn, and the terms are those of the prediction."""
    model = small_model(torch.float32, task=SuperResolution(), residual=True, **MEAN)
    torch.nn.init.normal_(model.mean_network.last.weight, std=0.1)  # type: ignore[union-attr]
    batch = batch_of(2, 32)
    config = TrainingConfig(
        likelihood_weight=0.0, feature_weight=2.0, lattice_weight=3.0, compared="mean", feature_side=side
    )
    terms = Objective(model, config, Square())(batch)
    assert set(terms) == {"loss", "features", "lattice"}
    difference = model.encode(batch.conditions).mean - batch.targets - 0.5  # type: ignore[operator]
    if side:
        starts = batch.shift.tolist()
        difference = torch.stack(
            [d[:, y : y + side, x : x + side] for d, (y, x) in zip(difference, starts, strict=True)]
        )
    torch.testing.assert_close(terms["features"], difference.square().mean())
    torch.testing.assert_close(terms["loss"], 2 * terms["features"] + 3 * terms["lattice"])
    terms["loss"].backward()
    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved
    assert all(name.startswith("mean_network.") for name in moved)


def test_a_stopped_run_with_every_term_resumes_to_the_last_bit(photographs: Path, tmp_path: Path) -> None:
    changes = {**EVERY_TERM, "latent_noise": 0.2, "clean_share": 0.5, "noise_share": 0.5, "jpeg_share": 0.5}
    changes |= ADVERSARIAL
    train(short_recipe(**changes), photographs, tmp_path / "whole")
    train(short_recipe(**changes, steps=6, checkpoint_steps=3), photographs, tmp_path / "parts")
    train(short_recipe(**changes), photographs, tmp_path / "parts")
    assert_same_checkpoint(tmp_path / "whole" / "last.pt", tmp_path / "parts" / "last.pt")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_run_starts_from_a_model_without_a_mean_network(photographs: Path, tmp_path: Path) -> None:
    """Weights of additional inputs start at 0, so the new model first computes the same samples."""
    first = train(short_recipe(), photographs, tmp_path / "first")
    old = checkpoint.load(first)
    model = CAFlow(short_recipe(**MEAN).model)
    said: list[str] = []
    assert start_from(model, [first], said.append)
    count = sum(weight.numel() for weight in old.state_dict().values())
    assert said == [f"starting from {first}: {count:,} of {count:,} weights fit"]
    condition = torch.randint(0, 256, (2, 3, 8, 8))
    noise = old.draw_noise(2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.sample(condition, noise).images, old.sample(condition, noise).images)
    train(short_recipe(**MEAN, steps=2), photographs, tmp_path / "second", start=[first])
    bits = [line["bits_per_dim"] for line in log_of(tmp_path / "second") if "bits_per_dim" in line]
    assert bits[0] < losses(tmp_path / "first")[0] / np.log(2)


def test_a_run_starts_from_a_mean_network_and_from_flows(photographs: Path, tmp_path: Path) -> None:
    """The order does not matter, because untrained flows of the mean network's checkpoint are skipped."""
    mean = train(short_recipe(**MEAN, likelihood_weight=0.0, mean_weight=1.0, steps=2), photographs, tmp_path / "mean")
    flow = train(short_recipe(steps=2), photographs, tmp_path / "flow")
    contents = checkpoint.read(mean)
    moved = {name for name, w in contents["weights"].items() if not torch.equal(w, contents["ema"][name])}
    assert moved
    assert all(name.startswith("mean_network") for name in moved)
    stored = {path: checkpoint.load(path).state_dict() for path in (mean, flow)}
    for paths in ([mean, flow], [flow, mean]):
        model = CAFlow(short_recipe(**MEAN).model)
        assert start_from(model, paths)
        for name, weight in model.state_dict().items():
            source = stored[mean if name.startswith("mean_network.") else flow][name]
            taken = weight[:, : source.shape[1]] if weight.ndim == 4 else weight
            assert torch.equal(taken, source), name


def test_features_come_from_the_file_that_is_given(tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    vgg = pytest.importorskip("torchvision.models.vgg")
    path = tmp_path / "vgg16.pth"
    torch.save(vgg.make_layers(vgg.cfgs["D"]).state_dict(prefix="features."), path)
    distance = PerceptualDistance(path)
    image = 256 * torch.rand(2, 3, 32, 32)
    assert distance(image, image).tolist() == [0, 0]
    other = image.flip(3).requires_grad_()
    distance(other, image).sum().backward()
    assert other.grad is not None
    assert other.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    no_weights = io.BytesIO()
    torch.save({"classifier.0.weight": torch.zeros(1)}, no_weights)
    for contents in (no_weights.getvalue(), b"{}"):
        path.write_bytes(contents)
        with pytest.raises(FeatureError, match="does not contain the weights of torchvision's VGG16"):
            PerceptualDistance(path)


def test_a_model_without_fitting_weights_is_refused_as_a_start(tmp_path: Path) -> None:
    """The models differ in levels and widths, so no weight has an equal name and shape."""
    path = tmp_path / "other.pt"
    checkpoint.save(path, CAFlow(CAFlowConfig(levels=1, image_width=4, conditional_width=4)))
    model = CAFlow(CAFlowConfig(levels=4, image_width=8, conditional_width=8, image_transition_steps=0))
    with pytest.raises(StartError, match="no weight fits"):
        start_from(model, [path])


def test_a_start_that_fits_little_or_has_another_task_is_reported(tmp_path: Path) -> None:
    """It is not refused: one may want the mean network of another model, or train another task from a similar one."""
    wide, narrow, other = (tmp_path / name for name in ("wide.pt", "narrow.pt", "other.pt"))
    recipe = short_recipe()
    checkpoint.save(wide, CAFlow(replace(recipe.model, image_width=16, conditional_width=16)))
    checkpoint.save(narrow, CAFlow(recipe.model))
    checkpoint.save(other, CAFlow(replace(recipe.model, task=Colorization())))
    said: list[str] = []
    start_from(CAFlow(recipe.model), [wide, narrow, other], said.append)
    first, second = (line for line in said if not line.startswith("starting from "))
    assert f"most weights of {wide} are not used" in first
    assert f"{other} was trained for colorization" in second


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
