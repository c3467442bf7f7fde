"""Metrics in the form that Ray exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ray.util import metrics


class RayInstruments:
    """Factory of Ray's metrics. Each node of the cluster serves them under the names of `Metrics` with prefix `ray_`.

    Ray shows a counter only after its first count, and supports no histogram buckets that end at or below 0. It drops a
    gauge that nobody has set for 20 s: call `repeat` more often than that.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.gauges: list[KeptGauge] = []

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Instrument(metrics.Counter(name, text, self._keys(labels)), labels, {"model": self.model})

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        self.gauges.append(KeptGauge(name, text, self._keys(labels)))
        return Instrument(self.gauges[-1], labels, {"model": self.model})

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        ends = [end for end in buckets if end > 0]
        return Instrument(metrics.Histogram(name, text, ends, self._keys(labels)), labels, {"model": self.model})

    def repeat(self) -> None:
        """Set all gauges again to their values."""
        for gauge in self.gauges:
            gauge.repeat()

    def _keys(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["model", *labels]))


class KeptGauge(metrics.Gauge):
    """Gauge of Ray that can be set again to its values."""

    def __init__(self, name: str, text: str, keys: tuple[str, ...]) -> None:
        super().__init__(name, text, keys)
        self.values: dict[frozenset[tuple[str, str]], float] = {}

    def set(self, value: float, tags: dict[str, str]) -> None:  # type: ignore[override]
        """Set the gauge for these tags."""
        self.values[frozenset(tags.items())] = value
        super().set(value, tags)

    def repeat(self) -> None:
        """Set the gauge again for all tags."""
        for tags, value in tuple(self.values.items()):  # a copy, because another thread may set the gauge
            super().set(value, dict(tags))


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
        """Add a value to a histogram. A negative value counts as 0, because Ray drops it without a message."""
        self.metric.observe(max(0.0, value), self.tags)
