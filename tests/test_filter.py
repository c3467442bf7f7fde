"""`caflow filter`: lists of pairs, verdicts, jobs that resume, and the files made from verdicts."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet
import pytest
from commands import caflow
from tiny import DATA, photograph

from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.image_formats import MAX_PIXELS
from caflow_runtime.jobs import accepted as accepted_files
from caflow_runtime.jobs import verdict_folder as filter_job
from caflow_runtime.jobs import verdicts as filtering
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.jobs.pairs import FilePair, list_pairs
from caflow_runtime.jobs.parquet import write_parquet
from caflow_runtime.jobs.verdict_folder import FilterJob, FilterSettings, hash_of
from caflow_runtime.jobs.verdicts import BATCH, filter_pairs
from caflow_runtime.judge.calibration import NAME as CALIBRATION
from caflow_runtime.judge.consistency import degrade
from caflow_runtime.judge.typicality import reason
from caflow_runtime.judge.verdict import Verdict
from caflow_runtime.pictures.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.seal import sealed
from caflow_runtime.strict_json import parse_json

SIDES = (16, 32)
ALPHA = 0.1
NOISE = 3
"""Every third target is noise, beginning with the first."""


@pytest.fixture(scope="module")
def bundle(calibrated: Path) -> Path:
    return calibrated


@pytest.fixture
def pipe(bundle: Path) -> Iterator[Pipeline]:
    with load(bundle, threads=1) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def data(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the subfolders A and B: 13 pairs of two sizes. Every third target is noise."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "A").mkdir()
    (folder / "B").mkdir()
    noise = np.random.default_rng(0)
    with load(bundle, threads=1) as pipe:
        for k in range(13):
            side = SIDES[k % 2]
            target = photograph(DATA / "photographs", k, side, side)
            if k % NOISE == 0:
                target = noise.integers(0, 256, target.shape, np.uint8)
            write_image(folder / "B" / f"{k:02}.png", target)
            write_image(folder / "A" / f"{k:02}.png", degrade(pipe.manifest.model, target))
    return folder


def write_list(path: Path, pairs: list[FilePair], **others: object) -> Path:
    path.write_text("".join(json.dumps({**pair._asdict(), **others}) + "\n" for pair in pairs))
    return path


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def close(one: Verdict, other: Verdict) -> bool:
    """Return whether two verdicts are equal up to floating-point error."""
    return (one.target, one.verdict) == (other.target, other.verdict) and all(
        np.allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)
        for name in (
            "image_typicality",
            "image_typicality_per_level",
            "residuals",
            "log_likelihood_per_level",
            "bits_per_dim",
        )
    )


# Verdicts


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


def test_batches_are_bounded(pipe: Pipeline, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are limited in pairs and in pixels. Their pairs are sorted by size, since equal sizes run together."""
    score, batches = pipe.score, []

    def watched(targets: Any, conditions: Any) -> Any:
        batches.append([target.shape[0] for target in targets])
        return score(targets, conditions)

    monkeypatch.setattr(pipe, "score", watched)
    pairs = list_pairs(data) * 10
    whole = list(filter_pairs(pipe, pairs, ALPHA))
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 2]
    assert all(batch == sorted(batch) for batch in batches)
    batches.clear()
    monkeypatch.setattr(filtering, "BATCH_PIXELS", 3000)
    small = list(filter_pairs(pipe, pairs, ALPHA))
    assert all(sum(side**2 for side in batch[:-1]) < 3000 for batch in batches)
    assert max(map(len, batches)) < 10
    assert all(close(one, other) for one, other in zip(whole, small, strict=True))


def test_files_are_read_a_little_ahead(pipe: Pipeline, data: Path) -> None:
    """The list is read only a little ahead of the verdicts that are requested, even if it never ends."""
    taken = 0

    def endless() -> Iterator[FilePair]:
        nonlocal taken
        while True:
            taken += 1
            yield list_pairs(data)[0]

    verdicts = filter_pairs(pipe, endless(), ALPHA)
    assert len(list(islice(verdicts, BATCH + 1))) == BATCH + 1
    assert taken <= 2 * BATCH + filtering.READ_AHEAD + 1
    verdicts.close()  # type: ignore[attr-defined]


