"""Numbers of a running process for Prometheus: what was drawn, what was rejected, and whether likelihoods still are
what they were at calibration.

with Metrics(pipe, pipe.calibration.reference(0.8)) as metrics:
    metrics.serve(9100)
    metrics.observe_best(pipe.best_of(image, n=10), Draw(n=10))

Labels have few values: names of images are for logs.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Any, Protocol, Self, get_args

import numpy as np

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.health.canary import canary_difference
from caflow_runtime.judge.drift import WINDOW, Drift
from caflow_runtime.judge.reference import Reference
from caflow_runtime.judge.typicality import Floats
from caflow_runtime.judge.verdict import Verdict
from caflow_runtime.path_text import as_text
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Outcome, Samples, Score
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.rows.draw import Draw

LOOPBACK = "127.0.0.1"
OUTCOMES = (*get_args(Outcome), "rejected", "error")
"""Of an image: as in `Best`; a given target that was rejected; or nothing."""
UNTYPICAL, NOT_FINITE = "untypical", "not_finite"
VERDICTS = (("accepted", ""), ("rejected", UNTYPICAL), ("rejected", NOT_FINITE))
"""Of a sample, or of a given target, with the reason."""
INSTEAD = ("best", "bicubic", "error")
STAGES = ("sample", "score", "postprocess")
FRAMES = ("ok", "untypical", "rejected", "dropped")
BITS_PER_DIM = tuple(np.arange(0.5, 8.5, 0.5).tolist())
"""Upper ends of the histogram's buckets where there is no calibration: 8 is that of values that are all as likely."""
QUANTILES = 21
DIFFERENCES = (-0.1, -0.05, -0.02, -0.01, -0.005, -0.002, -0.001, 0.0, 0.01, 0.1)
SPREADS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Instruments(Protocol):
    """What counts: prometheus_client, or the metrics of an engine.

    What has labels gives by `labels(*values)` what is counted with; what has none is that itself: `inc` of a counter,
    `set` of a gauge, `observe` of a histogram.
    """

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        """Its name is without the `_total` that it is shown with."""

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any: ...

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        """`buckets` are upper ends."""


class Prometheus:
    """Instruments of prometheus_client, in a registry of their own."""

    def __init__(self) -> None:
        """
        Raises:
            InputError: if prometheus_client is missing.
        """
        try:
            import prometheus_client
        except ModuleNotFoundError:
            raise InputError("metrics need prometheus_client: pip install 'caflow-deploy[metrics]'") from None
        self._package = prometheus_client
        self.registry = prometheus_client.CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._package.Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._package.Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        return self._package.Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def serve(self, port: int, address: str) -> Any:
        """The server and its thread."""
        return self._package.start_http_server(port, address, self.registry)


