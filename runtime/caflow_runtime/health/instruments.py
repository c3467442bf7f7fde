"""Instruments that metrics are made of: counters, gauges and histograms, of Prometheus or of a serving engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from caflow_runtime.extras import import_optional


class Instruments(Protocol):
    """Factory of counters, gauges and histograms: prometheus_client, or the metrics of a serving engine.

    Counters have the method `inc`, gauges `set` and histograms `observe`. An instrument with labels must first be
    narrowed to one value of each label, by `labels(*values)`.
    """

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        """Make a counter. `name` has no suffix `_total`; it is added when the counter is exported."""

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any: ...

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        """Make a histogram. `buckets` are the upper bounds of its buckets."""


class Prometheus:
    """Instruments of prometheus_client, in their own registry."""

    def __init__(self) -> None:
        """Create an empty registry.

        Raises:
            InputError: if prometheus_client is not installed.
        """
        self._package = import_optional("prometheus_client", "metrics require prometheus_client", "metrics")
        self.registry = self._package.CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._package.Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._package.Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        return self._package.Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    @contextmanager
    def serving(self, port: int, address: str) -> Iterator[int]:
        """Serve the metrics over HTTP until the block ends. Yield the port."""
        server, thread = self._package.start_http_server(port, address, self.registry)
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