def test_one_bad_pair_is_one_error(pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("alpha", [0, 1, -1, float("nan")])
def test_alpha_is_a_share(pipe: Pipeline, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha must be above 0 and below 1"):
        filter_pairs(pipe, [], alpha)


# Lists


def test_lists_of_all_kinds(data: Path, tmp_path: Path) -> None:
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


def test_globs_pair_in_sorted_order(bundle: Path, data: Path, tmp_path: Path) -> None:
    globs = ["--targets", data / "B" / "0*.png", "--conditions", data / "A" / "0*.png"]
    done = caflow("filter", "-o", tmp_path / "out", *globs, "--bundle", bundle, "--alpha", ALPHA)
    assert done.returncode == 0, done.stderr
    assert [(line["target"], line["condition"]) for line in scores(tmp_path / "out")] == list_pairs(data)[:10]


BROKEN: dict[str, str | bytes] = {
    "wrong.csv": "target,input\na,b\n",
    "semicolons.csv": "target;condition\na;b\n",
    "short.csv": "target,condition\na,b\n\nc\n",
    "long.csv": "target,condition\na,b\nc,d,e\n",
    "quotes.csv": 'target,condition\na,b\nc,"d\n',
    "blank.csv": "target,condition\na,b\n,d\n",
    "none.csv": "target,condition\n",
    "nothing.csv": "",
    "wrong.jsonl": '{"target": "a", "condition": "b"}\n\n{"target": "a"}\n',
    "number.jsonl": '{"target": "a", "condition": 1}\n',
    "cut.jsonl": '{"target": "a", "condition": "b"}\n{"targ',
    "null.jsonl": '{"target": "a\\u0000", "condition": "b"}\n',
    "none.ndjson": "\n",
    "latin.csv": b"target,condition\na,b\n\xe9,d\n",
    "list.txt": "a b\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["wrong.csv"],
            "wrong.csv: line 1: expected the columns target and condition, condition is missing; got 'target', ",
        ),
        (["semicolons.csv"], "target is missing; got 'target;condition'"),
        (["short.csv"], "short.csv: line 4: expected 2 values, as in line 1"),
        (["long.csv"], "long.csv: line 3: expected 2 values, as in line 1"),
        (["quotes.csv"], "quotes.csv: line 3: unexpected end of data"),
        (["blank.csv"], "blank.csv: line 3: expected the paths of a target and a condition; got ('', 'd')"),
        (["none.csv"], "none.csv: expected pairs of a target and a condition; found none"),
        (["nothing.csv"], "target is missing; got nothing"),
        (["wrong.jsonl"], 'wrong.jsonl: line 3: expected {"target": "…", "condition": "…"}; Object missing required'),
        (["number.jsonl"], "number.jsonl: line 1: expected"),
        (["cut.jsonl"], "cut.jsonl: line 2: expected"),
        (["null.jsonl"], "null.jsonl: line 1: expected the paths"),
        (["none.ndjson"], "none.ndjson: expected pairs of a target and a condition; found none"),
        (["latin.csv"], "latin.csv: line 3: expected UTF-8 text; "),
        (
            ["list.txt"],
            "list.txt: expected a list of pairs (.csv, .jsonl, .ndjson), or a folder with subfolders A and B",
        ),
        (["."], "expected a folder with the subfolders A (conditions) and B (targets)"),
        (["nowhere.csv"], "or a folder with subfolders A and B; this path does not exist"),
        ([], "give PAIRS, or both --targets and --conditions"),
        (["--targets", "*.csv"], "give PAIRS, or both --targets and --conditions"),
        (["list.txt", "--targets", "*", "--conditions", "*"], "give PAIRS, or both --targets and --conditions"),
        (["--targets", "*.csv", "--conditions", "*.png"], "*.png: no file matches this glob"),
        (["--targets", "*.txt", "--conditions", "*.ndjson*"], None),
        (
            ["--targets", "*.txt", "--conditions", "*.csv"],
            "must match the same number of files; got 1 targets and 9 con",
        ),
    ],
)
def test_wrong_lists_are_refused_in_one_line(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in BROKEN.items():
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = caflow("filter", *arguments, "-o", "out", "--bundle", bundle, "--alpha", ALPHA)
    if message is None:  # a valid pair, whose files are not images
        assert (done.returncode, len(scores(Path("out")))) == (1, 1)
        return
    assert message in done.stderr
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert not Path("out").exists()


def test_a_bundle_that_is_not_calibrated(uncalibrated: Path, data: Path, tmp_path: Path) -> None:
    done = caflow("filter", data, "-o", tmp_path / "out", "--bundle", uncalibrated)
    assert done.returncode == 2
    assert "is not calibrated: run caflow calibrate" in done.stderr
    assert not (tmp_path / "out").exists()


# Jobs


def test_the_command(bundle: Path, data: Path, tmp_path: Path) -> None:
    """One pair fails among valid ones. The same command judges it again."""
    pairs = list_pairs(data)
    pairs.insert(4, FilePair("nowhere.png", pairs[0].condition))
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "-o", tmp_path / "out", "--bundle", bundle]
    done = caflow(*given, "--alpha", ALPHA)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"caflow: {tmp_path / 'nowhere.png'}: cannot be read: No such file or directory",
        "caflow: 1 of 14 pairs failed",
    ]
    found = scores(tmp_path / "out")
    kinds = [line["verdict"] for line in found]
    count = kinds.count("rejected")
    assert kinds[4] == "error"
    assert done.stdout == (
        f"by image typicality: {13 - count} accepted, {count} rejected ({count / 13:.1%}; expected for pairs "
        f"like those of the calibration: 10.0%), 1 errors → {tmp_path / 'out'}\n"
    )
    accepted = [line["target"] for line in found if line["verdict"] == "accepted"]
    assert (tmp_path / "out" / "accepted.txt").read_text().splitlines() == accepted
    again = caflow(*given, "--alpha", ALPHA)
    assert (again.returncode, again.stdout, again.stderr) == (1, done.stdout, done.stderr)
    assert scores(tmp_path / "out") == found