class Metrics:
    """Counts results, and shows the counts to whoever asks `serve`'s endpoint. One thread may observe at a time."""

    def __init__(
        self,
        pipe: Pipeline,
        reference: Reference | None = None,
        window: int = WINDOW,
        instruments: Instruments | None = None,
        buckets: Sequence[float] | None = None,
    ) -> None:
        """Where the bundle is calibrated, the canary is drawn once.

        Arguments:
            pipe: whose results they are.
            reference: what is typical of them: `pipe.calibration.truth` of images that are scored, or
                `pipe.calibration.reference(temperature)` of samples. None where that is not known, and for progressive
                best-of-N, which drops samples unseen: then drift is NaN.
            window: so many of the last images count for drift.
            instruments: of an engine that shows them; None is prometheus_client, which `serve` shows.
            buckets: of samples' bits per dimension, upper ends; None is `buckets_of` the reference.

        Raises:
            InputError: if prometheus_client is wanted and missing.
            NotFinite: if the canary is not.
        """
        self._instruments = instruments or Prometheus()
        self.drift = None if reference is None else Drift(reference, window)
        self._model = as_text(pipe.folder.stem)
        self._endpoint: Any = None
        self._make_counters()
        self._make_histograms(buckets or buckets_of(reference))
        self._make_gauges(pipe)

    def observe_best(self, best: Best, draw: Draw, measures_drift: bool = True) -> None:
        """The best of N of each image.

        Arguments:
            draw: how they were drawn.
            measures_drift: whether that is how those of the reference were.
        """
        n = draw.keep[-1] if draw.keep else draw.n
        most = n + draw.most_samples - draw.n
        rejected = np.zeros(len(best.outcome), int) if best.rejected is None else best.rejected
        for k, (outcome, drawn) in enumerate(zip(best.outcome, best.bits_per_dim_drawn, strict=True)):
            self._requests.labels(self._model, outcome).inc()
            if outcome in ("best", "bicubic"):
                self._all_rejected.labels(outcome).inc()
            if draw.judges == "image":  # judging ends with the first image that is accepted
                self._count(int(outcome in ("accepted", "unjudged")), int(rejected[k]), 0)
            else:  # drawing ended when n were accepted, or no more might be drawn
                accepted = min(n, most - int(rejected[k]))
                untypical = len(drawn) - accepted
                self._count(accepted, untypical, int(rejected[k]) - untypical)
            self._observe_drawn(drawn, float(best.bits_per_dim[k]) if best.density_at == "sample" else math.nan)
            if measures_drift:
                self._add_to_drift(drawn[:1])  # the first that came, whatever its likelihood: the best would be biased

    def observe_samples(self, samples: Samples) -> None:
        """All samples of each image."""
        for drawn, numbers in zip(samples.bits_per_dim, samples.sample, strict=True):
            self._requests.labels(self._model, "unjudged").inc()
            self._count(len(drawn), 0, 0)
            self._observe_drawn(drawn, float(drawn[0]))
            if samples.density_at == "sample":  # else they were changed, and scored again
                self._add_to_drift(drawn[numbers == 0])

    def observe_score(self, score: Score, verdicts: Sequence[bool] | Any) -> None:
        """Given targets, and whether each was accepted, as `Typicality.accept` says it."""
        for is_accepted in verdicts:
            self._requests.labels(self._model, "accepted" if is_accepted else "rejected").inc()
            self._count(int(is_accepted), int(not is_accepted), 0)
        for bits in score.bits_per_dim:
            self._bits.observe(bits)
        self._add_to_drift(score.bits_per_dim)

    def observe_verdict(self, verdict: Verdict) -> None:
        """A pair of files that was judged."""
        self._requests.labels(self._model, verdict.verdict).inc()
        if verdict.bits_per_dim is None:
            return
        is_accepted = verdict.verdict == "accepted"
        self._count(int(is_accepted), int(not is_accepted), 0)
        self._bits.observe(verdict.bits_per_dim)
        self._add_to_drift(np.array([verdict.bits_per_dim]))

    def observe_frame(self, frame: Frame) -> None:
        """One of a video. It does not count for drift: its sample is the best of its scene, whose frames are alike."""
        self._frames.labels("rejected" if frame.rejected else "untypical" if frame.untypical else "ok").inc()
        if not frame.rejected:
            self._bits.observe(frame.bits_per_dim)

    def observe_dropped(self, frames: int = 1) -> None:
        """Frames that came too fast."""
        self._frames.labels("dropped").inc(frames)

    def observe_error(self, error: Exception) -> None:
        """An image of which there is no result."""
        self._requests.labels(self._model, "error").inc()
        if isinstance(error, NotFinite):
            self._all_rejected.labels("error").inc()
        if isinstance(error, Untypical):
            drawn = np.array(error.choice.bits_per_dim)
            self._count(0, len(drawn), error.choice.rejected - len(drawn))
            self._observe_drawn(drawn, math.nan)
            self._add_to_drift(drawn[:1])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time that something takes: one of `STAGES`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(name).observe(time.perf_counter() - started)

    def serve(self, port: int, address: str = LOOPBACK) -> int:
        """Answer at http://address:port/metrics until `close`; the port, which the system chooses of 0.

        Raises:
            InputError: if that cannot be.
        """
        if not isinstance(self._instruments, Prometheus):
            raise InputError("these metrics are shown by an engine, at an endpoint of its own")
        if self._endpoint is not None:
            raise InputError(f"metrics are served on port {self._endpoint[0].server_port} already: close them first")
        try:
            self._endpoint = self._instruments.serve(port, address)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"metrics: port {port} of {address}: {why}: give another") from None
        return int(self._endpoint[0].server_port)

    def close(self) -> None:
        """Answer no longer."""
        if self._endpoint is None:
            return
        server, thread = self._endpoint
        server.shutdown()
        server.server_close()
        thread.join()
        self._endpoint = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, accepted: int, untypical: int, not_finite: int) -> None:
        for verdict, count in zip(VERDICTS, (accepted, untypical, not_finite), strict=True):
            self._samples.labels(self._model, *verdict).inc(count)

    def _observe_drawn(self, drawn: Floats, chosen: float) -> None:
        """Bits/dim of one image's samples, and of the one that was chosen, NaN where there is none like them."""
        for bits in drawn:
            self._bits.observe(bits)
        if len(drawn) > 1:
            self._spread.observe(float(np.std(drawn)))
            if math.isfinite(chosen):
                self._best_minus_median.observe(chosen - float(np.median(drawn)))

    def _add_to_drift(self, bits_per_dim: Floats) -> None:
        if self.drift is None:
            return
        self.drift.add(bits_per_dim)
        self._psi.set(self.drift.psi)
        self._ks.set(self.drift.ks)

    def _make_counters(self) -> None:
        """With every value of every label at 0, so that ratios are right from the first minute."""

        def counter(name: str, text: str, labels: list[str], values: list[tuple[str, ...]]) -> Any:
            made = self._instruments.counter(name, text, labels)
            for value in values:
                made.labels(*value)
            return made

        model = self._model
        self._requests = counter(
            "caflow_requests", "Images, by what became of them.", ["model", "outcome"], [(model, o) for o in OUTCOMES]
        )
        self._samples = counter(
            "caflow_samples",
            "Samples that were drawn, or targets that were scored.",
            ["model", "verdict", "reason"],
            [(model, *verdict) for verdict in VERDICTS],
        )
        self._all_rejected = counter(
            "caflow_all_rejected",
            "Images of which no sample was accepted, by what there is instead.",
            ["instead"],
            [(instead,) for instead in INSTEAD],
        )
        self._frames = counter("caflow_frames", "Frames of videos.", ["verdict"], [(verdict,) for verdict in FRAMES])

    def _make_histograms(self, bits_per_dim: Sequence[float]) -> None:
        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Any:
            return self._instruments.histogram(name, text, labels, buckets)

        self._bits = histogram(
            "caflow_sample_bits_per_dim", "Of samples, all that are finite, or of scored targets.", bits_per_dim
        )
        self._best_minus_median = histogram(
            "caflow_best_minus_median_bpd", "Bits/dim of the chosen sample above the median of its image.", DIFFERENCES
        )
        self._spread = histogram(
            "caflow_logp_spread", "Standard deviation over an image's samples, in bits/dim.", SPREADS
        )
        self._seconds = histogram("caflow_stage_seconds", "What takes the time.", SECONDS, ["stage"])
        for stage in STAGES:
            self._seconds.labels(stage)

    def _make_gauges(self, pipe: Pipeline) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Any:
            return self._instruments.gauge(name, text, labels)

        manifest = sha256_of(pipe.folder / MANIFEST)
        info = gauge("caflow_model_info", "Always 1.", ["version", "precision", "manifest"])
        info.labels(version("caflow-deploy"), pipe.manifest.precision, manifest).set(1)
        self._psi = gauge("caflow_drift_psi", "Of the last images against the calibration: above 0.2 is worth a look.")
        self._psi.set(math.nan)
        self._ks = gauge("caflow_drift_ks", "Kolmogorov-Smirnov distance of the last images from the calibration.")
        self._ks.set(math.nan)
        canary = gauge("caflow_canary_difference", "Nats of the canary, at the start, above those at calibration.")
        try:
            canary.set(canary_difference(pipe))
        except InputError:  # there is none
            canary.set(math.nan)


def buckets_of(*references: Reference | None) -> Sequence[float]:
    """Upper ends of buckets, each with a twentieth of a calibration's images, where there is one."""
    known = [reference.main.bits_per_dim for reference in references if reference is not None]
    if not known:
        return BITS_PER_DIM
    quantiles = [np.quantile(bits_per_dim, np.linspace(0, 1, QUANTILES)) for bits_per_dim in known]
    return [float(end) for end in np.unique(quantiles)]
