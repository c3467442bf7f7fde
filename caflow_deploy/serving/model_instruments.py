"""The instruments of a model's metrics: their names, descriptions, labels and buckets."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, get_args

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


class Prometheus:
    """Instruments of prometheus_client, in a registry of their own.

    All have the label `model`, and several models share them. The first model determines the buckets of a histogram.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Create an empty registry.

        Arguments:
            folder: where workers write metrics, which the registry then has, too. Counters and histograms add up over
                workers, and continue when a worker is replaced. Gauges have the number of the worker as the label
                `pid`.

        Raises:
            InputError: if prometheus_client is not installed.
        """
        self._package = import_optional("prometheus_client", "metrics require prometheus_client", "prometheus-client")
        self.registry = self._package.CollectorRegistry()
        self._made: dict[str, Any] = {}
        if folder is not None:
            from prometheus_client.multiprocess import MultiProcessCollector

            MultiProcessCollector(self.registry, str(folder))  # type: ignore[no-untyped-call]

    @classmethod
    def of_worker(cls, folder: Path, number: int) -> Self:
        """Return the instruments of this process, a worker, which writes their values to a folder.

        To be called once, before the process makes other instruments: it sets how prometheus_client stores values.
        """
        from prometheus_client import values

        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        return cls()

    def counter(self, name: str, text: str, labels: Sequence[str], values: Sequence[tuple[str, ...]]) -> Any:
        """Return a counter that starts at 0 for all of these values of its labels. The model comes first in each."""
        made = self._instrument("Counter", name, text, labels)
        for value in values:
            made.labels(*value)
        return made

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Any:
        """Return a gauge."""
        return self._instrument("Gauge", name, text, labels, multiprocess_mode="all")

    def histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Any:
        """Return a histogram. `buckets` are the upper bounds of its buckets."""
        return self._instrument("Histogram", name, text, labels, buckets=buckets)

    def _instrument(self, kind: str, name: str, text: str, labels: Sequence[str], **options: Any) -> Any:
        if name not in self._made:
            make = getattr(self._package, kind)
            self._made[name] = make(name, text, ["model", *labels], registry=self.registry, **options)
        return self._made[name]

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
    """All instruments of one model.

    The first label of counters and of `seconds` is the model; the others are narrowed to the model already. All label
    values of counters start at 0, so that ratios are right from the first minute.
    """

    def __init__(self, instruments: Prometheus, model: str, pipe: Pipeline, bits_per_dim: Sequence[float]) -> None:
        """Make all instruments. If the bundle is calibrated, the canary's sample is drawn once.

        Arguments:
            model: value of the label `model`.
            bits_per_dim: upper bounds of the buckets for bits per dimension.

        Raises:
            NotFinite: if the canary's sample is not finite.
        """
        self._instruments = instruments
        self._make_counters(model)
        self._make_histograms(model, bits_per_dim)
        self._make_gauges(model, pipe)

    def _make_counters(self, model: str) -> None:
        counter = self._instruments.counter
        self.requests = request_counter(self._instruments, model)
        self.samples = counter(
            "caflow_samples",
            "Number of drawn samples or scored targets, by verdict.",
            ["verdict", "reason"],
            [(model, *verdict) for verdict in VERDICTS],
        )
        self.all_rejected = counter(
            "caflow_all_rejected",
            "Number of images without an accepted sample, by the result that replaced it.",
            ["instead"],
            [(model, instead) for instead in INSTEAD],
        )
        self.frames = counter(
            "caflow_frames",
            "Number of video frames, by verdict.",
            ["verdict"],
            [(model, verdict) for verdict in FRAMES],
        )

    def _make_histograms(self, model: str, bits_per_dim: Sequence[float]) -> None:
        histogram = self._instruments.histogram
        self.bits = histogram(
            "caflow_sample_bits_per_dim", "Bits per dimension of finite samples or scored targets.", bits_per_dim
        ).labels(model)
        self.spread = histogram(
            "caflow_logp_spread", "Standard deviation of the bits/dim of an image's samples.", SPREADS
        ).labels(model)
        self.seconds = histogram("caflow_stage_seconds", "Duration of each stage in seconds.", SECONDS, ["stage"])
        for stage in STAGES:
            self.seconds.labels(model, stage)

    def _make_gauges(self, model: str, pipe: Pipeline) -> None:
        gauge = self._instruments.gauge
        manifest = sha256_of(pipe.folder / MANIFEST)
        info = gauge(
            "caflow_model_info",
            "Version, precision and manifest hash as labels; the value is 1.",
            ["version", "precision", "manifest"],
        )
        info.labels(model, version("caflow-deploy"), pipe.manifest.precision, manifest).set(1)
        self.drift_distance = gauge(
            "caflow_drift_distance", "Kolmogorov-Smirnov distance of recent images from the calibration, 0 to 1."
        ).labels(model)
        self.drift_distance.set(math.nan)
        self.drift_p_value = gauge(
            "caflow_drift_p_value", "Probability of a distance as large without drift; check values below 0.01."
        ).labels(model)
        self.drift_p_value.set(math.nan)
        canary = gauge(
            "caflow_canary_difference",
            "Log-likelihood of the canary at the start minus its value at calibration, in nats.",
        ).labels(model)
        try:
            canary.set(canary_difference(pipe))
        except InputError:  # The bundle is not calibrated.
            canary.set(math.nan)


def request_counter(instruments: Prometheus, model: str) -> Any:
    """Return the counter of images, with the labels model and outcome, that starts at 0 for a model."""
    values = [(model, outcome) for outcome in OUTCOMES]
    return instruments.counter("caflow_requests", "Number of images, by outcome.", ["outcome"], values)


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