def test_verdicts_of_other_pairs_are_not_taken(bundle: Path, data: Path, tmp_path: Path) -> None:
    given = ["filter", data, "-o", tmp_path / "out", "--bundle", bundle, "--alpha", ALPHA]
    assert caflow(*given).returncode == 0
    whole, listed = ((tmp_path / "out" / name).read_bytes() for name in ("scores.jsonl", "accepted.txt"))
    lines = whole.splitlines(keepends=True)
    (tmp_path / "out" / "scores.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    (tmp_path / "out" / "accepted.txt").unlink()
    assert caflow(*given).returncode == 0
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == whole
    assert (tmp_path / "out" / "accepted.txt").read_bytes() == listed
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert caflow(*given).stdout.startswith(f"{tmp_path / 'out'} is already complete\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_for_programs(bundle: Path, data: Path, tmp_path: Path) -> None:
    done = caflow("filter", data, "-o", tmp_path / "out", "--bundle", bundle, "--json", "--alpha", 0.005)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "out" / "scores.jsonl").read_text()
    assert done.stderr == (
        "caflow: α ≤ 0.0189 cannot reject pairs of every size and complexity, because the smallest group of the "
        "calibration has too few images; give a larger --alpha, or calibrate with more photographs\n"
    )
    assert {line["verdict"] for line in scores(tmp_path / "out")} == {"accepted"}
    assert list(scores(tmp_path / "out")[0]) == list(Verdict.__struct_fields__)


def settings_of(pipe: Pipeline, pairs: list[FilePair]) -> FilterSettings:
    return FilterSettings(settings_of_pipeline(pipe), ALPHA, MAX_PIXELS, hash_of(pairs))


def judged(pipe: Pipeline, job: FilterJob) -> Iterator[Verdict]:
    return chain.from_iterable(filter_pairs(pipe, part, ALPHA) for part in job.left)


def run_to(folder: Path, pipe: Pipeline, pairs: list[FilePair], count: int) -> FilterJob:
    """Run a job until `count` more verdicts are written; return the job."""
    job = FilterJob(folder, pairs, settings_of(pipe, pairs))
    verdicts = job.run(judged(pipe, job))
    list(islice(verdicts, count))
    verdicts.close()  # type: ignore[attr-defined]
    return job


@pytest.mark.parametrize("stop", [0, 1, 2, 4, 7, 12, 13])
def test_a_stop_changes_nothing(
    pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """A job that is interrupted and resumed writes the same bytes as an uninterrupted one.

    The last bits of a likelihood depend on the pairs in its batch, so a resumed job must form the same batches. Here
    they have four pairs, and the last one has a single pair.
    """
    for module in (filtering, filter_job):
        monkeypatch.setattr(module, "BATCH", 4)
    pairs = list_pairs(data)[::2] + list_pairs(data)[::2][:6]
    run_to(tmp_path / "whole", pipe, pairs, 99)
    expected = (tmp_path / "whole" / "scores.jsonl").read_bytes()
    assert run_to(tmp_path / "stopped", pipe, pairs, stop).done == stop
    with (tmp_path / "stopped" / "scores.jsonl").open("ab") as file:
        file.write(b'{"target": "cut o')
    job = FilterJob(tmp_path / "stopped", pairs, settings_of(pipe, pairs))
    assert job.done == (13 if stop == 13 else stop // 4 * 4)
    left = 13 - job.done
    assert len(list(job.run(judged(pipe, job)))) == left
    assert (tmp_path / "stopped" / "scores.jsonl").read_bytes() == expected


def test_damage_is_computed_again(pipe: Pipeline, data: Path, tmp_path: Path) -> None:
    """Damaged or surplus lines, for example after a power failure, are replaced by the bytes that were expected."""
    pairs = list_pairs(data) * 12
    run_to(tmp_path, pipe, pairs, 999)
    path = tmp_path / "scores.jsonl"
    expected = path.read_bytes()
    lines = expected.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:100], b"\0" * 50 + b"\n", *lines[101:]]))
    assert run_to(tmp_path, pipe, pairs, 999).done == len(pairs)
    assert path.read_bytes() == expected
    path.write_bytes(expected + lines[0])
    assert run_to(tmp_path, pipe, pairs, 999).done == len(pairs)
    assert path.read_bytes() == expected


