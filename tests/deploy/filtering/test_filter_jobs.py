"""`caflow filter`: what the command prints and writes, and folders that it refuses."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import caflow
from filter_data import ALPHA, data, scores, write_list

from caflow_deploy.commands.filter import SHOWN_REJECTIONS
from caflow_runtime.jobs.pairs import FilePair, list_pairs
from caflow_runtime.ood.calibration import NAME as CALIBRATION

__all__ = ["data"]  # a fixture


def test_caflow_filter_prints_and_writes_verdicts_and_judges_failed_pairs_again(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    """One pair fails among valid ones. The same command judges it again."""
    pairs = list_pairs(data)
    pairs.insert(4, FilePair("nowhere.png", pairs[0].condition))
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "-o", tmp_path / "out", "--bundle", calibrated]
    done = caflow(*given, "--alpha", ALPHA, code=1)
    assert str(tmp_path / "nowhere.png") in done.stderr
    found = scores(tmp_path / "out")
    kinds = [line["verdict"] for line in found]
    count = kinds.count("rejected")
    assert kinds[4] == "error"
    assert 1 < count <= SHOWN_REJECTIONS
    first, *rejected, report = done.stdout.splitlines()
    assert f"{13 - count} accepted, {count} rejected" in first
    assert rejected == [
        f"rejected: {line['target']}: {line['reason']}" for line in found if line["verdict"] == "rejected"
    ]
    caflow(*shlex.split(report.partition(" run caflow ")[2]), code=0)
    assert (tmp_path / "out" / "report.html").exists()
    accepted = [line["target"] for line in found if line["verdict"] == "accepted"]
    assert (tmp_path / "out" / "accepted.txt").read_text().splitlines() == accepted
    again = caflow(*given, "--alpha", ALPHA, code=1)
    assert (again.stdout, again.stderr) == (done.stdout, done.stderr)
    assert scores(tmp_path / "out") == found


def test_verdicts_in_another_order_are_computed_again(calibrated: Path, data: Path, tmp_path: Path) -> None:
    given = ["filter", data, "-o", tmp_path / "out", "--bundle", calibrated, "--alpha", ALPHA]
    caflow(*given, code=0)
    whole, listed = ((tmp_path / "out" / name).read_bytes() for name in ("scores.jsonl", "accepted.txt"))
    lines = whole.splitlines(keepends=True)
    (tmp_path / "out" / "scores.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    (tmp_path / "out" / "accepted.txt").unlink()
    caflow(*given, code=0)
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == whole
    assert (tmp_path / "out" / "accepted.txt").read_bytes() == listed
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert caflow(*given).stdout.startswith(f"{tmp_path / 'out'} is already complete\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.full
def test_memory_does_not_grow_with_the_number_of_pairs(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """Ten times as many pairs may need 16 MiB more, for the paths of the list."""
    peaks = []
    for count in (1_000, 10_000):
        pairs = (list_pairs(data) * count)[:count]
        arguments = ["filter", write_list(tmp_path / f"{count}.jsonl", pairs), "-o", tmp_path / f"{count}"]
        arguments += ["--bundle", calibrated, "--threads", 1, "--accepted", "copy"]
        code = (
            "import sys; from pathlib import Path; from caflow_deploy.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 16, f"MiB: {peaks}"


def test_a_job_with_other_settings_is_refused_with_the_difference(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """The error names the settings that differ. `--force` starts again."""
    out = tmp_path / "out"
    given = ["filter", data, "-o", out, "--bundle"]
    caflow(*given, calibrated, "--alpha", ALPHA, "--accepted", "copy", code=0)
    before = (out / "scores.jsonl").read_bytes()
    other = Path(shutil.copytree(calibrated, tmp_path / "other.caflow"))
    (other / CALIBRATION).write_bytes((other / CALIBRATION).read_bytes() + b"\n")
    (tmp_path / "fewer").mkdir()
    fewer = write_list(tmp_path / "fewer" / "pairs.jsonl", list_pairs(data)[1:])
    for arguments, differing in (
        ([data, calibrated, "--alpha", 0.2], "--alpha 0.1 (now 0.2)"),
        ([data, other, "--alpha", ALPHA], "the calibration of the model has changed"),
        ([fewer, calibrated, "--alpha", ALPHA], "the list of pairs has changed"),
    ):
        source, model, *more = arguments
        refused = caflow("filter", source, "-o", out, "--bundle", model, *more, code=2)
        assert differing in refused.stderr
        assert (out / "scores.jsonl").read_bytes() == before
    caflow(*given, calibrated, "--alpha", 0.97, "--force", code=0)
    assert (out / "scores.jsonl").read_bytes() != before
    assert not (out / "accepted").exists()


def test_files_that_are_no_job_are_left_alone(calibrated: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "accepted").mkdir(parents=True)
    (out / "accepted" / "mine.txt").touch()
    given = ["filter", data, "-o", out, "--bundle", calibrated, "--alpha", ALPHA]
    assert "contains other files" in caflow(*given, code=2).stderr
    assert "contains other files" in caflow(*given, "--force", code=2).stderr
    (out / "job.json").write_text("{}")
    assert "is not a job file of caflow filter" in caflow(*given).stderr
    caflow(*given, "--force", code=2)
    (out / "accepted").rename(out / "moved")
    caflow(*given, "--force", code=0)
    assert (out / "moved" / "mine.txt").exists()
    (tmp_path / "file").touch()
    caflow("filter", data, "-o", tmp_path / "file", "--bundle", calibrated, code=2)
