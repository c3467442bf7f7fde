"""Settings for drawing samples: how many samples, from which noise, and how the best one is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING, Manifest
from caflow_runtime.checks import (
    MAX_SAMPLES,
    check_integer,
    check_share,
    check_switch,
    is_integer,
    is_number,
    is_real,
    shown,
)
from caflow_runtime.errors import InputError

Rank = Literal["likelihood", "consistency", "typical"]
"""Ranking of samples: by their likelihood, by their consistency with the image, or by how typical their bits per
dimension are."""
Judge = Literal["sample", "image"]
"""Typicality that decides about rejection: that of the drawn sample, or that of the image as it is written."""
Otherwise = Literal["keep", "bicubic", "drop"]
"""Result if all samples are rejected: the best rejected sample, the bicubically enlarged input, or an error."""
Temperature = float | Sequence[float]
"""One temperature τ for all levels, or one for each level, the coarsest first."""


@dataclass(frozen=True)
class Reject:
    """Rule that rejects untypical samples. Other samples are drawn in their place."""

    min_typicality: float = 0.01
    """Samples with a typicality below this are rejected. About this fraction of good samples is rejected by mistake."""
    redraws: int = 20
    """Largest number of samples that are drawn for an image in place of rejected ones, 0 … 2²⁰."""
    otherwise: Otherwise = "keep"
    """Result if all samples are rejected: "keep" is the best rejected sample, "bicubic" is the input, bicubically
    enlarged, and "drop" raises `Untypical`."""
    judge: Judge = "sample"
    """Typicality that decides. "sample" is that of a drawn sample among samples of the same temperature, which takes no
    extra time. "image" is that of the image, as it is written, among true images: the verdict of `caflow filter`.
    Images are then scored in the order of their rank until one is accepted."""

    def __post_init__(self) -> None:
        check_share("min_typicality", self.min_typicality, is_open=True)
        check_integer("redraws", self.redraws, 0, MAX_SAMPLES)
        if not isinstance(self.otherwise, str) or self.otherwise not in get_args(Otherwise):
            raise InputError(f"otherwise must be one of {', '.join(get_args(Otherwise))}; got {shown(self.otherwise)}")
        if not isinstance(self.judge, str) or self.judge not in get_args(Judge):
            raise InputError(f"judge must be one of {', '.join(get_args(Judge))}; got {shown(self.judge)}")


@dataclass(frozen=True)
class DrawOptions:
    """How samples are drawn, and the best one is chosen. The values are checked and converted to the types below.

    Raises:
        InputError: if a value is not valid.
    """

    n: int = 10
    """Number of samples of each image, 1 … 2²⁰."""
    temperature: Temperature | None = None
    """Temperature τ, a factor on the noise: one for all levels, or one for each level, the coarsest first. None is the
    temperature that the model names as best: 0.8 for x4-photo, 0.5 for x4-real, and 0 for the others."""
    seed: int = 0
    """Number that chooses the noise, together with `frame`: 0 … 2³²−1."""
    frame: int = 0
    """Number of the frame, which also chooses the noise: 0 … 2³²−1."""
    rank: Rank | None = None
    """Ranking of the samples. "likelihood" ranks by log-likelihood, as in the paper. "consistency" ranks by how well
    the sample, degraded again, matches the image. "typical" ranks by how close the bits per dimension of each level are
    to those of typical samples, which requires a calibration. None is the ranking that the model names as best."""
    keep: Sequence[int] | None = None
    """Progressive best-of-N: the number of samples that run at each level, beginning with `n`. After each level, only
    the most likely samples continue. The result is approximate: a dropped sample might have been the best."""
    consistent: bool = False
    """For super-resolution: whether to change the best sample so that it down-samples to the image, as far as values in
    0…255 allow. It is ranked before the change and scored again after it."""
    reject: Reject | None = None
    """Rule that rejects untypical samples; None rejects no sample."""

    def for_model(self, manifest: Manifest) -> Self:
        """Return the options for a model: with its own temperature and ranking where they are None.

        Raises:
            InputError: if the model does not support the options.
        """
        own = manifest.model.sampling
        temperature = own.temperature if self.temperature is None else self.temperature
        rank = self.rank or (own.rank if self.keep is None else "likelihood")
        found = replace(self, temperature=temperature, rank=rank)
        found.check_fits(manifest)
        return found

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1, MAX_SAMPLES)
        check_integer("seed", self.seed, 0)
        check_integer("frame", self.frame, 0)
        if self.rank is not None and not (isinstance(self.rank, str) and self.rank in get_args(Rank)):
            raise InputError(f"rank must be one of {', '.join(get_args(Rank))}; got {shown(self.rank)}")
        check_switch("consistent", self.consistent)
        if self.reject is not None and not isinstance(self.reject, Reject):
            wanted = "caflow_deploy.Reject, such as Reject(min_typicality=0.01)"
            raise InputError(f"reject: expected {wanted}; got {shown(self.reject)}")
        # NumPy's small integers overflow in sums, and a comparison of its arrays is not a single bool.
        for name in ("n", "seed", "frame"):
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.temperature is not None:
            object.__setattr__(self, "temperature", _temperature(self.temperature))
        object.__setattr__(self, "keep", _keep(self.keep, self.n))
        if self.keep is not None and self.rank not in ("likelihood", None):
            raise InputError(f"keep drops samples by likelihood, so rank must be 'likelihood'; got {self.rank!r}")
        if self.keep is not None and self.reject is not None:
            raise InputError("keep drops samples before they can be judged: use either keep or reject")

    @property
    def judges(self) -> Judge | None:
        """Object that is judged: "sample" or "image"; None if no sample is rejected."""
        return None if self.reject is None else self.reject.judge

    @property
    def needs_calibration(self) -> bool:
        """Whether drawing requires the calibration of a bundle."""
        return self.rank == "typical" or self.reject is not None

    @property
    def most_samples(self) -> int:
        """Largest number of samples that are drawn for an image."""
        return self.n + (self.reject.redraws if self.reject else 0)

    def temperatures(self, levels: int) -> list[float]:
        """Return the temperature of each level, the coarsest first. Without a model, it is the default one."""
        own = DEFAULT_SAMPLING.temperature if self.temperature is None else self.temperature
        return list(own) if isinstance(own, Sequence) else [own] * levels

    def check_fits(self, manifest: Manifest) -> None:
        """Check that a model supports these settings.

        Raises:
            InputError: if the model does not support them.
        """
        levels = manifest.model.levels
        if isinstance(self.temperature, tuple) and len(self.temperature) != levels:
            raise InputError(
                f"temperature must be one number, or {levels} numbers, one per level; got {shown(self.temperature)}"
            )
        if self.keep is not None and len(self.keep) != levels:
            raise InputError(
                f"keep must have {levels} numbers of samples, one per level, from n = {self.n} down, such as "
                f"{_kept(self.n, levels)}; got {shown(self.keep)}"
            )
        if self.rank == "consistency" and not manifest.has_consistency:
            raise InputError(f"rank 'consistency': {manifest.without_consistency}")
        if self.consistent and not (manifest.has_consistency and manifest.model.scale > 1):
            raise InputError(f"consistent results require a model that enlarges; got the task {manifest.model.task!r}")


def _temperature(given: Any) -> Temperature:
    found = given.tolist() if isinstance(given, np.ndarray) else given
    values = list(found) if isinstance(found, list | tuple) else [found]
    if not values or not all(is_real(value) for value in values):
        raise InputError(f"temperature must be a number, or one number per level; got {shown(given)}")
    if not all(is_number(value) and value >= 0 for value in values):
        raise InputError(f"temperature must be finite and at least 0; got {shown(given)}")
    numbers = tuple(float(value) for value in values)
    return numbers[0] if len(numbers) == 1 else numbers


def _kept(n: int, levels: int) -> tuple[int, ...]:
    """Return an example of `keep`."""
    return (n, *[max(1, n // 2)] * (levels - 1))


def _keep(given: Any, n: int) -> tuple[int, ...] | None:
    if given is None:
        return None
    counts = list(given) if isinstance(given, Sequence) else [given]
    falls = all(is_integer(k) and k >= 1 for k in counts) and counts == sorted(counts, reverse=True)
    if not falls or not counts or counts[0] != n:
        raise InputError(
            f"keep must be numbers of samples, one per level, from n = {n} down, such as {_kept(n, len(counts))}; got "
            f"{shown(given)}"
        )
    return tuple(int(k) for k in counts)
