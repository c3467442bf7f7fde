"""Metrics of a running process for Prometheus: counts of results and rejections, and drift from the calibration.

with Metrics(pipe, pipe.calibration.typicality_model(0.8)) as metrics:
    metrics.serve(9100)
    metrics.observe_best(pipe.best_of(image, n=10), DrawOptions(n=10))

Every label has few possible values. Names of images belong in logs, not in labels.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from caflow_deploy.serving.model_instruments import VERDICTS, ModelInstruments, Prometheus, buckets_of
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.ood.drift import Drift
from caflow_runtime.ood.typicality import Floats, rank
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Score
from caflow_runtime.pipeline.stream import Frame

LOOPBACK = "127.0.0.1"


class Metrics:
    """Metrics of results, which `serve` exposes over HTTP. Only one thread may call `observe` methods at a time."""

    def __init__(
        self,
        pipe: Pipeline,
        typicality_model: TypicalityModel | None = None,
        instruments: Prometheus | None = None,
        buckets: Sequence[float] | None = None,
        model: str | None = None,
    ) -> None:
        """Create all metrics. If the bundle is calibrated, the canary's sample is drawn once.

        Arguments:
            pipe: pipeline that makes the results.
            typicality_model: typical values of the results. For scored images, pass `pipe.calibration.truth`; for
                samples, `pipe.calibration.typicality_model(temperature)`. Pass None if there is no calibration, or for
                progressive best-of-N, which drops samples early. Drift is then NaN.
            instruments: those of a worker, whose server exports them; None makes new ones.
            buckets: upper bounds of the buckets for bits per dimension; None uses `buckets_of(typicality_model)`.
            model: name of the model in the metrics; None takes that of the bundle.

        Raises:
            InputError: if prometheus_client is required but not installed.
            NotFinite: if the canary's sample is not finite.
        """
        self._instruments = instruments or Prometheus()
        self._typicality_model = typicality_model
        self.drift = None if typicality_model is None else Drift(pipe.calibration.photographs)
        self._model = model or as_text(pipe.folder.stem)
        self._endpoint = ExitStack()
        self._port: int | None = None
        self._made = ModelInstruments(self._instruments, self._model, pipe, buckets or buckets_of(typicality_model))

    def observe_best(
        self, best: Best, config: DrawOptions, measures_drift: bool = True, late: Sequence[bool] | Any = None
    ) -> None:
        """Count the results of best-of-N.

        Arguments:
            best: results of one or more images.
            config: settings that the samples were drawn with.
            measures_drift: whether to include the results in drift. The typicality model must be valid for these
                settings.
            late: whether each image was too late. It then has no outcome here, as its request counts as an error; None
                if no image was.
        """
        n = config.keep[-1] if config.keep else config.number
        most = n + config.most_samples - config.number
        rejected = np.zeros(len(best.outcome), int) if best.rejected is None else best.rejected
        for k, (outcome, drawn) in enumerate(zip(best.outcome, best.bits_per_dim_drawn, strict=True)):
            is_late = late is not None and late[k]
            if not is_late:
                self._made.requests.labels(self._model, outcome).inc()
            if outcome in ("rejected", "bicubic") and not is_late:
                self._made.all_rejected.labels(self._model, "keep" if outcome == "rejected" else outcome).inc()
            if config.rejects_images:  # Judging ends at the first accepted image.
                self._count(int(outcome in ("accepted", "unjudged")), int(rejected[k]), 0)
            else:  # Drawing ends once n samples are accepted, or at the limit.
                accepted = min(n, most - int(rejected[k]))
                untypical = len(drawn) - accepted
                self._count(accepted, untypical, int(rejected[k]) - untypical)
            self._observe_drawn(drawn)
            if measures_drift:
                # Use the first sample, not the most likely one: choosing by likelihood would bias the metric.
                self._add_to_drift(drawn[:1])

    def observe_score(self, score: Score, alpha: float, late: Sequence[bool] | Any = None) -> None:
        """Count scored targets.

        Arguments:
            alpha: threshold of the typicality; 0 judges no target.
            late: as in `observe_best`.
        """
        verdicts = score.verdicts(alpha)
        for k, verdict in enumerate(["unjudged"] * len(score.dims) if verdicts is None else verdicts.tolist()):
            if late is None or not late[k]:
                self._made.requests.labels(self._model, verdict).inc()
            self._count_target(verdict)
        for bits in score.bits_per_dim:
            self._made.bits.observe(bits)
        self._add_to_drift(score.bits_per_dim)

    def observe_frame(self, frame: Frame) -> None:
        """Count a frame of a video. Drift excludes frames, since those of a scene are alike and share a sample."""
        verdict = "rejected" if frame.rejected else "untypical" if frame.untypical else "ok"
        self._made.frames.labels(self._model, verdict).inc()
        if not frame.rejected:
            self._made.bits.observe(frame.bits_per_dim)

    def observe_dropped(self, frames: int = 1) -> None:
        """Count frames that were skipped because they arrived too fast."""
        self._made.frames.labels(self._model, "dropped").inc(frames)

    def observe_error(self, error: Exception) -> None:
        """Count an image that has no result. If the request dropped its untypical samples, that is no error."""
        self._made.requests.labels(self._model, "rejected" if isinstance(error, Untypical) else "error").inc()
        if isinstance(error, NotFinite):
            self._made.all_rejected.labels(self._model, "drop").inc()
        if isinstance(error, Untypical):
            drawn = np.array(error.choice.bits_per_dim)
            self._count(0, len(drawn), error.choice.rejected - len(drawn))
            self._observe_drawn(drawn)
            self._add_to_drift(drawn[:1])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of the block, as the stage `name`, one of `STAGES`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._made.seconds.labels(self._model, name).observe(time.perf_counter() - started)

    def serve(self, port: int, address: str = LOOPBACK) -> int:
        """Serve the metrics at http://address:port/metrics until `close` is called. Return the port.

        Arguments:
            port: TCP port; 0 lets the system choose a free port.

        Raises:
            InputError: if they are served already, or the port is not available.
        """
        if self._port is not None:
            raise InputError(f"metrics are already served on port {self._port}; call close() first")
        try:
            self._port = self._endpoint.enter_context(self._instruments.serving(port, address))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"metrics: cannot use port {port} of {address}: {why}; choose another port") from None
        return self._port

    def close(self) -> None:
        """Stop serving, if `serve` was called."""
        self._endpoint.close()
        self._port = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, accepted: int, untypical: int, not_finite: int) -> None:
        for verdict, count in zip(VERDICTS, (accepted, untypical, not_finite), strict=True):
            self._made.samples.labels(self._model, *verdict).inc(count)

    def _count_target(self, verdict: str) -> None:
        """Count a scored target that was accepted or rejected. Nobody knows which of them an unjudged target is."""
        if verdict != "unjudged":
            self._count(int(verdict == "accepted"), int(verdict == "rejected"), 0)

    def _observe_drawn(self, drawn: Floats) -> None:
        """Count the bits/dim of one image's samples."""
        for bits in drawn:
            self._made.bits.observe(bits)
        if len(drawn) > 1:
            self._made.spread.observe(float(np.std(drawn)))

    def _add_to_drift(self, bits_per_dim: Floats) -> None:
        if self.drift is None or self._typicality_model is None:
            return
        self.drift.add(rank(bits_per_dim, self._typicality_model.main.bits_per_dim))
        self._made.drift_distance.set(self.drift.distance)
        self._made.drift_p_value.set(self.drift.p_value)