def test_an_edited_verdict_is_computed_again(pipe: Pipeline, data: Path, tmp_path: Path) -> None:
    """A line without a hash, as in files of earlier versions, is recomputed too. Reformatted lines are kept."""
    pairs = list_pairs(data) * 12
    settings = settings_of(pipe, pairs)
    run_to(tmp_path, pipe, pairs, 999)
    path = tmp_path / "scores.jsonl"
    expected = path.read_bytes()
    found = scores(tmp_path)
    other = {"accepted": "rejected", "rejected": "accepted"}[found[100]["verdict"]]
    edits: list[dict[str, Any]] = [
        {"verdict": other},
        {"bits_per_dim": found[100]["bits_per_dim"] + 1e-9},
        {"sha256": "0" * 64},
        {"sha256": ""},
    ]
    for edit in edits:
        rewritten = [json.dumps(line, sort_keys=True, ensure_ascii=False).replace(".0,", ",") for line in found]
        path.write_text("\n".join(rewritten) + "\n")
        assert FilterJob(tmp_path, pairs, settings).done == len(pairs)
        rewritten[100] = json.dumps(found[100] | edit)
        path.write_text("\n".join(rewritten) + "\n")
        assert FilterJob(tmp_path, pairs, settings).done == 64
        path.write_bytes(b"".join([*expected.splitlines(keepends=True)[:100], rewritten[100].encode() + b"\n"]))
        assert run_to(tmp_path, pipe, pairs, 999).done == len(pairs)
        assert path.read_bytes() == expected


