"""`caflow filter`: what the command prints and writes, accepted images, folders that it refuses, and resumed jobs."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import caflow, command
from filter_data import ALPHA, data, run_job, scores, settings_of, write_list
from many import started, wait_for_lines
from tiny import calibrated_pipe as pipe

from caflow_deploy.commands.filter import SHOWN_REJECTIONS
from caflow_deploy.filtering import accepted_targets as accepted_files
from caflow_deploy.filtering import verdict_folder as filter_job
from caflow_deploy.filtering.verdict_folder import FilterJob
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_runtime.errors import InputError
from caflow_runtime.ood.calibration import NAME as CALIBRATION
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["data", "pipe"]  # fixtures


def test_caflow_filter_prints_and_writes_verdicts_and_judges_failed_pairs_again(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    pairs = list_pairs(data)
    pairs.insert(4, FilePair("nowhere.png", pairs[0].condition))
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "-o", tmp_path / "out", "--model", calibrated]
    done = caflow(*given, "--min-typicality", ALPHA, code=1)
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
    again = caflow(*given, "--min-typicality", ALPHA, code=1)
    assert (again.stdout, again.stderr) == (done.stdout, done.stderr)
    assert scores(tmp_path / "out") == found


@pytest.mark.full
def test_memory_does_not_grow_with_the_number_of_pairs(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """Ten times as many pairs may need 16 MiB more, for the paths of the list."""
    peaks = []
    for count in (1_000, 10_000):
        pairs = (list_pairs(data) * count)[:count]
        arguments = ["filter", write_list(tmp_path / f"{count}.jsonl", pairs), "-o", tmp_path / f"{count}"]
        arguments += ["--model", calibrated, "--threads", 1, "--accepted", "copy"]
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
    out = tmp_path / "out"
    given = ["filter", data, "-o", out, "--model"]
    caflow(*given, calibrated, "--min-typicality", ALPHA, "--accepted", "copy", code=0)
    before = (out / "scores.jsonl").read_bytes()
    other = Path(shutil.copytree(calibrated, tmp_path / "other.caflow"))
    (other / CALIBRATION).write_bytes((other / CALIBRATION).read_bytes() + b"\n")
    (tmp_path / "fewer").mkdir()
    fewer = write_list(tmp_path / "fewer" / "pairs.jsonl", list_pairs(data)[1:])
    for source, model, alpha, differing in (
        (data, calibrated, 0.2, "--min-typicality 0.1 (now 0.2)"),
        (data, other, ALPHA, "the calibration of the model has changed"),
        (fewer, calibrated, ALPHA, "the list of pairs has changed"),
    ):
        refused = caflow("filter", source, "-o", out, "--model", model, "--min-typicality", alpha, code=2)
        assert differing in refused.stderr
        assert (out / "scores.jsonl").read_bytes() == before
    caflow(*given, calibrated, "--min-typicality", 0.97, "--force", code=0)
    assert (out / "scores.jsonl").read_bytes() != before
    assert not (out / "accepted").exists()


def test_files_that_are_no_job_are_left_alone(calibrated: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "accepted").mkdir(parents=True)
    (out / "accepted" / "mine.txt").touch()
    given = ["filter", data, "-o", out, "--model", calibrated, "--min-typicality", ALPHA]
    assert "contains other files" in caflow(*given, code=2).stderr
    assert "contains other files" in caflow(*given, "--force", code=2).stderr
    (out / "job.json").write_text("{}")
    assert "is not a job file of caflow filter" in caflow(*given).stderr
    caflow(*given, "--force", code=2)
    (out / "accepted").rename(out / "moved")
    caflow(*given, "--force", code=0)
    assert (out / "moved" / "mine.txt").exists()
    (tmp_path / "file").touch()
    caflow("filter", data, "-o", tmp_path / "file", "--model", calibrated, code=2)


def test_accepted_files_are_listed_or_copied(calibrated: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    below = Path(shutil.copytree(data, tmp_path / "data"))
    (below / "B" / "below").mkdir()
    (below / "B" / "below" / "01.png").write_bytes((below / "B" / "01.png").read_bytes())
    relative = [FilePair(f"A/../B/{k:02}.png", f"A/{k:02}.png") for k in range(13)]
    relative += [FilePair("B/below/01.png", "A/01.png"), relative[1]]
    listed = write_list(below / "pairs.jsonl", relative)
    given = ["filter", listed, "-o", out, "--model", calibrated, "--min-typicality", ALPHA]
    originals = {path: path.read_bytes() for path in (below / "B").rglob("*.png")}
    caflow(*given, code=0)
    accepted = (out / "accepted.txt").read_text().splitlines()
    assert accepted == [line["target"] for line in scores(out) if line["verdict"] == "accepted"]
    names = {str(Path(path).resolve().relative_to(below / "B")) for path in accepted}
    assert {"01.png", "below/01.png"} < names < {str(path.relative_to(below / "B")) for path in originals}
    assert not (out / "accepted").exists()
    assert "is already complete" not in caflow(*given, "--accepted", "copy").stdout
    placed = [path for path in (out / "accepted").rglob("*") if not path.is_dir()]
    assert {str(path.relative_to(out / "accepted")) for path in placed} == names
    for path in placed:
        assert path.read_bytes() == originals[below / "B" / path.relative_to(out / "accepted")]
    assert "is already complete" in caflow(*given, "--accepted", "copy").stdout
    assert {path: path.read_bytes() for path in (below / "B").rglob("*.png")} == originals


def test_a_link_in_place_of_accepted_files_is_replaced_and_not_followed(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    given = ["filter", data, "-o", tmp_path / "out", "--model", calibrated, "--accepted", "copy"]
    caflow(*given, code=0)
    (tmp_path / "out" / "accepted").rename(tmp_path / "elsewhere")
    (tmp_path / "out" / "accepted").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = sorted(path.name for path in (tmp_path / "elsewhere").rglob("*"))
    caflow(*given, "--force", code=0)
    assert not (tmp_path / "out" / "accepted").is_symlink()
    assert sorted(path.name for path in (tmp_path / "elsewhere").rglob("*")) == before


def test_names_that_are_not_utf_8_survive_in_lists_and_json(pipe: Pipeline, data: Path, tmp_path: Path) -> None:
    """A file name may be any bytes. JSON escapes those that are not UTF-8; `accepted.txt` stores them unchanged."""
    name = tmp_path / b"caf\xe9 \xc3\xa9.png".decode("utf-8", "surrogateescape")
    name.write_bytes((data / "B" / "01.png").read_bytes())
    pairs = [FilePair(str(name), list_pairs(data)[1].condition)]
    job = run_job(tmp_path / "out", pipe, pairs)
    assert [verdict.target for verdict in job.verdicts()] == [str(tmp_path / "caf\\xe9 é.png")]
    assert job.finish("list")
    assert (tmp_path / "out" / "accepted.txt").read_bytes().endswith(b"/caf\xe9 \xc3\xa9.png\n")
    assert [Path(pair.target) for pair in list_pairs(tmp_path / "out" / "scores.jsonl")] == [name]


def test_a_list_names_nothing_that_was_not_accepted(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """A file name may contain a line break, and the text after it may be the name of a rejected file."""
    for folder in "AB":
        (tmp_path / folder).mkdir()
        for name, source in (("noise.png", "00.png"), ("good\nnoise.png", "01.png"), ("plain.png", "02.png")):
            shutil.copy(data / folder / source, tmp_path / folder / name)
    pairs = [FilePair(str(path), str(tmp_path / "A" / path.name)) for path in sorted((tmp_path / "B").iterdir())]
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "--model", calibrated, "--min-typicality", ALPHA]
    refused = caflow(*given, "-o", tmp_path / "out", code=2)
    assert refused.stderr.count("\n") == 1
    assert r"good\nnoise.png' contains a line break" in refused.stderr
    assert "use --accepted copy" in refused.stderr
    assert not (tmp_path / "out").exists()
    caflow(*given, "-o", tmp_path / "out", "--accepted", "copy", code=0)
    accepted = [Path(line["target"]).name for line in scores(tmp_path / "out") if line["verdict"] == "accepted"]
    assert accepted
    assert sorted(path.name for path in (tmp_path / "out" / "accepted").iterdir()) == sorted(accepted)
    for name in ("a\rb", "a\n", "a\u2028b", "a\x85b"):
        with pytest.raises(InputError, match="contains a line break"):
            accepted_files.write_list(tmp_path / "list.txt", ["fine", name])
    assert not list(tmp_path.glob("*list.txt*"))


def test_a_filter_never_overwrites_its_inputs(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """A job's `scores.jsonl` and its accepted files can be filtered again, but not into the same folder."""
    out, options = tmp_path / "out", ["--model", calibrated, "--min-typicality", ALPHA]
    caflow("filter", data, "-o", out, *options, "--accepted", "copy", code=0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    own = write_list(tmp_path / "own.jsonl", [FilePair(*[str(path)] * 2) for path in (out / "accepted").iterdir()])
    for given in (out / "scores.jsonl", own):
        refused = caflow("filter", given, "-o", out, *options, "--force", code=2)
        assert "is an input and would be overwritten; choose another -o" in refused.stderr
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    caflow("filter", out / "scores.jsonl", "-o", tmp_path / "again", *options, code=0)
    assert (tmp_path / "again" / "scores.jsonl").read_bytes() == before[out / "scores.jsonl"]


def test_files_that_were_emptied_or_replaced_by_a_folder_are_written_again(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    given = ["filter", data, "-o", tmp_path / "out", "--model", calibrated, "--min-typicality", ALPHA]
    caflow(*given, code=0)
    accepted = tmp_path / "out" / "accepted.txt"
    whole = accepted.read_bytes()
    accepted.write_bytes(b"")
    assert "is already complete" not in caflow(*given, code=0).stdout
    assert accepted.read_bytes() == whole
    accepted.unlink()
    (accepted / "below").mkdir(parents=True)
    assert "accepted.txt" in caflow(*given, code=1).stderr
    shutil.rmtree(accepted)
    assert "is already complete" not in caflow(*given, code=0).stdout
    assert "is already complete" in caflow(*given, code=0).stdout


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


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda lines: [b"\n", *lines], 8),
        (lambda lines: lines[1:], 6),
        (lambda lines: [lines[0], lines[1][:-1], *lines[2:]], 4),
        (lambda lines: [*lines[:5], b"{}\n", lines[5][:9], b"\n", *lines[6:]], 6),
    ],
    ids=["blank line", "first line removed", "line break removed", "line in two"],
)
def test_damage_to_a_line_costs_no_other_batch(
    damage: Callable[[list[bytes]], list[bytes]],
    kept: int,
    pipe: Pipeline,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filter_job, "BATCH", 2)
    pairs, out = list_pairs(data)[:8], tmp_path / "out"
    run_job(out, pipe, pairs)
    whole = (out / "scores.jsonl").read_bytes()
    (out / "scores.jsonl").write_bytes(b"".join(damage(whole.splitlines(keepends=True))))
    assert FilterJob(out, pairs, settings_of(pipe, pairs)).done == kept
    run_job(out, pipe, pairs)
    assert (out / "scores.jsonl").read_bytes() == whole
