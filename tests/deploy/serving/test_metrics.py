"""Metrics, scraped as Prometheus does, of results that a small bundle draws."""

import math
import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import listening
from tiny import calibrated_pipe as pipe
from tiny import pairs_of_photographs, photograph

from caflow_deploy.serving.metrics import Metrics
from caflow_deploy.serving.model_instruments import Prometheus
from caflow_deploy.serving.request import Request
from caflow_deploy.serving.served_models import Sampler
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.ood.drift import Drift
from caflow_runtime.ood.typicality import rank
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.choice import Choice, Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import sample_best

__all__ = ["pipe"]  # a fixture


@pytest.fixture
def typicality_model(pipe: Pipeline) -> TypicalityModel:
    return pipe.calibration.typicality_model(0.8)


def served(metrics: Metrics) -> dict[str, float]:
    """Serve metrics on the loopback address, and return their values by name with labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.serve(0)}/metrics", timeout=120) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def counted(instruments: Prometheus) -> dict[str, float]:
    """Return the values by name followed by outcome."""
    samples = [sample for family in instruments.registry.collect() for sample in family.samples]
    return {sample.name + sample.labels.get("outcome", ""): sample.value for sample in samples}


def test_all_metrics_exist_with_zero_from_the_start(pipe: Pipeline, typicality_model: TypicalityModel) -> None:
    with Metrics(pipe, typicality_model) as metrics:
        values = served(metrics)
    for outcome in ("unjudged", "accepted", "rejected", "bicubic", "error"):
        assert values[f'caflow_requests_total{{model="model",outcome="{outcome}"}}'] == 0
    for verdict, reason in (("accepted", ""), ("rejected", "untypical"), ("rejected", "not_finite")):
        assert values[f'caflow_samples_total{{model="model",reason="{reason}",verdict="{verdict}"}}'] == 0
    for instead in ("keep", "bicubic", "drop"):
        assert values[f'caflow_all_rejected_total{{instead="{instead}",model="model"}}'] == 0
    for verdict in ("ok", "rejected", "dropped"):
        assert values[f'caflow_frames_total{{model="model",verdict="{verdict}"}}'] == 0
    assert values['caflow_stage_seconds_count{model="model",stage="sample"}'] == 0
    assert math.isnan(values['caflow_drift_p_value{model="model"}'])
    (info,) = (name for name in values if name.startswith("caflow_model_info"))
    assert values[info] == 1
    assert re.search(r'manifest="[0-9a-f]{64}",model="model",precision="fp32",version="', info)


def test_metrics_count_samples_and_likelihoods(
    pipe: Pipeline, typicality_model: TypicalityModel, photographs: Path
) -> None:
    pictures = np.stack([photograph(photographs, k, 12, 12) for k in range(3)])
    best = pipe.best_of(pictures, n=5)
    with Metrics(pipe, typicality_model) as metrics:
        metrics.observe_best(best, DrawOptions(n=5))
        with metrics.stage("sample"):
            pass
        values = served(metrics)
        first = [drawn[0] for drawn in best.bits_per_dim_drawn]
        assert metrics.drift is not None
        expected = Drift(pipe.calibration.photographs)
        expected.add(rank(np.array(first), typicality_model.main.bits_per_dim))
        assert (metrics.drift.count, metrics.drift.p_value) == (3, expected.p_value)
    assert values['caflow_requests_total{model="model",outcome="unjudged"}'] == 3
    assert values['caflow_samples_total{model="model",reason="",verdict="accepted"}'] == 15
    assert values['caflow_samples_total{model="model",reason="untypical",verdict="rejected"}'] == 0
    drawn = np.stack(best.bits_per_dim_drawn)
    assert values['caflow_sample_bits_per_dim_count{model="model"}'] == 15
    assert values['caflow_sample_bits_per_dim_sum{model="model"}'] == pytest.approx(drawn.sum())
    assert values['caflow_logp_spread_sum{model="model"}'] == pytest.approx(drawn.std(1).sum())
    assert values['caflow_stage_seconds_count{model="model",stage="sample"}'] == 1
    assert values['caflow_drift_p_value{model="model"}'] == pytest.approx(expected.p_value)
    assert values['caflow_drift_distance{model="model"}'] == pytest.approx(expected.distance)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rejected_samples_are_counted_by_reason(
    pipe: Pipeline, typicality_model: TypicalityModel, photographs: Path, share: float
) -> None:
    """Counts that `Best` lacks are derived from the settings. Half of the first samples are rejected, or all."""
    n, redraws, condition = 4, 3, photograph(photographs, 1, 12, 12)
    drawn = pipe.sample(condition, n=n).sample_typicality
    assert drawn is not None
    alpha = 0.999 if share == 1 else float(np.quantile(drawn.value, share))
    best = pipe.best_of(condition, n=n, min_typicality=alpha, redraws=redraws, otherwise="keep")
    assert best.rejected is not None
    rejected, finite = int(best.rejected[0]), len(best.bits_per_dim_drawn[0])
    assert rejected > 0
    # The same result after two further redraws that were not finite, which the pipeline counts as rejected.
    sick = replace(best, rejected=best.rejected + 2)
    for case, more, not_finite in ((best, redraws, 0), (sick, redraws + 2, 2)):
        with Metrics(pipe, typicality_model) as metrics:
            metrics.observe_best(case, DrawOptions(n, min_typicality=alpha, redraws=more))
            values = served(metrics)
        assert values['caflow_samples_total{model="model",reason="untypical",verdict="rejected"}'] == rejected
        assert values['caflow_samples_total{model="model",reason="not_finite",verdict="rejected"}'] == not_finite
        assert values['caflow_samples_total{model="model",reason="",verdict="accepted"}'] == finite - rejected
        assert values['caflow_all_rejected_total{instead="keep",model="model"}'] == (best.outcome[0] == "rejected")
        assert values[f'caflow_requests_total{{model="model",outcome="{best.outcome[0]}"}}'] == 1


def test_scores_frames_and_errors_are_counted(pipe: Pipeline, photographs: Path) -> None:
    pairs = pairs_of_photographs(pipe, photographs, each=1)
    targets, conditions = [pair.target for pair in pairs], [pair.condition for pair in pairs]
    score = pipe.score(targets, conditions)
    assert score.image_typicality is not None
    alpha = float(np.median(score.image_typicality.value))
    verdicts = score.image_typicality.accept(alpha)
    frames = list(pipe.stream(conditions[:2]))
    with Metrics(pipe, pipe.calibration.truth) as metrics:
        metrics.observe_score(score, alpha)
        assert metrics.drift is not None
        assert metrics.drift.count == 13
        for frame in [*frames, replace(frames[0], sample=-1)]:
            metrics.observe_frame(frame)
        metrics.observe_dropped(2)
        metrics.observe_error(Untypical("all 3 samples are untypical", Choice(rejected=3, bits_per_dim=[2.0, 3.0])))
        metrics.observe_error(OSError("a file"))
        values = served(metrics)
    accepted = int(verdicts.sum())
    assert 0 < accepted < 13
    assert values['caflow_requests_total{model="model",outcome="rejected"}'] == 13 - accepted + 1
    assert values['caflow_requests_total{model="model",outcome="accepted"}'] == accepted
    assert values['caflow_samples_total{model="model",reason="untypical",verdict="rejected"}'] == 13 - accepted + 2
    assert values['caflow_samples_total{model="model",reason="not_finite",verdict="rejected"}'] == 1
    assert values['caflow_samples_total{model="model",reason="",verdict="accepted"}'] == accepted
    assert values['caflow_sample_bits_per_dim_count{model="model"}'] == 13 + 2 + 2
    assert values['caflow_frames_total{model="model",verdict="ok"}'] == 2
    assert values['caflow_frames_total{model="model",verdict="rejected"}'] == 1
    assert values['caflow_frames_total{model="model",verdict="dropped"}'] == 2
    assert values['caflow_requests_total{model="model",outcome="error"}'] == 1
    assert values['caflow_all_rejected_total{instead="drop",model="model"}'] == 1


def test_metrics_listen_on_the_loopback_address_and_a_busy_port_is_an_error(pipe: Pipeline) -> None:
    with Metrics(pipe) as metrics, Metrics(pipe) as other:
        port = metrics.serve(0)
        assert listening(port) == {"0100007F"}  # 127.0.0.1, as Linux writes it
        with pytest.raises(InputError, match=f"cannot use port {port} of 127.0.0.1"):
            other.serve(port)
        with pytest.raises(InputError, match="port 99999 of"):
            other.serve(99999)
        with pytest.raises(InputError, match=f"already served on port {port}"):
            metrics.serve(0)
    assert not listening(port)
    with other:
        assert other.serve(port) == port


def test_requests_are_counted(pipe: Pipeline, photographs: Path) -> None:
    instruments = Prometheus()
    sampler = Sampler(pipe, instruments=instruments)
    image = photograph(photographs, 0, 8, 8)[None]
    wanted: list[dict[str, Any]] = [{"n": 3}, {"n": 3, "temperature": 0.5}, {"n": 0}]
    sampler.answer([Request({"image": image}, parameters) for parameters in wanted])
    values = counted(instruments)
    assert values["caflow_requests_totalunjudged"] == 2
    assert values["caflow_requests_totalerror"] == 0  # n is wrong
    assert values["caflow_sample_bits_per_dim_count"] == 6
    assert sampler.metrics is not None
    assert sampler.metrics.drift is not None
    assert sampler.metrics.drift.count == 1  # only one request has the calibrated temperature


def test_passed_deadlines_count_as_errors(pipe: Pipeline, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it passes while they are computed: the client does not get that answer."""
    instruments = Prometheus()
    sampler = Sampler(pipe, instruments=instruments)
    until = time.monotonic() + 3600

    def slow(*arguments: Any) -> Any:
        best = sample_best(*arguments)
        monkeypatch.setattr(time, "monotonic", lambda: until + 1)
        return best

    monkeypatch.setattr("caflow_deploy.serving.served_models.sample_best", slow)
    image = photograph(photographs, 0, 8, 8)[None]
    asked = [Request({"image": image}, {"n": 1}, end) for end in (0.0, until, math.inf)]
    before, during, never = sampler.answer(asked)
    assert isinstance(before, TimeoutError)
    assert isinstance(during, TimeoutError)
    assert isinstance(never, dict)
    values = counted(instruments)
    assert values["caflow_requests_totalunjudged"] == 1
    assert values["caflow_requests_totalerror"] == 2
    assert values["caflow_sample_bits_per_dim_count"] == 2


def test_an_unjudged_result_is_neither_accepted_nor_rejected(pipe: Pipeline, photographs: Path) -> None:
    (pair,) = pairs_of_photographs(pipe, photographs, each=1)[:1]
    score = pipe.score(pair.target, pair.condition)
    assert score.image_typicality is not None
    unknown = replace(score, image_typicality=replace(score.image_typicality, value=np.array([math.nan])))
    np.testing.assert_array_equal(unknown.verdicts(0.01), ["unjudged"])
    assert unknown.verdicts(0) is None
    with Metrics(pipe) as metrics:
        metrics.observe_score(unknown, 0.01)
        values = served(metrics)
    assert values['caflow_requests_total{model="model",outcome="unjudged"}'] == 1
    assert values['caflow_sample_bits_per_dim_count{model="model"}'] == 1
    assert sum(value for name, value in values.items() if name.startswith("caflow_samples_total")) == 0
