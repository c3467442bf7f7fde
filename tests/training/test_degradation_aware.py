"""Models that are told how their condition was degraded, or estimate it."""

from pathlib import Path
from typing import Any

import torch
from small_models import small_model
from test_objective import batch_of
from test_trainer import log_of, short_recipe

from caflow_runtime.degradation import PARAMETERS, Degradation
from caflow_training import checkpoint
from caflow_training.model import CAFlow
from caflow_training.objective import Objective
from caflow_training.recipe import TrainingConfig
from caflow_training.start import start_from
from caflow_training.tasks import SuperResolution
from caflow_training.trainer import train

AWARE: dict[str, Any] = {
    "task": SuperResolution(scale=4),
    "residual": True,
    "mean_blocks": 2,
    "mean_width": 4,
    "mean_features": 2,
    "degradation_aware": True,
}


def aware_model(dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """Return a small model whose modulations are not the identity."""
    model: Any = small_model(dtype, **AWARE | changes)
    for block in model.mean_network.blocks:
        for layer in (block.second, block.modulation):
            torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(model.mean_network.last.weight, std=0.1)
    return model


def test_by_default_the_degradation_is_estimated() -> None:
    model, condition = aware_model(), torch.randint(0, 256, (2, 3, 8, 12)).double()
    with torch.no_grad():
        estimated = model.degradation_estimator(condition).clamp(0, 1)
        assert estimated.shape == (2, len(PARAMETERS))
        by_default, told = model.encode(condition), model.encode(condition, degradation=estimated)
        blurred = torch.from_numpy(Degradation(blur_sigma=3.0).vector()).double().expand(2, -1)
        other = model.encode(condition, degradation=blurred)
    assert torch.equal(by_default.mean, told.mean)
    assert not torch.equal(by_default.mean, other.mean)
    assert not torch.equal(by_default.features[0], other.features[0])


def test_the_estimator_learns_from_its_own_error_alone() -> None:
    model, batch = aware_model(torch.float32), batch_of()
    config = TrainingConfig(likelihood_weight=0.01, mean_weight=1.0, still_weight=1.0, known_share=0.0)
    terms = Objective(model, config)(batch)
    terms["loss"].backward()
    assert all(not weight.grad.any() for weight in model.degradation_estimator.parameters() if weight.grad is not None)
    assert terms["degradation"] > 0
    terms = Objective(model, TrainingConfig(likelihood_weight=0.0, mean_weight=1.0, degradation_weight=1.0))(batch)
    terms["loss"].backward()
    assert all(
        weight.grad is not None and weight.grad.any() for weight in model.degradation_estimator.last.parameters()
    )


def test_the_estimator_is_trained_alone_and_the_next_stage_goes_on_from_it(photographs: Path, tmp_path: Path) -> None:
    """The estimator's stage passes on the mean network that it starts from."""
    keys = {key: AWARE[key] for key in ("mean_blocks", "mean_width", "mean_features", "degradation_aware")}
    degraded = {"clean_share": 0.2, "blur_share": 0.5, "noise_share": 0.5, "jpeg_share": 0.5}
    recipe = short_recipe(
        **keys, likelihood_weight=0.0, degradation_weight=1.0, learning_rate=2e-3, steps=40, **degraded
    )
    torch.manual_seed(1)
    earlier = CAFlow(recipe.model)
    torch.nn.init.normal_(earlier.mean_network.last.weight)  # type: ignore[union-attr]
    checkpoint.save(tmp_path / "earlier.pt", earlier, training={"flow_is_trained": False})
    path = train(recipe, photographs, tmp_path / "run", start=[tmp_path / "earlier.pt"])
    errors = [line["degradation"] for line in log_of(tmp_path / "run") if "degradation" in line]
    assert sum(errors[-10:]) < 0.8 * sum(errors[:10])
    model = CAFlow(recipe.model)
    start_from(model, [path], lambda _: None)
    for name, weight in earlier.mean_network.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(model.state_dict()[f"mean_network.{name}"], weight)
