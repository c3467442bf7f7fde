"""Summary of any number of scored pairs. Lines are read one by one; only counts and a few examples are kept."""

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.file_search import JOB_FILE
from caflow_runtime.errors import InputError
from caflow_runtime.file_io import strict_json
from caflow_runtime.file_io.line_checksum import has_valid_checksum
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.ood.drift import Drift
from caflow_runtime.ood.typicality import Floats, rank
from caflow_runtime.ood.verdict import Verdict

UNTYPICAL, ACCEPTED, ERRORS = 20, 8, 50
"""Largest numbers of untypical pairs, accepted pairs and errors that are shown."""
BINS, BINS_OF_LEVELS = 40, 32
BEYOND_CALIBRATION = 0.5
"""Margin of the histogram of bits/dim on each side, as a fraction of the calibration's range."""
LARGEST_RESIDUAL = 8.0


class JudgedJob(msgspec.Struct, frozen=True):
    """Settings in `job.json` that the page shows or checks."""

    min_typicality: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Threshold of the typicality; about this fraction of good pairs is rejected by mistake."""
    bundle: str | None = None
    """SHA-256 of the bundle's manifest."""
    calibration: str | None = None
    """SHA-256 of the bundle's calibration."""


@dataclass
class Histogram:
    """Counts of values in bars. Values beyond the ends count in the outermost bars."""

    edges: Floats
    counts: NDArray[np.int64]

    @classmethod
    def between(cls, low: float, high: float, bins: int) -> "Histogram":
        """Return an empty histogram with bars of equal width."""
        return cls(np.linspace(low, high, bins + 1), np.zeros(bins, np.int64))

    def add(self, value: float) -> None:
        """Count a value."""
        bar = int(np.searchsorted(self.edges, value, "right")) - 1
        self.counts[min(max(bar, 0), len(self.counts) - 1)] += 1

    def expected(self, quantiles: list[float]) -> Floats:
        """Return the counts that the values would have if they had the distribution with these quantiles."""
        below = rank(self.edges, quantiles)
        below[0], below[-1] = 0.0, 1.0
        return np.asarray(np.diff(below) * self.counts.sum())


@dataclass
class Summary:
    """Everything that the page shows about any number of lines."""

    calibration: Calibration
    counts: Counter[str] = field(default_factory=Counter)
    """Number of pairs with each verdict."""
    errors: list[Verdict] = field(default_factory=list)
    """First pairs that could not be scored, at most `ERRORS`."""

    def __post_init__(self) -> None:
        truth = self.calibration.truth.main
        low, high = truth.bits_per_dim[0], truth.bits_per_dim[-1]
        margin = BEYOND_CALIBRATION * max(high - low, 1e-3)
        self.bits_per_dim = Histogram.between(low - margin, high + margin, BINS)
        self.typicality = Histogram.between(0, 1, BINS)
        self.residuals = [
            Histogram.between(-LARGEST_RESIDUAL, LARGEST_RESIDUAL, BINS_OF_LEVELS) for _ in truth.residuals
        ]
        self.drift = Drift(self.calibration.photographs)
        self._lowest = {1 / (group.images + 1) for kind in self.calibration.truth.kinds for group in kind.groups}
        self._worst: list[tuple[float, float, int, Verdict]] = []
        self._accepted: list[Verdict] = []
        self._random = random.Random(0)

    @property
    def scored(self) -> int:
        """Number of pairs that have a likelihood."""
        return self.counts["accepted"] + self.counts["rejected"] + self.counts["unjudged"]

    @property
    def judged(self) -> int:
        """Number of accepted and rejected pairs. The calibration contains images like theirs."""
        return self.counts["accepted"] + self.counts["rejected"]

    @property
    def untypical(self) -> list[Verdict]:
        """Least typical pairs, the least typical first."""
        return [line for *_, line in sorted(self._worst, reverse=True)]

    @property
    def typical(self) -> list[Verdict]:
        """Random accepted pairs that are not in `untypical`, at most `ACCEPTED`."""
        shown = self.untypical
        others = [line for line in self._accepted if line not in shown]
        return random.Random(0).sample(others, min(ACCEPTED, len(others)))

    def is_lowest(self, typicality: float) -> bool:
        """Return whether no typicality in some group of the calibration can be lower than this one."""
        return typicality in self._lowest

    def add(self, line: Verdict) -> None:
        """Count a pair."""
        self.counts[line.verdict] += 1
        if line.verdict == "error":
            if len(self.errors) < ERRORS:
                self.errors.append(line)
            return
        assert line.bits_per_dim is not None
        self.bits_per_dim.add(line.bits_per_dim)
        if line.image_typicality is None:
            return
        self.typicality.add(line.image_typicality)
        self.drift.add(line.image_typicality)
        for histogram, residual in zip(self.residuals, line.residuals or [], strict=True):
            histogram.add(residual)
        self._keep(line, line.image_typicality)

    def _keep(self, line: Verdict, typicality: float) -> None:
        # Many pairs may share the smallest typicality that the calibration can tell. Then the largest residual decides.
        item = (-typicality, max(map(abs, line.residuals or [0.0])), -self.scored, line)
        (heapq.heappush if len(self._worst) < UNTYPICAL else heapq.heappushpop)(self._worst, item)
        if line.verdict != "accepted":
            return
        # Reservoir sampling. More pairs are kept than shown, because some may be among the least typical.
        if len(self._accepted) < UNTYPICAL + ACCEPTED:
            self._accepted.append(line)
        elif (place := self._random.randrange(self.counts["accepted"])) < len(self._accepted):
            self._accepted[place] = line


