"""`caflow filter`: jobs that are stopped and resumed, and verdicts that are computed again."""

import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
from commands import caflow, command
from filter_data import ALPHA, data, run_job, scores, settings_of, write_list
from many import started, wait_for_lines
from tiny import calibrated_pipe as pipe

from caflow_deploy.filtering import verdict_folder as filter_job
from caflow_deploy.filtering.verdict_folder import FilterJob
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.file_io.strict_json import parse_json
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["data", "pipe"]  # fixtures


def test_a_job_that_is_killed_several_times_writes_the_bytes_of_an_uninterrupted_one(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    """The last bits of a likelihood depend on the pairs in its batch, so a resumed job must form the same batches."""
    pairs = (list_pairs(data) * 1001)[:1001]
    listed, stopped = write_list(tmp_path / "pairs.jsonl", pairs), tmp_path / "stopped"
    given = ["filter", listed, "--model", calibrated, "--min-typicality", ALPHA, "--threads", 1]
    for lines, how in {70: signal.SIGKILL, 200: signal.SIGTERM, 400: signal.SIGTERM, 600: signal.SIGKILL}.items():
        with started(command(*given, "-o", stopped), tmp_path) as process:
            wait_for_lines(process, tmp_path, stopped / "scores.jsonl", lines)
            process.send_signal(how)
            process.wait(300)
        said = (tmp_path / "stderr").read_text()
        assert ("pairs finished; the same command resumes" in said) == (how == signal.SIGTERM)
        assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
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

    job = run_job(out, pipe, pairs)
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
    job = run_job(out, pipe, pairs)
    assert not (out / "accepted.txt").exists()
    assert not (out / "accepted").exists()
    assert [verdict.verdict for verdict in job.verdicts()][4:] == ["accepted", "rejected", "rejected", "error"]
    shutil.copy(Path(pairs[0].condition), tmp_path / "new.png")  # a failed pair is judged again
    assert again().done == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_failed_pairs_are_judged_again(calibrated: Path, data: Path, tmp_path: Path, workers: int) -> None:
    """What was wrong need not change a file. Pairs of other batches keep their lines."""
    pairs = list_pairs(data) * 16
    listed = write_list(tmp_path / "list.jsonl", [*pairs[:70], FilePair(pairs[70].target, "none.png"), *pairs[71:]])
    given = ["--model", calibrated, "--threads", 1, *["--workers", workers][: 2 * bool(workers)]]
    caflow("filter", listed, "-o", tmp_path / "whole", *given, code=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    lines = (tmp_path / "whole" / "scores.jsonl").read_bytes().splitlines(keepends=True)
    failed = [msgspec.structs.replace(parse_json(lines[k], Verdict), verdict="error", sha256="") for k in (71, 72)]
    earlier = [*lines[:71], *(msgspec.json.encode(with_checksum(verdict)) + b"\n" for verdict in failed), *lines[73:]]
    (tmp_path / "out" / "scores.jsonl").write_bytes(b"".join(earlier[:150]))  # the first batch is kept
    again = caflow("filter", listed, "-o", tmp_path / "out", "--json", *given, code=1)
    assert [*map(str.encode, again.stdout.splitlines(keepends=True))] == lines[64:]
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == b"".join(lines)