def kill_in_the_middle(command: list[object], folder: Path, lines: int, how: signal.Signals) -> int:
    """Stop the command with signal `how` once it has written `lines` verdicts; return its exit code."""
    whole = [sys.executable, "-m", "caflow_deploy.cli", *map(str, command)]
    path = folder / "scores.jsonl"
    with subprocess.Popen(whole, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        _, said = process.communicate()
    if how != signal.SIGKILL:
        assert b"caflow: stopped after " in said
        assert said.endswith(b" pairs; run the same command again to resume\n")
    return process.returncode


def killed_and_resumed(bundle: Path, data: Path, folder: Path, count: int, kills: dict[int, signal.Signals]) -> None:
    """Check that a job that is stopped several times writes the same bytes as an uninterrupted one."""
    pairs = (list_pairs(data) * count)[:count]
    given = ["filter", write_list(folder / "pairs.jsonl", pairs), "--bundle", bundle, "--alpha", ALPHA, "--threads", 1]
    for lines, how in kills.items():
        code = kill_in_the_middle([*given, "-o", folder / "stopped"], folder / "stopped", lines, how)
        assert code == (-how if how == signal.SIGKILL else 128 + how)
        assert lines <= len((folder / "stopped" / "scores.jsonl").read_bytes().splitlines()) < count
        assert not (folder / "stopped" / "accepted.txt").exists()
    assert caflow(*given, "-o", folder / "stopped").returncode == 0
    assert caflow(*given, "-o", folder / "whole").returncode == 0
    for name in ("scores.jsonl", "accepted.txt", "job.json"):
        assert (folder / "stopped" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert [line["target"] for line in scores(folder / "whole")] == [pair.target for pair in pairs]


def test_killed_and_resumed(bundle: Path, data: Path, tmp_path: Path) -> None:
    kills = {70: signal.SIGKILL, 200: signal.SIGTERM, 400: signal.SIGTERM, 600: signal.SIGKILL}
    killed_and_resumed(bundle, data, tmp_path, 1001, kills)


@pytest.mark.full
def test_ten_thousand_killed_and_resumed(bundle: Path, data: Path, tmp_path: Path) -> None:
    killed_and_resumed(bundle, data, tmp_path, 10_000, {3333: signal.SIGKILL, 7777: signal.SIGKILL})


@pytest.mark.full
def test_memory_does_not_grow(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Ten times as many pairs may need 16 MiB more, for the paths of the list."""
    peaks = []
    for count in (1_000, 10_000):
        pairs = (list_pairs(data) * count)[:count]
        arguments = ["filter", write_list(tmp_path / f"{count}.jsonl", pairs), "-o", tmp_path / f"{count}"]
        arguments += ["--bundle", bundle, "--threads", 1, "--parquet", "--accepted", "copy"]
        code = (
            "import sys; from pathlib import Path; from caflow_deploy.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 16, f"MiB: {peaks}"


def test_another_job_is_refused(bundle: Path, data: Path, tmp_path: Path) -> None:
    """The error names the settings that differ. `--force` starts again."""
    out = tmp_path / "out"
    given = ["filter", data, "-o", out, "--bundle"]
    assert caflow(*given, bundle, "--alpha", ALPHA, "--accepted", "copy").returncode == 0
    before = (out / "scores.jsonl").read_bytes()
    other = Path(shutil.copytree(bundle, tmp_path / "other.caflow"))
    (other / CALIBRATION).write_bytes((other / CALIBRATION).read_bytes() + b"\n")
    (tmp_path / "fewer").mkdir()
    fewer = write_list(tmp_path / "fewer" / "pairs.jsonl", list_pairs(data)[1:])
    for arguments, differing in (
        ([data, bundle, "--alpha", 0.2], "alpha 0.1 (now 0.2)"),
        ([data, other, "--alpha", ALPHA], "calibration "),
        ([fewer, bundle, "--alpha", ALPHA], "pairs "),
        ([data, bundle, "--alpha", ALPHA, "--pixel-budget", 4096], "pixel_budget None (now 4096)"),
    ):
        source, model, *more = arguments
        refused = caflow("filter", source, "-o", out, "--bundle", model, *more)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"caflow: {out} contains a job with other settings: {differing}")
        assert refused.stderr.endswith(
            "; use the same settings to resume it, choose another -o, or use --force to start again\n"
        )
        assert (out / "scores.jsonl").read_bytes() == before
    assert caflow(*given, bundle, "--alpha", 0.97, "--force").returncode == 0
    assert (out / "scores.jsonl").read_bytes() != before
    assert not (out / "accepted").exists()


def test_what_is_not_a_job_is_left_alone(bundle: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "accepted").mkdir(parents=True)
    (out / "accepted" / "mine.txt").touch()
    given = ["filter", data, "-o", out, "--bundle", bundle, "--alpha", ALPHA]
    foreign = caflow(*given)
    assert foreign.returncode == 2
    assert foreign.stderr == (
        f"caflow: {out} contains other files, but no job of caflow filter; choose another -o, or use --force to write "
        "to it anyway\n"
    )
    forced = caflow(*given, "--force")
    assert forced.returncode == 2
    assert forced.stderr.endswith("accepted is required for accepted files, but contains other files; move them away\n")
    (out / "job.json").write_text("{}")
    assert "is not a job file of caflow filter" in caflow(*given).stderr
    assert caflow(*given, "--force").returncode == 2
    (out / "accepted").rename(out / "moved")
    assert caflow(*given, "--force").returncode == 0
    assert (out / "moved" / "mine.txt").exists()
    (tmp_path / "file").touch()
    assert caflow("filter", data, "-o", tmp_path / "file", "--bundle", bundle).returncode == 2


def test_inputs_are_never_overwritten(bundle: Path, data: Path, tmp_path: Path) -> None:
    """A job's `scores.jsonl` and its accepted files can be filtered again, but not into the same folder."""
    out, options = tmp_path / "out", ["--bundle", bundle, "--alpha", ALPHA]
    assert caflow("filter", data, "-o", out, *options, "--accepted", "copy").returncode == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    globs = ["--targets", out / "accepted" / "*.png", "--conditions", out / "accepted" / "*.png"]
    for given in ([out / "scores.jsonl"], globs):
        refused = caflow("filter", *given, "-o", out, *options, "--force")
        assert refused.returncode == 2
        assert "is an input and would be overwritten; choose another -o" in refused.stderr
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert caflow("filter", out / "scores.jsonl", "-o", tmp_path / "again", *options).returncode == 0
    assert (tmp_path / "again" / "scores.jsonl").read_bytes() == before[out / "scores.jsonl"]


# Files made from verdicts


def test_accepted_files(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Accepted files can be listed, copied or linked from the same verdicts. The original files are not changed."""
    out = tmp_path / "out"
    below = Path(shutil.copytree(data, tmp_path / "data"))
    (below / "B" / "below").mkdir()
    (below / "B" / "below" / "01.png").write_bytes((below / "B" / "01.png").read_bytes())
    relative = [FilePair(f"A/../B/{k:02}.png", f"A/{k:02}.png") for k in range(13)]
    relative += [FilePair("B/below/01.png", "A/01.png"), relative[1]]
    given = ["filter", write_list(below / "pairs.jsonl", relative), "-o", out, "--bundle", bundle, "--alpha", ALPHA]
    originals = {path: path.read_bytes() for path in (below / "B").rglob("*.png")}
    assert caflow(*given).returncode == 0
    accepted = (out / "accepted.txt").read_text().splitlines()
    assert accepted == [line["target"] for line in scores(out) if line["verdict"] == "accepted"]
    names = {str(Path(path).resolve().relative_to(below / "B")) for path in accepted}
    assert {"01.png", "below/01.png"} < names < {str(path.relative_to(below / "B")) for path in originals}
    assert not (out / "accepted").exists()
    for how in ("link", "copy", "link"):
        assert "is already complete" not in caflow(*given, "--accepted", how).stdout
        placed = [path for path in (out / "accepted").rglob("*") if not path.is_dir()]
        assert {str(path.relative_to(out / "accepted")) for path in placed} == names
        assert all(path.is_symlink() == (how == "link") for path in placed)
        for path in placed:
            assert path.read_bytes() == originals[below / "B" / path.relative_to(out / "accepted")]
        assert "is already complete" in caflow(*given, "--accepted", how).stdout
    assert {path: path.read_bytes() for path in (below / "B").rglob("*.png")} == originals


def test_parquet_is_the_same(bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [*list_pairs(data), FilePair(str(tmp_path / "nowhere.png"), "nowhere.png")]
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "-o", tmp_path / "out", "--bundle", bundle]
    assert caflow(*given, "--alpha", ALPHA).returncode == 1
    assert not (tmp_path / "out" / "scores.parquet").exists()
    done = caflow(*given, "--alpha", ALPHA, "--parquet")
    assert done.returncode == 1
    assert "is already complete" not in done.stdout
    table = pyarrow.parquet.read_table(tmp_path / "out" / "scores.parquet")
    lines = scores(tmp_path / "out")
    assert [{**row, "sha256": line["sha256"]} for row, line in zip(table.to_pylist(), lines, strict=True)] == lines
    verdicts = [msgspec.convert(row, Verdict) for row in table.to_pylist()]
    monkeypatch.setattr("caflow_runtime.jobs.parquet.ROWS_IN_GROUP", 5)
    write_parquet(tmp_path / "groups.parquet", iter(verdicts))
    assert pyarrow.parquet.ParquetFile(tmp_path / "groups.parquet").num_row_groups == 3
    assert pyarrow.parquet.read_table(tmp_path / "groups.parquet").equals(table)


def test_parquet_without_its_package(bundle: Path, data: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from caflow_deploy.cli import main; main(sys.argv[1:])"
    given = ["filter", data, "-o", tmp_path / "out", "--bundle", bundle, "--alpha", str(ALPHA), "--parquet"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "caflow: --parquet requires PyArrow; install it with pip install 'caflow-deploy[parquet]'\n"
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_text(pipe: Pipeline, data: Path, tmp_path: Path) -> None:
    """A file name may be any bytes. JSON escapes those that are not UTF-8; `accepted.txt` stores them unchanged."""
    name = tmp_path / b"caf\xe9 \xc3\xa9.png".decode("utf-8", "surrogateescape")
    name.write_bytes((data / "B" / "01.png").read_bytes())
    pairs = [FilePair(str(name), list_pairs(data)[1].condition)]
    job = run_to(tmp_path / "out", pipe, pairs, 9)
    assert [verdict.target for verdict in job.verdicts()] == [str(tmp_path / "caf\\xe9 é.png")]
    assert job.finish("list", parquet=False)
    assert (tmp_path / "out" / "accepted.txt").read_bytes().endswith(b"/caf\xe9 \xc3\xa9.png\n")
    assert [Path(pair.target) for pair in list_pairs(tmp_path / "out" / "scores.jsonl")] == [name]


def test_a_list_names_nothing_that_was_not_accepted(bundle: Path, data: Path, tmp_path: Path) -> None:
    """A file name may contain a line break, and the text after it may be the name of a rejected file."""
    for folder in "AB":
        (tmp_path / folder).mkdir()
        for name, source in (("noise.png", "00.png"), ("good\nnoise.png", "01.png"), ("plain.png", "02.png")):
            shutil.copy(data / folder / source, tmp_path / folder / name)
    pairs = [FilePair(str(path), str(tmp_path / "A" / path.name)) for path in sorted((tmp_path / "B").iterdir())]
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "--bundle", bundle, "--alpha", ALPHA]
    refused = caflow(*given, "-o", tmp_path / "out")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert r"good\nnoise.png' contains a line break" in refused.stderr
    assert "use --accepted list0" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert caflow(*given, "-o", tmp_path / "out", "--accepted", "list0").returncode == 0
    listed = (tmp_path / "out" / "accepted.list0").read_text()
    command = ["xargs", "-0", "-n", "1", "printf", "%s\\0"]
    read = subprocess.run(command, input=listed, capture_output=True, text=True, check=True)
    accepted = [line["target"] for line in scores(tmp_path / "out") if line["verdict"] == "accepted"]
    assert accepted
    assert read.stdout.split("\0")[:-1] == accepted
    for name in ("a\rb", "a\n", "a\u2028b", "a\x85b"):
        with pytest.raises(InputError, match="contains a line break"):
            accepted_files.write_list(tmp_path / "list.txt", ["fine", name], b"\n")
    assert not list(tmp_path.glob("*list.txt*"))


def test_pairs_whose_files_have_changed_are_judged_again(
    pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file counts as changed even if it is older. Files made from the old verdicts are removed."""
    for module in (filtering, filter_job):
        monkeypatch.setattr(module, "BATCH", 2)
    shutil.copytree(data, tmp_path / "data")
    pairs = [*list_pairs(tmp_path / "data")[:7], FilePair(str(tmp_path / "new.png"), "nowhere.png")]
    out = tmp_path / "out"

    def again() -> FilterJob:
        return FilterJob(out, pairs, settings_of(pipe, pairs))

    job = run_to(out, pipe, pairs, 9)
    assert (job.done, again().done) == (8, 6)  # the last two are in one batch, and one of them failed
    assert [verdict.verdict for verdict in job.verdicts()][3:] == [
        "rejected",
        "accepted",
        "accepted",
        "rejected",
        "error",
    ]
    assert job.finish("copy", parquet=False)
    assert job.finish("list", parquet=False)
    assert again().done == 6
    Path(pairs[2].target).unlink()  # a pair whose file is missing keeps its verdict
    assert again().done == 6
    target, noise = Path(pairs[5].target), Path(pairs[3].target)
    shutil.copy2(noise, tmp_path / "old.png")
    os.utime(tmp_path / "old.png", ns=(10**18, 10**18))
    (tmp_path / "old.png").replace(target)
    assert again().done == 4
    job = run_to(out, pipe, pairs, 9)
    assert not (out / "accepted.txt").exists()
    assert not (out / "accepted").exists()
    assert [verdict.verdict for verdict in job.verdicts()][4:] == ["accepted", "rejected", "rejected", "error"]
    shutil.copy(Path(pairs[0].condition), tmp_path / "new.png")  # a failed pair is judged again
    assert again().done == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_failed_pairs_are_judged_again(bundle: Path, data: Path, tmp_path: Path, workers: int) -> None:
    """What was wrong need not change a file. Pairs of other batches keep their lines."""
    pairs = list_pairs(data) * 16
    listed = write_list(tmp_path / "list.jsonl", [*pairs[:70], FilePair(pairs[70].target, "none.png"), *pairs[71:]])
    given = ["--bundle", bundle, "--threads", 1, *["--workers", workers][: 2 * bool(workers)]]
    whole = caflow("filter", listed, "-o", tmp_path / "whole", *given)
    assert whole.returncode == 1
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    lines = (tmp_path / "whole" / "scores.jsonl").read_bytes().splitlines(keepends=True)
    failed = [msgspec.structs.replace(parse_json(lines[k], Verdict), verdict="error", sha256="") for k in (71, 72)]
    earlier = [*lines[:71], *(msgspec.json.encode(sealed(verdict)) + b"\n" for verdict in failed), *lines[73:]]
    (tmp_path / "out" / "scores.jsonl").write_bytes(b"".join(earlier[:150]))  # 128 are kept
    again = caflow("filter", listed, "-o", tmp_path / "out", "--json", *given)
    assert again.returncode == 1
    assert [*map(str.encode, again.stdout.splitlines(keepends=True))] == [*lines[128:], *lines[64:128]]
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == b"".join(lines)
