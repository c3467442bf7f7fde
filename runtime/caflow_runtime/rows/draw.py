"""What is drawn of an image: how many samples, from which noise, and which of them counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import check_integer, check_share, check_switch, is_integer, is_number, is_real, shown
from caflow_runtime.errors import InputError

Rank = Literal["likelihood", "consistency", "typical"]
"""What makes one sample better than another."""
Judge = Literal["sample", "image"]
Otherwise = Literal["best", "bicubic", "error"]
Temperature = float | tuple[float, ...]
"""τ, or one for each level, coarsest first."""


@dataclass(frozen=True)
class Reject:
    """Samples that are not taken, and what is done instead."""

    alpha: float = 0.01
    """A sample of less typicality is rejected: this share of those like calibration's."""
    redraws: int = 20
    """So many samples of an image, at most, are drawn in place of rejected ones."""
    otherwise: Otherwise = "best"
    """Where all are rejected: the best of them, the input enlarged, or `Untypical`."""
    judge: Judge = "sample"
    """By its typicality among samples of its temperature, which costs nothing; or by that of its image, as it is
    written, among true images: the verdict of `caflow filter`. Then samples are scored in the order of their rank until
    one is accepted."""

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha, is_open=True)
        check_integer("redraws", self.redraws, 0)
        if not isinstance(self.otherwise, str) or self.otherwise not in get_args(Otherwise):
            raise InputError(f"otherwise: wanted one of {', '.join(get_args(Otherwise))}, got {shown(self.otherwise)}")
        if not isinstance(self.judge, str) or self.judge not in get_args(Judge):
            raise InputError(f"judge: wanted one of {', '.join(get_args(Judge))}, got {shown(self.judge)}")


@dataclass(frozen=True)
class Draw:
    """A draw of any image. Its values are checked, and brought to the types below, where it is made.

    Raises:
        InputError
    """

    n: int = 10
    """Samples."""
    temperature: Temperature = 0.8
    seed: int = 0
    """Chooses the noise, like `frame`: 0 … 2³²−1."""
    frame: int = 0
    rank: Rank = "likelihood"
    """By log-likelihood, as in the paper; by how well the sample, degraded again, matches the image; or by how close
    its bits per dimension are, level by level, to what is typical of samples (`calibration`)."""
    keep: tuple[int, ...] | None = None
    """Progressive best-of-N: how many samples run at each level, the first of them `n`. After each level, only the
    most likely samples continue. The result is approximate: a sample that was dropped might have been the best."""
    consistent: bool = False
    """For super-resolution: the winner, ranked as drawn, is changed to down-sample to the image, as far as values in
    0…255 go, and scored again as an image."""
    reject: Reject | None = None
    """Samples that are not taken for being untypical; others are drawn in their place."""

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)
        check_integer("seed", self.seed, 0)
        check_integer("frame", self.frame, 0)
        if not isinstance(self.rank, str) or self.rank not in get_args(Rank):
            raise InputError(f"rank: wanted one of {', '.join(get_args(Rank))}, got {shown(self.rank)}")
        check_switch("consistent", self.consistent)
        if self.reject is not None and not isinstance(self.reject, Reject):
            wanted = "caflow_deploy.Reject, such as Reject(alpha=0.01)"
            raise InputError(f"reject: wanted {wanted}, got {shown(self.reject)}")
        # Small integers of NumPy overflow in sums, and its arrays cannot be compared.
        for name in ("n", "seed", "frame"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "temperature", _temperature(self.temperature))
        object.__setattr__(self, "keep", _keep(self.keep, self.n))
        if self.keep is not None and self.rank != "likelihood":
            raise InputError(
                f"keep: samples are dropped by their likelihood, so wanted rank 'likelihood', got {self.rank!r}"
            )
        if self.keep is not None and self.reject is not None:
            raise InputError("keep drops samples unseen, so none can be rejected: give keep or reject")

    @property
    def judges(self) -> Judge | None:
        """What is judged."""
        return None if self.reject is None else self.reject.judge

    @property
    def needs_calibration(self) -> bool:
        """Whether what is typical has to be known."""
        return self.rank == "typical" or self.reject is not None

    @property
    def most_samples(self) -> int:
        """How many samples of an image are drawn, at most."""
        return self.n + (self.reject.redraws if self.reject else 0)

    def temperatures(self, levels: int) -> list[float]:
        """Of each level."""
        return list(self.temperature) if isinstance(self.temperature, tuple) else [self.temperature] * levels

    def check_fits(self, model: Model) -> None:
        """Whether a model can be drawn from so.

        Raises:
            InputError
        """
        levels = model.levels
        if isinstance(self.temperature, tuple) and len(self.temperature) != levels:
            raise InputError(
                f"temperature: wanted a number, or {levels} of them, one per level, got {shown(self.temperature)}"
            )
        if self.keep is not None and len(self.keep) != levels:
            example = (self.n, *[max(1, self.n // 2)] * (levels - 1))
            raise InputError(
                f"keep: wanted {levels} numbers of samples, one per level from n = {self.n} down, such as {example}, "
                f"got {shown(self.keep)}"
            )
        if self.rank == "consistency" and model.task == "image-to-image":
            raise InputError(f"rank 'consistency': the task {model.task!r} does not say how its conditions are made")
        if self.consistent and model.task != "super-resolution":
            raise InputError(f"consistent results are for super-resolution, this is a model of {model.task!r}")


def _temperature(given: Any) -> Temperature:
    found = given.tolist() if isinstance(given, np.ndarray) else given
    values = list(found) if isinstance(found, list | tuple) else [found]
    if not values or not all(is_real(value) for value in values):
        raise InputError(f"temperature: wanted a number, or one per level, got {shown(given)}")
    if not all(is_number(value) and value >= 0 for value in values):
        raise InputError(f"temperature: wanted finite values of 0 or more, got {shown(given)}")
    numbers = tuple(float(value) for value in values)
    return numbers[0] if len(numbers) == 1 else numbers


def _keep(given: Any, n: int) -> tuple[int, ...] | None:
    if given is None:
        return None
    counts = list(given) if isinstance(given, Sequence) else [given]
    falls = all(is_integer(k) and k >= 1 for k in counts) and counts == sorted(counts, reverse=True)
    if not falls or not counts or counts[0] != n:
        raise InputError(
            f"keep: wanted numbers of samples, one per level from n = {n} down, such as {(n, max(1, n // 2))}, got "
            f"{shown(given)}"
        )
    return tuple(int(k) for k in counts)
