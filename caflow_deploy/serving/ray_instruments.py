"""Metrics as Ray counts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ray.util import metrics


class RayInstruments:
    """Counts for Ray's own endpoints, one on each node, under the names of `Metrics` with `ray_` before them.

    Ray shows a counter only once it has counted, and takes no ends of buckets at or below 0.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Instrument(metrics.Counter(name, text, self._keys(labels)), labels, {"model": self.model})

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Instrument(metrics.Gauge(name, text, self._keys(labels)), labels, {"model": self.model})

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        ends = [end for end in buckets if end > 0]
        return Instrument(metrics.Histogram(name, text, ends, self._keys(labels)), labels, {"model": self.model})

    def _keys(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["model", *labels]))


@dataclass(frozen=True)
class Instrument:
    """One of Ray's, with the values of its labels."""

    metric: Any
    names: Sequence[str]
    tags: dict[str, str]

    def labels(self, *values: str) -> Self:
        """The same for these values; the model stays."""
        return type(self)(self.metric, (), dict(zip(self.names, values, strict=True)) | self.tags)

    def inc(self, amount: float = 1) -> None:
        """Count."""
        if amount:  # Ray refuses 0
            self.metric.inc(amount, self.tags)

    def set(self, value: float) -> None:
        """Of a gauge."""
        self.metric.set(value, self.tags)

    def observe(self, value: float) -> None:
        """Of a histogram."""
        self.metric.observe(value, self.tags)
