"""Metrics in the form that Ray exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ray.util import metrics


class RayInstruments:
    """Factory of Ray's metrics. Each node of the cluster serves them under the names of `Metrics` with prefix `ray_`.

    Ray shows a counter only after its first count, and supports no histogram buckets that end at or below 0.
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
    """Metric of Ray, with the values of its labels."""

    metric: Any
    names: Sequence[str]
    tags: dict[str, str]

    def labels(self, *values: str) -> Self:
        """Return the metric with these values of its labels. The label `model` is kept."""
        return type(self)(self.metric, (), dict(zip(self.names, values, strict=True)) | self.tags)

    def inc(self, amount: float = 1) -> None:
        """Increase a counter."""
        if amount:  # Ray rejects 0
            self.metric.inc(amount, self.tags)

    def set(self, value: float) -> None:
        """Set a gauge."""
        self.metric.set(value, self.tags)

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        self.metric.observe(value, self.tags)
