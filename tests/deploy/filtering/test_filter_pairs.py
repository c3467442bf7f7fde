"""`caflow filter`: lists of pairs, of which wrong ones are refused, and the verdicts on the pairs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import caflow
from filter_data import ALPHA, NOISE, data, write_list
from tiny import calibrated_pipe as pipe
from tiny import crops_of

from caflow_deploy.filtering.verdicts import BATCH, verdicts_of
from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_deploy.images.photographs import photographs_in
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.ood.typicality import reason
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline, load

__all__ = ["data", "pipe"]  # fixtures


def test_pairs_are_read_from_json_lines_csv_and_folders(data: Path, tmp_path: Path) -> None:
    pairs = list_pairs(data)
    assert [Path(pair.target).name for pair in pairs] == [f"{k:02}.png" for k in range(13)]
    assert all(Path(target).name == Path(condition).name for target, condition in pairs)
    relative = [FilePair(f"B/{k:02}.png", f"A/{k:02}.png") for k in range(13)]
    for suffix in (".jsonl", ".NDJSON"):
        assert list_pairs(write_list(data / f"pairs{suffix}", relative, more=1)) == pairs
    (tmp_path / "absolute.jsonl").write_text("\n\n".join(json.dumps(pair._asdict()) for pair in pairs))
    assert list_pairs(tmp_path / "absolute.jsonl") == pairs
    with (data / "pairs.csv").open("w", encoding="utf-8-sig", newline="") as file:  # with a BOM, as in spreadsheets
        writer = csv.DictWriter(file, ["more", "condition", "target"])
        writer.writeheader()
        writer.writerows({**pair._asdict(), "more": "a, b"} for pair in relative)
    assert list_pairs(data / "pairs.csv") == pairs


def test_folders_pair_by_name(data: Path, tmp_path: Path) -> None:
    """Files are paired by name, or else by name without suffix.

    A file without a partner is listed with the missing path, so that it becomes an error instead of being skipped.
    """
    picture = (data / "B" / "01.png").read_bytes()
    for name in ("A/below/one.png", "A/two.jpg", "A/two.tif", "B/below/one.jpg", "B/two.tif", "B/three.png", "B/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    assert list_pairs(tmp_path) == [
        (str(tmp_path / "B" / target), str(tmp_path / "A" / condition))
        for target, condition in (
            ("below/one.jpg", "below/one.png"),
            ("three.png",) * 2,
            ("two.tif",) * 2,
            ("two.jpg",) * 2,
        )
    ]
    (tmp_path / "B" / "two.tif").rename(tmp_path / "B" / "two.bmp")
    with pytest.raises(InputError, match=r"two.bmp: expected one condition in .*; found two.jpg and two.tif"):
        list_pairs(tmp_path)


BROKEN: dict[str, tuple[bytes, str]] = {
    "wrong.csv": (b"target,input\na,b\n", "line 1: expected the columns target and condition"),
    "twice.csv": (b"target,condition,target\na,b,c\n", "line 1: the column target occurs twice"),
    "semicolons.csv": (b"target;condition\na;b\n", "target is missing; got 'target;condition'"),
    "short.csv": (b"target,condition\na,b\n\nc\n", "line 4: expected 2 values"),
    "quotes.csv": (b'target,condition\na,b\nc,"d\n', "line 3: unexpected end of data"),
    "blank.csv": (b"target,condition\na,b\n,d\n", "line 3: expected the paths"),
    "none.csv": (b"target,condition\n", "found none"),
    "nothing.csv": (b"", "target is missing; got nothing"),
    "wrong.jsonl": (b'{"target": "a", "condition": "b"}\n\n{"target": "a"}\n', "line 3: expected"),
    "cut.jsonl": (b'{"target": "a", "condition": "b"}\n{"targ', "line 2: expected"),
    "null.jsonl": (b'{"target": "a\\u0000", "condition": "b"}\n', "line 1: expected the paths"),
    "latin.csv": (b"target,condition\na,b\n\xe9,d\n", "line 3: expected UTF-8 text"),
    "list.txt": (b"a b\n", "expected a list of pairs"),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, message) for name, (_, message) in BROKEN.items()),
        (".", "expected a folder with the subfolders A"),
        ("nowhere.csv", "this path does not exist"),
    ],
)
def test_wrong_lists_are_refused_in_one_line(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name in BROKEN:
        Path(name).write_bytes(BROKEN[name][0])
    done = caflow("filter", name, "-o", "out", "--model", calibrated, "--min-typicality", ALPHA, code=2)
    assert name in done.stderr
    assert message in done.stderr
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert not Path("out").exists()


def close(one: Verdict, other: Verdict) -> bool:
    """Return whether two verdicts are equal up to floating-point error."""
    return (one.target, one.verdict) == (other.target, other.verdict) and all(
        np.allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)
        for name in ("image_typicality", "image_typicality_per_level", "residuals", "log_likelihood_per_level")
    )


def test_verdicts_are_in_order_and_those_of_each_pair_alone(pipe: Pipeline, data: Path) -> None:
    pairs = list_pairs(data) * 6
    verdicts = list(verdicts_of(pipe, pairs, ALPHA))
    assert len(pairs) > BATCH
    assert [(verdict.target, verdict.condition) for verdict in verdicts] == pairs
    for pair, verdict in zip(pairs[:13], verdicts, strict=False):
        target = read_image(pair.target).rgb
        score = pipe.score(target, read_image(pair.condition).rgb)
        assert score.image_typicality is not None
        (alone,) = verdicts_of(pipe, [pair], ALPHA)
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

    expected = list(verdicts_of(pipe, good[:5], ALPHA))
    monkeypatch.setattr(pipe, "score", exploding)
    verdicts = list(verdicts_of(pipe, [good[0], bad[0], *good[1:3], bad[1], bad[2], *good[3:6]], ALPHA))
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
