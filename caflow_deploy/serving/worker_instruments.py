"""Metrics of worker processes: recorded in the worker, sent with its answers, and exported by the server.

So counters and histograms add up over all workers, and continue when a worker is replaced.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from caflow_deploy.serving.model_instruments import Prometheus

Kind = Literal["counter", "gauge", "histogram"]


class CreatedInstrument(NamedTuple):
    """A metric was made."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    buckets: tuple[tuple[float, ...], ...] = ()
    """The buckets of a histogram, as the only entry."""


class InstrumentChange(NamedTuple):
    """A metric was changed, or shown with its first value."""

    name: str
    labels: tuple[str, ...]
    method: str = ""
    """Method of the metric that was called; empty if the metric was only shown."""
    value: float = 0.0


@dataclass(frozen=True)
class RecordingInstruments:
    """Factory of metrics that append every change to a list of records."""

    model: str
    """Value of the label `model`, which all metrics have."""
    records: list[CreatedInstrument | InstrumentChange]

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._made("counter", name, text, labels)

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._made("gauge", name, text, labels)

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        return self._made("histogram", name, text, labels, tuple(buckets))

    def _made(self, kind: Kind, name: str, text: str, labels: Sequence[str], *buckets: tuple[float, ...]) -> Any:
        others = tuple(label for label in labels if label != "model")
        self.records.append(CreatedInstrument(kind, name, text, ("model", *others), buckets))
        made = Instrument(self, name, tuple(labels), (self.model,))
        return made if labels else made.labels()


@dataclass(frozen=True)
class Instrument:
    """Metric of a worker, with the values of its labels."""

    made_by: RecordingInstruments
    name: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    shown: dict[tuple[str, ...], Self] = field(default_factory=dict)

    def labels(self, *values: str) -> Self:
        """Return the metric with these values of its labels. The label `model` is kept."""
        if values not in self.shown:
            others = tuple(value for name, value in zip(self.names, values, strict=True) if name != "model")
            self.shown[values] = type(self)(self.made_by, self.name, (), (*self.values, *others))
            self.made_by.records.append(InstrumentChange(self.name, self.shown[values].values))
        return self.shown[values]

    def inc(self, amount: float = 1) -> None:
        """Increase a counter."""
        self._change("inc", amount)

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._change("set", value)

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        self._change("observe", value)

    def _change(self, method: str, value: float) -> None:
        self.made_by.records.append(InstrumentChange(self.name, self.values, method, float(value)))


class WorkerMetrics:
    """Metrics of all workers, which the server exports. Gauges have the number of their worker as the label `worker`.

    A gauge cannot be added up: each worker computes drift, for example, from the images that it gets.
    """

    def __init__(self) -> None:
        """Create an empty registry.

        Raises:
            InputError: if prometheus_client is not installed.
        """
        self.instruments = Prometheus()
        self._made: dict[str, tuple[Kind, Any]] = {}

    def replay(self, records: Iterable[CreatedInstrument | InstrumentChange], worker: int) -> None:
        """Repeat what a worker recorded. The first worker that makes a metric determines its buckets."""
        for record in records:
            if isinstance(record, InstrumentChange):
                kind, metric = self._made[record.name]
                metric = metric.labels(*record.labels, *[str(worker)] * (kind == "gauge"))
                if record.method:
                    getattr(metric, record.method)(record.value)
            elif record.name not in self._made:
                labels = (*record.labels, *["worker"] * (record.kind == "gauge"))
                make = getattr(self.instruments, record.kind)
                self._made[record.name] = record.kind, make(record.name, record.text, labels, *record.buckets)
