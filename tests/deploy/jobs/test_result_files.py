"""Names and formats of results in a folder: names are unique, and a result keeps its name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import Done, caflow, json_lines_of, messages
from tiny import TINY

from caflow_deploy.commands.jobs import ResultNames, plan_jobs
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.image_headers import PNG_START
from caflow_deploy.jobs.result_naming import ResultFiles

STARTS = {"png": PNG_START, "jpg": b"\xff\xd8", "webp": b"RIFF", "tiff": b"II*\0", "bmp": b"BM"}


def pictures(folder: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, np.full((8, 8, 3), 40 * k % 256, np.uint8))
    return folder


def planned(inputs: Sequence[Path], out: Path, files: ResultFiles, others: int = 0) -> list[str]:
    jobs = plan_jobs([str(path) for path in inputs], ResultNames(out, files, others, []))
    written = [path for job in jobs for path in job.outputs]
    assert len(set(written)) == len(written)
    return [str(job.output.relative_to(out)) for job in jobs]


def run(given: Path, out: Path, *options: object, code: int = 0) -> Done:
    return caflow("image", given, "-o", out, "--model", TINY, "-n", 1, *options, code=code)


def image(given: Path, out: Path, *options: object) -> list[str]:
    run(given, out, *options)
    return sorted(path.name for path in out.iterdir() if path.suffix not in (".json", ".jsonl"))


def test_results_have_the_format_of_their_source(tmp_path: Path) -> None:
    names = ["a.PNG", "b.jpg", "c.jpeg", "d.webp", "e.tif", "f.bmp", "below/g.jpg"]
    given = pictures(tmp_path / "in", *names)
    assert planned([given], tmp_path / "out", ResultFiles()) == sorted(names)
    assert planned([given], tmp_path / "out", ResultFiles(suffix="-x4"))[0] == "a-x4.PNG"
    assert image(given, tmp_path / "out") == sorted(["below", *names[:6]])
    for name in names[:6]:
        kind = {"jpeg": "jpg", "tif": "tiff"}.get(suffix := name[2:].lower(), suffix)
        assert (tmp_path / "out" / name).read_bytes().startswith(STARTS[kind])


@pytest.mark.parametrize("kind", STARTS)
def test_results_have_the_format_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    given = pictures(tmp_path / "in", "a.jpg", "b.png")
    options = ["--format", kind, "--suffix", "-x4", "--sheet", "--keep-all", "-n", 2]
    run(given, tmp_path / "out", *options)
    for stem in ("a-x4", "a-x4-2", "b-x4"):
        assert (tmp_path / "out" / f"{stem}.{kind}").read_bytes().startswith(STARTS[kind])
    assert (tmp_path / "out" / "a-x4-sheet.png").exists()
    assert "is already complete" in run(given, tmp_path / "out", *options).stdout


def test_two_sources_with_one_name_have_two_results(tmp_path: Path) -> None:
    png = ResultFiles("png")
    given = pictures(tmp_path / "in", "photo.jpg", "photo.png", "photo.webp")
    assert planned([given], tmp_path / "out", png) == ["photo-jpg.png", "photo.png", "photo-webp.png"]
    assert planned([given], tmp_path / "out", ResultFiles()) == ["photo.jpg", "photo.png", "photo.webp"]
    pictures(tmp_path, "winter/photo.png", "summer/photo.png", "x/winter/photo.png")
    folders = [tmp_path / "winter", tmp_path / "summer", tmp_path / "x" / "winter"]
    assert planned(folders, tmp_path / "out", png) == ["photo.png", "photo-summer.png", "photo-winter.png"]
    pictures(tmp_path, "a/n.png", "b/n.png", "c/b/n.png", "d/b/n.png")
    folders = [tmp_path / name for name in ("a", "b", "c/b", "d/b")]
    assert planned(folders, tmp_path / "out", png) == ["n.png", "n-b.png", "n-b-2.png", "n-b-3.png"]
    samples = pictures(tmp_path / "samples", "a.png", "a-2.png")  # also the name of a.png's second sample
    assert planned([samples], tmp_path / "out", png, others=1) == ["a-2.png", "a-samples.png"]


def test_a_result_keeps_its_name_when_files_are_added(tmp_path: Path) -> None:
    given, out = pictures(tmp_path / "in", "photo.jpg"), tmp_path / "out"
    assert image(given, out, "--format", "png") == ["photo.png"]
    first = (out / "photo.png").read_bytes()
    pictures(given, "photo.png", "photo.webp")
    assert image(given, out, "--format", "png") == ["photo-in.png", "photo-webp.png", "photo.png"]
    assert (out / "photo.png").read_bytes() == first
    assert len(json_lines_of(out / "results.jsonl")) == 3
    # A result keeps its name if its source is the only input and has another path. A deleted source frees the name.
    alone = given / ".." / "in" / "photo.webp"
    assert planned([alone], out, ResultFiles("png")) == ["photo-webp.png"]
    (given / "photo.jpg").unlink()
    pictures(given, "photo.bmp")
    assert planned([given], out, ResultFiles("png")) == ["photo.png", "photo-in.png", "photo-webp.png"]


def test_results_of_earlier_jobs_inside_the_input_folder_are_skipped(tmp_path: Path) -> None:
    given = pictures(tmp_path / "in", "a.png", "below/b.png", "foreign/c.png")
    (given / "foreign" / "job.json").write_text('{"command": "make"}')
    for out in ("first", "below/second", "third"):
        assert len(image(given, given / out)) == 3
    again = run(given, given / "third")
    assert f"({given / 'below' / 'second'}, {given / 'first'})" in again.stderr
    assert again.stdout == f"{given / 'third'} is already complete\n"
    assert len(image(given / "first", tmp_path / "out")) == 3


def test_animations_in_a_folder_are_counted_in_one_line(tmp_path: Path) -> None:
    given, said = tmp_path / "in", "caflow: skipped 2 animations (.apng, .gif): enlarge each with caflow video\n"
    (given / "below").mkdir(parents=True)
    for name in ("a.GIF", "below/b.apng"):
        (given / name).write_bytes(b"GIF89a")
    assert "found no image" in run(given, tmp_path / "out", code=2).stderr
    pictures(given, "c.png")
    assert run(given, tmp_path / "out").stderr.count(said) == 1


def test_a_job_with_other_files_is_refused(tmp_path: Path) -> None:
    given, out = pictures(tmp_path / "in", "a.jpg"), tmp_path / "out"
    image(given, out, "--quality", 80)
    for options, said in (
        (["--quality", 80, "--format", "png"], "--format source (now png)"),
        (["--quality", 80, "--no-metadata"], "--metadata given (now not given)"),
        (["--quality", 80, "--fit", "40x30"], "--fit not given (now 40x30)"),
        (["--suffix", "-x4"], "--quality 80 (now not given), --suffix not given (now -x4)"),
        (["--quality", 80, "--min-typicality", 0.1], "--min-typicality 0.0 (now 0.1)"),
        (["--quality", 80, "--keep-all", "--sheet"], "--keep-all not given (now given), --sheet "),
        (["--quality", 80, "--backend", "openvino"], "--backend onnxruntime cpu (now openvino"),
    ):
        assert said in run(given, out, *options, code=2).stderr


def test_results_of_a_replaced_job_do_not_become_inputs(tmp_path: Path) -> None:
    given = pictures(tmp_path / "in", "a.png")
    assert image(given, given, "--suffix", "-x4") == ["a-x4.png", "a.png"]
    assert image(given, given, "--suffix", "-x4", "--force") == ["a-x4.png", "a.png"]
    done = run(given, given, "--suffix", "-y", "--force", code=2)
    assert f"{given / 'a-x4.png'} is a result of the job that --force replaces" in done.stderr
    assert not (given / "a-y.png").exists()
    (given / "a-x4.png").unlink()
    run(given, given, "--suffix", "-y", "--force")
    assert "is already complete" in run(given, given, "--suffix", "-y").stdout
    assert sorted(path.name for path in given.glob("*.png")) == ["a-y.png", "a.png"]


def test_an_emptied_result_is_made_again_and_a_changed_one_is_kept(tmp_path: Path) -> None:
    given = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    run(*given)
    first, second = tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"
    whole = first.read_bytes()
    first.write_bytes(b"")
    second.write_bytes(b"retouched")
    done = run(*given)
    assert "is already complete" not in done.stdout
    assert first.read_bytes() == whole
    for _ in range(2):
        assert messages(done.stderr)[-1].endswith(str(second))
        assert second.read_bytes() == b"retouched"
        done = run(*given)
        assert done.stdout == f"{tmp_path / 'out'} is already complete\n"
