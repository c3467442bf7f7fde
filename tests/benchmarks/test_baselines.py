"""Families of conditional flows learn a density that is known, and baselines have the density of their samples."""

import math
from typing import get_args

import pytest
import torch
from paper.baselines import Baseline, Kind
from small_models import log_density_by_autograd, stir
from torch import Tensor

from caflow_training.bijections import initialize_actnorm
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.results import bits_per_dim
from caflow_training.tasks import ImageToImage

SIGMA = 20.0
ENTROPY = math.log2(SIGMA * math.sqrt(2 * math.pi * math.e))
"""Bits per dimension of a target given its condition: the condition with inverted brightness, plus normal noise."""
WITHOUT_CONDITION = 7.407
"""Bits per dimension of a target alone: the entropy of 128 equally probable values plus the same noise, by numerical
integration."""
MAX_UNKNOWN = 0.43
"""Largest part of what the condition tells about the target that a family may still have to learn after `STEPS`."""
STEPS, LEARNING_RATE = 300, 5e-3
KINDS: tuple[Kind, ...] = get_args(Kind)


def small_baseline(kind: Kind, levels: int = 2) -> Baseline:
    """Return a baseline with few parameters, all of them moved away from their initial values."""
    config = CAFlowConfig(
        levels=levels, condition_steps=1, target_steps=2, image_width=8, conditional_width=8, task=ImageToImage()
    )
    model = Baseline(config, kind)
    stir(model, 0.02)
    return model.double().eval()


def pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return targets and conditions, (count, 3, 4, 4)."""
    condition = torch.randint(64, 192, (count, 3, 4, 4), generator=generator)
    noise = SIGMA * torch.randn(condition.shape, generator=generator)
    return (255 - condition + noise).round().clamp(0, 255), condition.float()


@pytest.mark.full
@pytest.mark.parametrize("kind", ["CAFLOW", *KINDS])
def test_a_family_learns_a_density_whose_entropy_is_known(kind: Kind) -> None:
    """After few steps, bits per dimension are between the entropy and what is possible without the condition."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    config = CAFlowConfig(
        levels=1,
        condition_steps=1,
        target_steps=2,
        own_steps=2,
        image_width=32,
        conditional_width=32,
        image_transition_steps=1,
        conditional_transition_steps=1,
        task=ImageToImage(),
    )
    model = Baseline(config, kind) if kind in KINDS else CAFlow(config)
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_a_sample_is_that_of_its_score(kind: Kind) -> None:
    model, condition = small_baseline(kind), torch.randint(0, 256, (3, 3, 16, 32))
    with torch.no_grad():
        sample = model.sample(condition, temperature=0.8)
        again = model.log_density(sample.images, condition)
    torch.testing.assert_close(sample.log_likelihood.total, again.total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_integrates_what_the_layers_say(kind: Kind) -> None:
    model, condition = small_baseline(kind, levels=1), torch.randint(0, 256, (1, 3, 4, 4))
    target = torch.randint(0, 256, (1, 3, 4, 4)).double() + 0.5
    expected = log_density_by_autograd(model, target, condition)
    torch.testing.assert_close(model.log_density(target, condition).total[0], expected, rtol=1e-10, atol=0)