def read_lines(scores: Path, levels: int) -> Iterator[Verdict]:
    """Yield the pairs in a `scores.jsonl`.

    Arguments:
        levels: number of levels of the bundle.

    Raises:
        InputError: if the file cannot be read or is empty, or if a line is damaged.
    """
    number = 1  # of the line that is being read
    try:
        for text in strict_json.read_lines(scores):
            yield _read_line(text, levels)
            number += 1
    except OSError as error:
        raise InputError(f"{scores} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(
            f"{scores}, line {number}: {error}: expected a scores.jsonl of caflow filter; if it is one, run the same "
            "caflow filter command again, which computes this line and all later lines again"
        ) from None
    if number == 1:
        raise InputError(f"{scores} is empty; expected lines that caflow filter writes")


def read_job(scores: Path) -> JudgedJob:
    """Return the settings of the job beside the scores. All are None if there is no `job.json`.

    Raises:
        InputError: if `job.json` does not belong to a job of `caflow filter`.
    """
    path = scores.with_name(JOB_FILE)
    try:
        found = strict_json.read_json(path, dict[str, Any])
        if (command := found.get("command", "caflow filter")) != "caflow filter":
            raise InputError(f"{path} belongs to a job of {command}: give the scores.jsonl of a job of caflow filter")
        return strict_json.convert(found.get("settings", found), JudgedJob)
    except FileNotFoundError:
        return JudgedJob()
    except (OSError, strict_json.WrongJson) as error:
        raise InputError(f"{path} is not a job.json of caflow filter: {error}") from None


def _read_line(text: bytes, levels: int) -> Verdict:
    line = strict_json.parse_json(text, Verdict)
    if not line.sha256:
        raise ValueError("the line has no sha256, so an earlier version of caflow wrote it")
    if not has_valid_checksum(line):
        raise ValueError("the line was edited or damaged: its sha256 does not match its contents")
    if line.verdict == "error":
        return line
    numbers = [line.bits_per_dim]
    if line.verdict != "unjudged":
        numbers += [line.image_typicality, *(line.residuals or [])]
    if not all(number is not None and math.isfinite(number) for number in numbers):
        raise ValueError(f"the numbers of a pair that was {line.verdict} must be finite; got {numbers}")
    if line.verdict != "unjudged" and len(line.residuals or []) != levels:
        raise ValueError(f"expected residuals of {levels} levels, as the bundle has; got {len(line.residuals or [])}")
    return line
