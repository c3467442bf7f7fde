"""What is drawn: how many samples, at which temperature, and which of them counts."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import check_integer, check_switch, is_integer, is_number, is_real, shown
from caflow_runtime.errors import InputError

Rank = Literal["likelihood", "consistency", "typical"]
"""What makes one sample better than another."""


def check_draw(
    model: Model,
    n: int,
    temperature: float | Sequence[float],
    seed: int,
    frame: int,
    keep: Sequence[int] | None,
    rank: str,
    consistent: bool,
) -> None:
    """The arguments of a draw.

    Raises:
        InputError
    """
    levels = model.levels
    check_integer("n", n, 1)
    per_level(temperature, levels)
    check_integer("seed", seed, 0)
    check_integer("frame", frame, 0)
    if not isinstance(rank, str) or rank not in get_args(Rank):
        raise InputError(f"rank: wanted one of {', '.join(get_args(Rank))}, got {shown(rank)}")
    check_switch("consistent", consistent)
    if rank == "consistency" and model.task == "image-to-image":
        raise InputError(f"rank 'consistency': the task {model.task!r} does not say how its conditions are made")
    if consistent and model.task != "super-resolution":
        raise InputError(f"consistent results are for super-resolution, this is a model of {model.task!r}")
    if keep is None:
        return
    counts = list(keep) if isinstance(keep, Sequence) else [keep]
    falls = all(is_integer(k) and k >= 1 for k in counts) and counts == sorted(counts, reverse=True)
    if len(counts) != levels or not falls or counts[0] != n:
        raise InputError(
            f"keep: wanted {levels} numbers of samples, one per level from n = {n} down, such as "
            f"{(n, *[max(1, n // 2)] * (levels - 1))}, got {shown(tuple(counts))}"
        )
    if rank != "likelihood":
        raise InputError(f"keep: samples are dropped by their likelihood, so wanted rank 'likelihood', got {rank!r}")


def per_level(temperature: float | Sequence[float], levels: int) -> list[float]:
    """One temperature for each level.

    Raises:
        InputError
    """
    found: Any = temperature.tolist() if isinstance(temperature, np.ndarray) else temperature
    values = list(found) if isinstance(found, list | tuple) else [found]
    if len(values) not in (1, levels) or not all(is_real(value) for value in values):
        raise InputError(f"temperature: wanted a number, or {levels} of them, one per level, got {shown(temperature)}")
    if not all(is_number(value) and value >= 0 for value in values):
        raise InputError(f"temperature: wanted finite values of 0 or more, got {shown(temperature)}")
    numbers = [float(value) for value in values]
    return numbers * levels if len(numbers) == 1 else numbers
