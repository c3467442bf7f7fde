"""Fixtures: the photographs and reference files of the repository, and small models with weights that do something."""

from pathlib import Path

import pytest
import torch

from caflow_training.model import CAFlow, CAFlowConfig

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of 13 CC0 photographs."""
    return DATA / "photographs"


def stir(module: torch.nn.Module, amount: float = 0.1) -> None:
    """Move every parameter, so that no layer is the identity that it starts as."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))


def small_model(dtype: torch.dtype = torch.float64, **changes: object) -> CAFlow:
    """A model of few, stirred parameters."""
    small = {
        "levels": 3,
        "condition_steps": 1,
        "target_steps": 2,
        "own_steps": 2,
        "cross_steps": 1,
        "image_width": 8,
        "conditional_width": 8,
    }
    model = CAFlow(CAFlowConfig(**{**small, **changes}))  # type: ignore[arg-type]
    stir(model, 0.02)
    return model.to(dtype).eval()
