"""`caflow filter`: jobs that are stopped and resumed, and verdicts that are computed again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from commands import caflow
from filter_data import ALPHA, bundle, data, judged, pipe, run_to, scores, settings_of, write_list

from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.file_io.strict_json import parse_json
from caflow_runtime.jobs import verdict_folder as filter_job
from caflow_runtime.jobs.pairs import FilePair, list_pairs
from caflow_runtime.jobs.verdict_folder import FilterJob
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["bundle", "data", "pipe"]  # fixtures


@pytest.mark.parametrize("stop", [0, 4, 12, 13])
def test_an_interrupted_job_resumes_to_the_same_bytes(
    pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """A job that is interrupted and resumed writes the same bytes as an uninterrupted one.

    The last bits of a likelihood depend on the pairs in its batch, so a resumed job must form the same batches. Here
    they have four pairs, and the last one has a single pair.
    """
    monkeypatch.setattr(filter_job, "BATCH", 4)
    pairs = list_pairs(data)[::2] + list_pairs(data)[::2][:6]
    run_to(tmp_path / "whole", pipe, pairs, 99)
    expected = (tmp_path / "whole" / "scores.jsonl").read_bytes()
    assert run_to(tmp_path / "stopped", pipe, pairs, stop).done == stop
    with (tmp_path / "stopped" / "scores.jsonl").open("ab") as file:
        file.write(b'{"target": "cut o')
    job = FilterJob(tmp_path / "stopped", pairs, settings_of(pipe, pairs))
    assert job.done == stop
    assert len(list(job.run(judged(pipe, job)))) == 13 - stop
    assert (tmp_path / "stopped" / "scores.jsonl").read_bytes() == expected


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
        assert re.search(
            rb"caflow: stopped: \d+ of \d+ pairs finished; the same command resumes with the other \d+\n$", said
        )
    return process.returncode


def test_a_job_that_is_killed_several_times_writes_the_bytes_of_an_uninterrupted_one(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    pairs = (list_pairs(data) * 1001)[:1001]
    listed, stopped = write_list(tmp_path / "pairs.jsonl", pairs), tmp_path / "stopped"
    given = ["filter", listed, "--bundle", bundle, "--alpha", ALPHA, "--threads", 1]
    for lines, how in {70: signal.SIGKILL, 200: signal.SIGTERM, 400: signal.SIGTERM, 600: signal.SIGKILL}.items():
        code = kill_in_the_middle([*given, "-o", stopped], stopped, lines, how)
        assert code == (-how if how == signal.SIGKILL else 128 + how)
        assert lines <= len((stopped / "scores.jsonl").read_bytes().splitlines()) < len(pairs)
        assert not (stopped / "accepted.txt").exists()
    for folder in (stopped, tmp_path / "whole"):
        caflow(*given, "-o", folder, code=0)
    for name in ("scores.jsonl", "accepted.txt", "job.json"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert [line["target"] for line in scores(tmp_path / "whole")] == [pair.target for pair in pairs]


def test_pairs_whose_files_have_changed_are_judged_again(
    pipe: Pipeline, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file counts as changed even if it is older. Files made from the old verdicts are removed."""
    monkeypatch.setattr(filter_job, "BATCH", 2)
    shutil.copytree(data, tmp_path / "data")
    pairs = [*list_pairs(tmp_path / "data")[:7], FilePair(str(tmp_path / "new.png"), "nowhere.png")]
    out = tmp_path / "out"

    def again() -> FilterJob:
        return FilterJob(out, pairs, settings_of(pipe, pairs))

    job = run_to(out, pipe, pairs, 9)
    kinds = [verdict.verdict for verdict in job.verdicts()][3:]
    assert kinds == ["rejected", "accepted", "accepted", "rejected", "error"]
    assert job.finish("copy")
    assert job.finish("list")
    assert (job.done, again().done) == (8, 6)  # the last two are in one batch, and one of them failed
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
    caflow("filter", listed, "-o", tmp_path / "whole", *given, code=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    lines = (tmp_path / "whole" / "scores.jsonl").read_bytes().splitlines(keepends=True)
    failed = [msgspec.structs.replace(parse_json(lines[k], Verdict), verdict="error", sha256="") for k in (71, 72)]
    earlier = [*lines[:71], *(msgspec.json.encode(with_checksum(verdict)) + b"\n" for verdict in failed), *lines[73:]]
    (tmp_path / "out" / "scores.jsonl").write_bytes(b"".join(earlier[:150]))  # the first batch is kept
    again = caflow("filter", listed, "-o", tmp_path / "out", "--json", *given, code=1)
    assert [*map(str.encode, again.stdout.splitlines(keepends=True))] == lines[64:]
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == b"".join(lines)
