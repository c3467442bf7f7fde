"""The instruments of a model's metrics: their names, descriptions, labels and buckets."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Protocol, get_args

import numpy as np

from caflow_runtime.batching.draw_options import Otherwise
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.extras import import_optional
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.canary import canary_difference
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Outcome

OUTCOMES = (*get_args(Outcome), "usual", "unusual", "reduced", "error")
"""Outcomes of an image: those of `Best`, also for scored targets; of image files also "usual", "unusual" and "reduced";
"error" if there is no result."""
UNTYPICAL, NOT_FINITE = "untypical", "not_finite"
VERDICTS = (("accepted", ""), ("rejected", UNTYPICAL), ("rejected", NOT_FINITE))
"""Verdicts on a sample or a scored target, each with the reason of a rejection."""
INSTEAD = get_args(Otherwise)
STAGES = ("sample", "score")
FRAMES = ("ok", "untypical", "rejected", "dropped")
BITS_PER_DIM = tuple(np.arange(0.5, 8.5, 0.5).tolist())
"""Upper bounds of the histogram's buckets if there is no calibration. 8 bits/dim means that all values are equally
likely."""
QUANTILES = 21
SPREADS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Instruments(Protocol):
    """Factory of counters, gauges and histograms: those of prometheus_client, or of a worker.

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
        self._package = import_optional("prometheus_client", "metrics require prometheus_client", "prometheus-client")
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


class ModelInstruments:
    """All instruments of one model. Each attribute is an instrument, as `Instruments` returns it.

    All label values of counters start at 0, so that ratios are right from the first minute.
    """

    def __init__(self, instruments: Instruments, model: str, pipe: Pipeline, bits_per_dim: Sequence[float]) -> None:
        """Make all instruments. If the bundle is calibrated, the canary's sample is drawn once.

        Arguments:
            model: name of the model, which is the label of its counters.
            bits_per_dim: upper bounds of the buckets for bits per dimension.

        Raises:
            NotFinite: if the canary's sample is not finite.
        """
        self._instruments = instruments
        self._make_counters(model)
        self._make_histograms(bits_per_dim)
        self._make_gauges(pipe)

    def _make_counters(self, model: str) -> None:
        def counter(name: str, text: str, labels: list[str], values: list[tuple[str, ...]]) -> Any:
            return _counter(self._instruments, name, text, labels, values)

        self.requests = request_counter(self._instruments, model)
        self.samples = counter(
            "caflow_samples",
            "Number of drawn samples or scored targets, by verdict.",
            ["model", "verdict", "reason"],
            [(model, *verdict) for verdict in VERDICTS],
        )
        self.all_rejected = counter(
            "caflow_all_rejected",
            "Number of images without an accepted sample, by the result that replaced it.",
            ["instead"],
            [(instead,) for instead in INSTEAD],
        )
        self.frames = counter(
            "caflow_frames", "Number of video frames, by verdict.", ["verdict"], [(verdict,) for verdict in FRAMES]
        )

    def _make_histograms(self, bits_per_dim: Sequence[float]) -> None:
        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Any:
            return self._instruments.histogram(name, text, labels, buckets)

        self.bits = histogram(
            "caflow_sample_bits_per_dim", "Bits per dimension of finite samples or scored targets.", bits_per_dim
        )
        self.spread = histogram(
            "caflow_logp_spread", "Standard deviation of the bits/dim of an image's samples.", SPREADS
        )
        self.seconds = histogram("caflow_stage_seconds", "Duration of each stage in seconds.", SECONDS, ["stage"])
        for stage in STAGES:
            self.seconds.labels(stage)

    def _make_gauges(self, pipe: Pipeline) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Any:
            return self._instruments.gauge(name, text, labels)

        manifest = sha256_of(pipe.folder / MANIFEST)
        info = gauge(
            "caflow_model_info",
            "Version, precision and manifest hash as labels; the value is 1.",
            ["version", "precision", "manifest"],
        )
        info.labels(version("caflow-deploy"), pipe.manifest.precision, manifest).set(1)
        self.drift_distance = gauge(
            "caflow_drift_distance", "Kolmogorov-Smirnov distance of recent images from the calibration, 0 to 1."
        )
        self.drift_distance.set(math.nan)
        self.drift_p_value = gauge(
            "caflow_drift_p_value", "Probability of a distance as large without drift; check values below 0.01."
        )
        self.drift_p_value.set(math.nan)
        canary = gauge(
            "caflow_canary_difference",
            "Log-likelihood of the canary at the start minus its value at calibration, in nats.",
        )
        try:
            canary.set(canary_difference(pipe))
        except InputError:  # The bundle is not calibrated.
            canary.set(math.nan)


def request_counter(instruments: Instruments, model: str) -> Any:
    """Return the counter of a model's images, with the labels model and outcome."""
    text, values = "Number of images, by outcome.", [(model, outcome) for outcome in OUTCOMES]
    return _counter(instruments, "caflow_requests", text, ["model", "outcome"], values)


def _counter(
    instruments: Instruments, name: str, text: str, labels: list[str], values: Sequence[tuple[str, ...]]
) -> Any:
    """Return a counter that starts at 0 for all of these values of its labels."""
    made = instruments.counter(name, text, labels)
    for value in values:
        made.labels(*value)
    return made


def buckets_of(*typicality_models: TypicalityModel | None) -> Sequence[float]:
    """Return upper bounds of buckets, each with 5 % of a calibration's images; without calibration, fixed bounds.

    The bounds of several models are merged.
    """
    known = [
        typicality_model.main.bits_per_dim for typicality_model in typicality_models if typicality_model is not None
    ]
    if not known:
        return BITS_PER_DIM
    quantiles = [np.quantile(bits_per_dim, np.linspace(0, 1, QUANTILES)) for bits_per_dim in known]
    return [float(end) for end in np.unique(quantiles)]
