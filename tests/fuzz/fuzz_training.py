"""Fuzzing of checkpoints: damaged files are refused with a documented error, or loaded."""

import argparse
import copy
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes
from small_models import small_model

from caflow_training import checkpoint
from caflow_training.checkpoint import CheckpointError
from caflow_training.config import ConfigError
from caflow_training.model import CAFlow

REFERENCE = Path(__file__).parents[1] / "data" / "reference" / "unshared" / "lightning.ckpt"
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 16, 2**16, 2**31, 2**40, 2**70, 0.5, -0.0, float("nan"), float("inf"), 1e300),
    *("", "x", "logit", "inpainting", b"bytes", [], {}, (), [1], {"a": 1}, {1: 2}, "x" * 1000, "\0", "\ud800"),
    *(torch.zeros(0), torch.zeros(()), torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.zeros(1, 1, 1, 1)),
    *(torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(1).expand(2**40), torch.full((4,), float("nan"))),
    *(torch.zeros(3, 3).to_sparse(), argparse.Namespace(), argparse.Namespace(vardeq_depth="x", data_dim=3)),
]


def checkpoints(folder: Path) -> Attempt:
    """Change a checkpoint of this project."""
    torch.manual_seed(0)
    model = small_model(torch.float32, levels=1, target_steps=1, own_steps=1, image_width=2, conditional_width=2)
    checkpoint.save(folder / "good.pt", model, ema=model.state_dict(), training={"step": 1})
    return _broken(folder, folder / "good.pt")


def reference_checkpoints(folder: Path) -> Attempt:
    """Change a checkpoint of the public implementation."""
    return _broken(folder, REFERENCE)


def _broken(folder: Path, good: Path) -> Attempt:
    contents, written = checkpoint.read(good), good.read_bytes()
    path = folder / "broken.pt"

    def attempt(source: random.Random) -> str:
        if source.random() < 0.3:
            path.write_bytes(changed_bytes(source, written))
        else:
            changed = _changed(source, contents)
            stream = io.BytesIO()
            torch.save(changed, stream)
            path.write_bytes(stream.getvalue())
        try:
            model = checkpoint.load(path)
        except (CheckpointError, ConfigError):
            return REFUSED
        assert isinstance(model, CAFlow)
        return "read"

    return attempt


def _changed(source: random.Random, contents: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with one to three changes: values are replaced, removed, added or copied from another key."""
    changed = copy.copy(contents)
    for _ in range(source.choice([1, 1, 2, 3])):
        table = _descend(source, changed)
        keys = list(table)
        if not keys:
            continue
        key, kind = source.choice(keys), source.randrange(6)
        if kind == 0:
            del table[key]
        elif kind == 1:
            table[source.choice(["", "extra", "levels", 1, None, ("a",), "model.rflow.uflow."])] = source.choice(VALUES)
        elif kind == 2:
            table[key] = table[source.choice(keys)]
        elif kind == 3 and isinstance(table[key], torch.Tensor):
            table[key] = _other_tensor(source, table[key])
        else:
            table[key] = source.choice(VALUES)
    return changed


def _descend(source: random.Random, table: dict[Any, Any]) -> dict[Any, Any]:
    """Return a random table inside `table`, or `table` itself. Tables on the way are copied."""
    inside = [key for key, value in table.items() if isinstance(value, dict | argparse.Namespace)]
    if not inside or source.random() < 0.15:
        return table
    key = source.choice(inside)
    table[key] = copy.copy(table[key])
    below = table[key]
    if isinstance(below, argparse.Namespace):
        return vars(below)
    return _descend(source, below)


def _other_tensor(source: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda t: t.flatten(),
        lambda t: t[None],
        lambda t: t[:0],
        lambda t: t.double(),
        lambda t: t.long(),
        lambda t: t.bool(),
        lambda t: t.bfloat16(),
        lambda t: t * float("nan"),
        lambda t: torch.cat([t, t]),
        lambda t: t.to(torch.complex64),
        lambda t: t.to_sparse(),
        lambda t: t.transpose(0, -1),
        lambda t: torch.nn.Parameter(t.float()),
    ]
    try:
        return source.choice(changes)(tensor)
    except (IndexError, RuntimeError):  # the tensor has too few axes for this change
        return torch.zeros(2)
