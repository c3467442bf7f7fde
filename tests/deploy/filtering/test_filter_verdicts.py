"""`caflow filter`: verdicts in order, equal to those of each pair alone, and pairs that fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filter_data import ALPHA, NOISE, data
from tiny import calibrated_pipe as pipe
from tiny import crops_of

from caflow_runtime.errors import NotFinite
from caflow_runtime.image_io.image_files import read_image
from caflow_runtime.jobs.pairs import FilePair, list_pairs
from caflow_runtime.jobs.photographs import photographs_in
from caflow_runtime.jobs.verdicts import BATCH, filter_pairs
from caflow_runtime.ood.typicality import reason
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline, load

__all__ = ["data", "pipe"]  # fixtures


def close(one: Verdict, other: Verdict) -> bool:
    """Return whether two verdicts are equal up to floating-point error."""
    return (one.target, one.verdict) == (other.target, other.verdict) and all(
        np.allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)
        for name in ("image_typicality", "image_typicality_per_level", "residuals", "log_likelihood_per_level")
    )


def test_verdicts_are_in_order_and_those_of_each_pair_alone(pipe: Pipeline, data: Path) -> None:
    pairs = list_pairs(data) * 6
    verdicts = list(filter_pairs(pipe, pairs, ALPHA))
    assert len(pairs) > BATCH
    assert [(verdict.target, verdict.condition) for verdict in verdicts] == pairs
    for pair, verdict in zip(pairs[:13], verdicts, strict=False):
        target = read_image(pair.target).rgb
        score = pipe.score(target, read_image(pair.condition).rgb)
        assert score.image_typicality is not None
        (alone,) = filter_pairs(pipe, [pair], ALPHA)
        assert close(verdict, alone)
        assert alone.log_likelihood == score.log_likelihood[0]
        assert alone.image_typicality == score.image_typicality.value[0]
        assert (alone.height, alone.width) == target.shape[:2]
        accepted = score.image_typicality.accept(ALPHA)[0]
        assert alone.verdict == ("accepted" if accepted else "rejected")
        assert alone.reason == (None if accepted else reason(score.image_typicality.of(0)))
    kinds = [verdict.verdict for verdict in verdicts[:13]]
    assert kinds[::NOISE] == ["rejected"] * len(kinds[::NOISE])
    assert kinds.count("accepted") >= 6


@pytest.mark.full
def test_reasons_describe_how_photographs_were_spoilt(photographs: Path) -> None:
    """Of the photographs that are rejected, at least 4 of 5 get the right words."""
    noise = np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    spoils: dict[str, Callable[[Any], Any]] = {
        "softer than its input allows": lambda target: cv2.GaussianBlur(target, (0, 0), 1.5),
        "noisier or sharper than its input allows": lambda target: target + noise,
        "colours or contrast unlike its input's": lambda target: target + np.array([8.0, 0.0, -8.0]),
    }
    with load("x4-photo", backend="cpu") as pipe:
        pairs = [crops_of(pipe, one, (64,))[0] for one in photographs_in(photographs)]
        for words, spoil in spoils.items():
            targets = [np.clip(np.rint(spoil(pair.target)), 0, 255).astype(np.uint8) for pair in pairs]
            found = pipe.score(targets, [pair.condition for pair in pairs]).image_typicality
            assert found is not None
            reasons = [reason(found.of(k)) for k in np.flatnonzero(~found.accept())]
            assert len(reasons) >= 8
            assert np.mean([one.startswith(words) for one in reasons]) >= 0.8, reasons


def test_a_pair_that_fails_does_not_change_the_others(
    pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unreadable files, sizes that do not fit and pairs that the model cannot score do not change other verdicts."""
    good = list_pairs(data)[:6]
    (tmp_path / "cut.png").write_bytes(Path(good[0].target).read_bytes()[:100])
    bad = [
        FilePair(str(tmp_path / "cut.png"), good[0].condition),
        FilePair(good[1].target, str(tmp_path / "missing.png")),
        FilePair(good[0].target, good[1].condition),
    ]
    score, unscorable = pipe.score, read_image(good[5].target).rgb

    def exploding(targets: Any, conditions: Any) -> Any:
        for k, target in enumerate(targets):
            if np.array_equal(target, unscorable):
                raise NotFinite(f"target[{k}]: its log-likelihood is not finite")
        return score(targets, conditions)

    expected = list(filter_pairs(pipe, good[:5], ALPHA))
    monkeypatch.setattr(pipe, "score", exploding)
    verdicts = list(filter_pairs(pipe, [good[0], bad[0], *good[1:3], bad[1], bad[2], *good[3:6]], ALPHA))
    assert [k for k, verdict in enumerate(verdicts) if verdict.verdict == "error"] == [1, 4, 5, 8]
    others = [verdict for verdict in verdicts if verdict.verdict != "error"]
    assert all(close(one, other) for one, other in zip(others, expected, strict=True))
    reasons = [verdicts[k].reason or "" for k in (1, 4, 5, 8)]
    assert reasons[0].startswith(f"{bad[0].target}: cannot decode this file")
    assert reasons[1] == f"{bad[1].condition}: cannot be read: No such file or directory"
    assert reasons[2].startswith(f"{bad[2].target}: for a condition of 8×8 pixels, both sides must be 4 times")
    assert reasons[3].startswith(f"{good[5].target}: its log-likelihood is not finite: the image is too different")
    assert [verdicts[k].width for k in (1, 4, 5, 8)] == [None, 32, 16, 32]
    assert all(verdicts[k].image_typicality is verdicts[k].log_likelihood is None for k in (1, 4, 5, 8))
