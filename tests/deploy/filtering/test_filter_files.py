"""`caflow filter`: the files made from verdicts: accepted images and their list."""

import shutil
from pathlib import Path

import pytest
from commands import caflow
from filter_data import ALPHA, data, run_job, scores, write_list
from tiny import calibrated_pipe as pipe

from caflow_runtime.errors import InputError
from caflow_runtime.jobs import accepted_targets as accepted_files
from caflow_runtime.jobs.pairs import FilePair, list_pairs
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["data", "pipe"]  # fixtures


def test_accepted_files_are_listed_or_copied(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """The original files are not changed."""
    out = tmp_path / "out"
    below = Path(shutil.copytree(data, tmp_path / "data"))
    (below / "B" / "below").mkdir()
    (below / "B" / "below" / "01.png").write_bytes((below / "B" / "01.png").read_bytes())
    relative = [FilePair(f"A/../B/{k:02}.png", f"A/{k:02}.png") for k in range(13)]
    relative += [FilePair("B/below/01.png", "A/01.png"), relative[1]]
    given = ["filter", write_list(below / "pairs.jsonl", relative), "-o", out, "--bundle", calibrated, "--alpha", ALPHA]
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
    given = ["filter", write_list(tmp_path / "pairs.jsonl", pairs), "--bundle", calibrated, "--alpha", ALPHA]
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
    out, options = tmp_path / "out", ["--bundle", calibrated, "--alpha", ALPHA]
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
    given = ["filter", data, "-o", tmp_path / "out", "--bundle", calibrated, "--alpha", ALPHA]
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
