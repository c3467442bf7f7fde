"""Families of conditional flows learn a density that is known, and baselines are described by their options."""

import math
from pathlib import Path

import pytest
import torch
from test_trainer import short_recipe
from torch import Tensor

from caflow_export.export import ExportError, export
from caflow_training import checkpoint
from caflow_training.bijections import initialize_actnorm
from caflow_training.conditional_flow import BASELINES, Dependencies
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.results import bits_per_dim
from caflow_training.tasks import ImageToImage
from caflow_training.trainer import train

SIGMA = 20.0
ENTROPY = math.log2(SIGMA * math.sqrt(2 * math.pi * math.e))
"""Bits per dimension of a target given its condition: the condition with inverted brightness, plus normal noise."""
WITHOUT_CONDITION = 7.407
"""Bits per dimension of a target alone: the entropy of 128 equally probable values plus the same noise, by numerical
integration."""
MAX_UNKNOWN = 0.43
"""Largest part of what the condition tells about the target that a family may still have to learn after `STEPS`."""
STEPS, LEARNING_RATE = 300, 5e-3


def pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return targets and conditions, (count, 3, 4, 4)."""
    condition = torch.randint(64, 192, (count, 3, 4, 4), generator=generator)
    noise = SIGMA * torch.randn(condition.shape, generator=generator)
    return (255 - condition + noise).round().clamp(0, 255), condition.float()


@pytest.mark.parametrize("dependencies", ["unshared", *BASELINES])
def test_a_family_learns_a_density_whose_entropy_is_known(dependencies: Dependencies) -> None:
    """After few steps, bits per dimension are between the entropy and what is possible without the condition."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = CAFlow(
        CAFlowConfig(
            levels=1,
            condition_steps=1,
            target_steps=2,
            own_steps=2,
            image_width=32,
            conditional_width=32,
            image_transition_steps=1,
            conditional_transition_steps=1,
            dependencies=dependencies,
            task=ImageToImage(),
        )
    )
    given = pairs(64, generator)
    initialize_actnorm(model, lambda: model.log_joint(*given))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        targets, conditions = pairs(64, generator)
        u = torch.rand(targets.shape, generator=generator)
        optimizer.zero_grad()
        (-model.log_prob(targets, conditions, target_u=u).total.mean() / targets[0].numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    targets, conditions = pairs(1024, generator)
    with torch.no_grad():
        found = bits_per_dim(model.log_prob(targets, conditions).total, targets[0].numel()).mean()
    assert ENTROPY - 0.02 < found < ENTROPY + MAX_UNKNOWN * (WITHOUT_CONDITION - ENTROPY)


@pytest.mark.parametrize("dependencies", BASELINES)
def test_a_baseline_is_trained_like_other_models_but_not_exported(
    dependencies: Dependencies, photographs: Path, tmp_path: Path
) -> None:
    trained = train(short_recipe(steps=2, dependencies=dependencies), photographs, tmp_path / "run")
    assert checkpoint.load(trained).config.dependencies == dependencies
    with pytest.raises(ExportError, match=f"dependencies = '{dependencies}', a baseline for comparisons"):
        export(trained)
