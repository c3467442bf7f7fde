"""What is kept of scored pairs, however many: lines are read one by one, and counts and a few examples stay."""

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from caflow_runtime import strict_json
from caflow_runtime.errors import InputError
from caflow_runtime.judge.calibration import Calibration
from caflow_runtime.judge.drift import Drift
from caflow_runtime.judge.typicality import Floats, rank
from caflow_runtime.judge.verdict import Verdict
from caflow_runtime.judge.whole_list import WholeList
from caflow_runtime.seal import is_sealed

JOB = "job.json"
"""Beside the scores."""
UNTYPICAL, ACCEPTED, ERRORS = 20, 8, 50
"""So many pairs, and errors, are kept."""
WINDOW = 100_000
"""So many of the last pairs count for drift."""
BINS, BINS_OF_LEVELS = 40, 32
BEYOND_CALIBRATION = 0.5
"""Where the histogram of bits/dim ends, in widths of the calibration's range."""
LARGEST_RESIDUAL = 8.0


class JudgedJob(msgspec.Struct, frozen=True):
    """Settings in `job.json`, as far as the page says them."""

    alpha: float | None = None
    """The share of typical pairs that was to be rejected."""
    bundle: str | None = None
    """SHA-256 of its manifest."""
    calibration: str | None = None
    """SHA-256 of its calibration."""


@dataclass
class Histogram:
    """Counts of values; those beyond its ends are in the outermost bars."""

    edges: Floats
    counts: NDArray[np.int64]

    @classmethod
    def between(cls, low: float, high: float, bins: int) -> "Histogram":
        """Of equal bars."""
        return cls(np.linspace(low, high, bins + 1), np.zeros(bins, np.int64))

    def add(self, value: float) -> None:
        """One more."""
        bar = int(np.searchsorted(self.edges, value, "right")) - 1
        self.counts[min(max(bar, 0), len(self.counts) - 1)] += 1

    def expected(self, quantiles: list[float]) -> Floats:
        """Counts, had the values the distribution of these quantiles."""
        below = rank(self.edges, quantiles)
        below[0], below[-1] = 0.0, 1.0
        return np.asarray(np.diff(below) * self.counts.sum())


@dataclass
class Summary:
    """All that the page says of any number of lines."""

    calibration: Calibration
    counts: Counter[str] = field(default_factory=Counter)
    """Of verdicts."""
    errors: list[Verdict] = field(default_factory=list)
    """The first."""

    def __post_init__(self) -> None:
        truth = self.calibration.truth.main
        low, high = truth.bits_per_dim[0], truth.bits_per_dim[-1]
        margin = BEYOND_CALIBRATION * max(high - low, 1e-3)
        self.bits_per_dim = Histogram.between(low - margin, high + margin, BINS)
        self.typicality = Histogram.between(0, 1, BINS)
        self.residuals = [
            Histogram.between(-LARGEST_RESIDUAL, LARGEST_RESIDUAL, BINS_OF_LEVELS) for _ in truth.residuals
        ]
        self.drift = Drift(self.calibration.truth, WINDOW)
        self.whole = WholeList(self.calibration.photographs)
        self._worst: list[tuple[float, float, int, Verdict]] = []
        self._accepted: list[Verdict] = []
        self._random = random.Random(0)

    @property
    def scored(self) -> int:
        """Pairs that have a likelihood."""
        return self.counts["accepted"] + self.counts["rejected"] + self.counts["unjudged"]

    @property
    def judged(self) -> int:
        """Pairs that the calibration knows images like."""
        return self.counts["accepted"] + self.counts["rejected"]

    @property
    def untypical(self) -> list[Verdict]:
        """The least typical, the least first."""
        return [line for *_, line in sorted(self._worst, reverse=True)]

    @property
    def typical(self) -> list[Verdict]:
        """Some that were accepted, by chance, but for those that are `untypical`."""
        shown = self.untypical
        others = [line for line in self._accepted if line not in shown]
        return random.Random(0).sample(others, min(ACCEPTED, len(others)))

    def add(self, line: Verdict) -> None:
        """One more."""
        self.counts[line.verdict] += 1
        if line.verdict == "error":
            if len(self.errors) < ERRORS:
                self.errors.append(line)
            return
        assert line.bits_per_dim is not None
        self.bits_per_dim.add(line.bits_per_dim)
        self.drift.add(line.bits_per_dim)
        if line.image_typicality is None:
            return
        self.typicality.add(line.image_typicality)
        self.whole.add(line.image_typicality)
        for histogram, residual in zip(self.residuals, line.residuals or [], strict=True):
            histogram.add(residual)
        self._keep(line, line.image_typicality)

    def _keep(self, line: Verdict, typicality: float) -> None:
        # Many may be less typical than all of the calibration, and so alike: then the largest residual counts.
        item = (-typicality, max(map(abs, line.residuals or [0.0])), -self.scored, line)
        (heapq.heappush if len(self._worst) < UNTYPICAL else heapq.heappushpop)(self._worst, item)
        if line.verdict != "accepted":
            return
        # Reservoir sampling; more than are shown, as some may be among the least typical.
        if len(self._accepted) < UNTYPICAL + ACCEPTED:
            self._accepted.append(line)
        elif (place := self._random.randrange(self.counts["accepted"])) < len(self._accepted):
            self._accepted[place] = line


def read_lines(scores: Path, levels: int) -> Iterator[Verdict]:
    """The pairs of a `scores.jsonl` of a bundle of so many levels.

    Raises:
        InputError: if a line is not one, or is not what was written, or if there is none.
    """
    number = 0
    try:
        for text in strict_json.read_lines(scores):
            number += 1
            yield _read_line(text, levels)
    except OSError as error:
        raise InputError(f"{scores}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(
            f"{scores}, line {number}: {error}: wanted what caflow filter writes: run the same command again, which "
            "computes this line and what follows again"
        ) from None
    if not number:
        raise InputError(f"{scores}: wanted lines that caflow filter wrote, the file is empty")


def read_job(scores: Path) -> JudgedJob:
    """What the job beside the scores says; nothing where there is none.

    Raises:
        InputError: if it is no job.
    """
    path = scores.with_name(JOB)
    try:
        found = strict_json.read_json(path, dict[str, Any])
        return strict_json.convert(found.get("settings", found), JudgedJob)
    except FileNotFoundError:
        return JudgedJob()
    except (OSError, strict_json.WrongJson) as error:
        raise InputError(f"{path}: wanted what caflow filter writes: {error}") from None


def _read_line(text: bytes, levels: int) -> Verdict:
    line = strict_json.parse_json(text, Verdict)
    if not line.sha256:
        raise ValueError("it has no sha256, so an earlier version of caflow wrote it")
    if not is_sealed(line):
        raise ValueError("it was edited or damaged, as its sha256 is that of other contents")
    if line.verdict == "error":
        return line
    numbers = [line.bits_per_dim]
    if line.verdict != "unjudged":
        numbers += [line.image_typicality, *(line.residuals or [])]
    if not all(number is not None and math.isfinite(number) for number in numbers):
        raise ValueError(f"wanted numbers of a pair that was {line.verdict}, got {numbers}")
    if line.verdict != "unjudged" and len(line.residuals or []) != levels:
        raise ValueError(f"wanted residuals of {levels} levels, as the bundle has, got {len(line.residuals or [])}")
    return line
