"""Folder and journal of a job: which lines count, which images are drawn again, and which process may work in it."""

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import command, in_a_process, json_lines_of, started
from msgspec.structs import replace

from caflow_deploy.filtering import verdict_folder
from caflow_deploy.filtering.verdict_folder import SCORES, FilterJob, FilterSettings
from caflow_deploy.images.pairs import FilePair
from caflow_deploy.jobs.folder import PipelineSettings, State, exclusive_lock, stamp_of
from caflow_deploy.jobs.image_folder import RESULTS, ImageFolder, ImageSettings, without_leftovers
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.image_report import ImageReport
from caflow_deploy.jobs.journal import Journal
from caflow_deploy.jobs.process_image import ImageOutcome
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.folder_lock import LOCK
from caflow_runtime.file_io.line_checksum import fields_with_checksum
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.ood.verdict import Verdict

PIPELINE = PipelineSettings("0" * 64, None, "fp32", "onnxruntime cpu")
SETTINGS = ImageSettings(PIPELINE, DrawOptions(2))


def jobs_of(folder: Path, *names: str) -> list[ImageJob]:
    return [ImageJob(folder / "in" / name, folder / "out" / f"{name}.png", (), {}) for name in names]


def drawn(job: ImageJob, **more: Any) -> ImageOutcome:
    for path in job.outputs:
        path.write_text("a picture")
    fields: dict[str, Any] = {
        "input": as_text(job.source),
        "output": as_text(job.output),
        "outcome": "accepted",
        "input_bits": 8,
        "n": 2,
        "sample": 0,
        "output_width": 8,
        "output_height": 8,
        "density_at": "sample",
        "log_likelihood": -7352.5,
        **more,
    }
    return ImageOutcome(job, ImageReport(**fields, input_stamp=stamp_of(job.source)))


def line_of(done: ImageOutcome) -> dict[str, Any]:
    assert done.report is not None
    return fields_with_checksum(done.report.fields())


@pytest.mark.parametrize("torn", [-20, None])
def test_a_resumed_job_processes_exactly_the_unfinished_images(tmp_path: Path, torn: int | None) -> None:
    """An image is done if it has a whole line and its files, or if it was dropped. Failed images are tried again."""
    jobs = jobs_of(tmp_path, "a", "b", "c", "d", "e")
    out = tmp_path / "out"
    first = ImageFolder(out, jobs, SETTINGS)
    results = [
        drawn(jobs[3]),
        ImageOutcome(jobs[1], wrong="dropped", is_dropped=True),
        ImageOutcome(jobs[4], wrong="broken"),
    ]
    found = list(first.run([*results, drawn(jobs[0])]))
    assert [line_of(done) for done in found if done.report] == [json_lines_of(out / RESULTS)[k] for k in (0, 2)]
    assert [(done.job, done.wrong) for done in found] == [(done.job, done.wrong) for done in [*results, drawn(jobs[0])]]
    with (out / RESULTS).open("a") as file:
        # The file exists, but its line is cut off, or only lacks its line end.
        file.write(json.dumps(line_of(drawn(jobs[2])))[:torn])
    jobs[0].output.unlink()
    again = ImageFolder(out, [*jobs, *jobs_of(tmp_path, "new")], SETTINGS)
    assert [job.source.name for job in again.left] == ["a", "c", "e", "new"]
    assert again.outcomes == {"accepted": 1, "dropped": 1}
    list(again.run(map(drawn, again.left)))
    whole = json_lines_of(out / RESULTS)
    assert [Path(line["input"]).name for line in whole] == ["d", "b", "a", "c", "e", "new"]
    assert not ImageFolder(out, jobs, SETTINGS).left


EDITS: list[dict[str, Any]] = [
    {"maps": {"spread": [0.0, 1.0]}},
    {"note": "mine"},
    {"sha256": None},
]
IMPOSSIBLE: list[dict[str, Any]] = [
    {"sample_typicality": 2.0},
    {"outcome": "fine"},
    {"maps": 1},
    {"output": "a\0.png"},
]
"""Values of lines whose hash is right: whoever edited them has computed it again."""


@pytest.mark.parametrize("edit", [*EDITS, *IMPOSSIBLE])
def test_an_image_whose_line_was_edited_is_drawn_again(tmp_path: Path, edit: dict[str, Any]) -> None:
    """Reformatted lines remain valid."""
    jobs, path = jobs_of(tmp_path, "a", "b"), tmp_path / "out" / RESULTS
    first = ImageFolder(tmp_path / "out", jobs, SETTINGS)
    whole = [drawn(job, log_likelihood=-7353.0, maps={"spread": [0.0, 1.5]}) for job in jobs]
    list(first.run(whole))
    lines = json_lines_of(path)
    rewritten = [json.dumps(line, sort_keys=True).replace(".0,", ",") for line in lines]
    path.write_text("\n".join(rewritten) + "\n")
    assert not ImageFolder(tmp_path / "out", jobs, SETTINGS).left
    edited = fields_with_checksum(lines[1] | edit) if edit in IMPOSSIBLE else lines[1] | edit
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], edited)))
    again = ImageFolder(tmp_path / "out", jobs, SETTINGS)
    assert again.left == jobs[1:]
    assert again.outcomes == {"accepted": 1}
    list(again.run(whole[1:]))
    assert json_lines_of(path) == lines


def test_an_image_that_has_changed_is_drawn_again(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b")
    (tmp_path / "in").mkdir()
    for job in jobs:
        job.source.touch()
    list(ImageFolder(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs)))
    assert not ImageFolder(tmp_path / "out", jobs, SETTINGS).left
    (tmp_path / "in" / "older").write_text("another picture")
    os.utime(tmp_path / "in" / "older", ns=(10**18, 10**18))
    (tmp_path / "in" / "older").replace(jobs[1].source)
    jobs[0].source.unlink()
    assert ImageFolder(tmp_path / "out", jobs, SETTINGS).left == [jobs[1]]


def test_a_job_without_results_leaves_no_file(tmp_path: Path) -> None:
    """For example because all images failed. A result without a line, which a killed process leaves, keeps its job."""
    jobs, out = jobs_of(tmp_path, "a", "b"), tmp_path / "out"
    with closing(ImageFolder(out, jobs, SETTINGS)) as folder:
        list(folder.run([ImageOutcome(job, wrong="cannot be read") for job in jobs]))
    assert not list(out.iterdir())
    other = replace(SETTINGS, config=DrawOptions(2, seed=1))
    with closing(ImageFolder(out, jobs, other)):
        drawn(jobs[0])
    with pytest.raises(InputError, match="contains a job with other settings"):
        ImageFolder(out, jobs, SETTINGS)


def test_files_that_no_job_has_written_are_not_replaced(tmp_path: Path) -> None:
    """Unrelated files may exist in the folder.

    Once the job has begun, a result without a line comes from a killed process and is drawn again.
    """
    out = tmp_path / "out"
    jobs = [ImageJob(tmp_path / "in" / "a", out / "a.png", (out / "a-2.png",), {"sheet": out / "a-sheet.png"})]
    out.mkdir()
    (out / "notes.txt").touch()
    for name in ("a.png", "a-2.png", "a-sheet.png", RESULTS):
        (out / name).touch()
        with pytest.raises(InputError, match=f"{name} already exists; use `force` to overwrite it"):
            ImageFolder(out, jobs, SETTINGS)
        (out / name).unlink()
    ImageFolder(out, jobs, SETTINGS)
    (out / "a.png").touch()
    assert ImageFolder(out, jobs, SETTINGS).left == jobs


@pytest.mark.parametrize(
    ("outcome", "missing", "is_done"),
    [
        ("accepted", "a-2.png", False),
        ("accepted", "a-sheet.png", False),
        ("bicubic", "a-sheet.png", True),
        ("bicubic", "a.png", False),
    ],
)
def test_a_result_is_done_if_all_its_files_are_there(tmp_path: Path, outcome: str, missing: str, is_done: bool) -> None:
    """If the result is the enlarged input, there is only one file."""
    out = tmp_path / "out"
    jobs = [ImageJob(tmp_path / "in" / "a", out / "a.png", (out / "a-2.png",), {"sheet": out / "a-sheet.png"})]
    list(ImageFolder(out, jobs, SETTINGS).run([drawn(jobs[0], outcome=outcome)]))
    assert not ImageFolder(out, jobs, SETTINGS).left
    (out / missing).unlink()
    assert ImageFolder(out, jobs, SETTINGS).left == ([] if is_done else jobs)


def test_only_one_process_may_work_in_a_folder(tmp_path: Path) -> None:
    """The folder is locked until the process ends, even if it is killed. The remaining lock file blocks nobody."""
    (tmp_path / "a.png").touch()
    script = "import sys, time; from pathlib import Path; from caflow_deploy.jobs.folder import exclusive_lock\n"
    script += "with exclusive_lock(Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    out = tmp_path / "out"
    with started([sys.executable, "-c", script, out]) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match=r"another process is working in .*out"):
            exclusive_lock(out).__enter__()
        done = in_a_process(command("image", tmp_path / "a.png", "-o", out))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "another process is working in" in done.stderr
    assert [path.name for path in out.iterdir()] == [LOCK]
    with exclusive_lock(out):
        assert out.exists()
    assert not out.exists()


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """Before and after the work. Similar names are kept."""
    jobs, out = jobs_of(tmp_path, "a", "b"), tmp_path / "out"
    out.mkdir()
    kept = [".c.png.12345678.partial", ".a.png", "a.png", "a.png.12345678.partial"]
    for name in [*kept, ".a.png.12345678.partial", ".a.png.abcdef00.partial", ".b.png.12345678.partial"]:
        (out / name).touch()
    with without_leftovers(jobs):
        assert sorted(path.name for path in out.iterdir()) == sorted(kept)
        (out / ".a.png.12345678.partial").touch()
    assert sorted(path.name for path in out.iterdir()) == sorted(kept)


def test_a_job_of_another_command_is_refused(tmp_path: Path) -> None:
    jobs, out = jobs_of(tmp_path, "a"), tmp_path / "out"
    out.mkdir()
    State({}, "caflow filter").write(out)
    with pytest.raises(InputError, match="contains a job of caflow filter, not of caflow image"):
        ImageFolder(out, jobs, SETTINGS)


UNITS = 8


class Line(msgspec.Struct, frozen=True):
    unit: int
    value: float
    sha256: str = ""


def lines_of(kind: type[Any]) -> list[Any]:
    return [Line(k, k / 3) if kind is Line else {"unit": k, "value": k / 3} for k in range(UNITS)]


def unit_of(line: Any) -> int:
    return int(line["unit"] if isinstance(line, dict) else line.unit)


@pytest.fixture(params=[Line, dict])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal[Any]:
    journal = Journal(tmp_path / "lines.jsonl", request.param)
    assert (list(journal.lines()), journal.resume(unit_of), journal.path.exists()) == ([], {}, False)
    for line in lines_of(request.param):
        journal.append(line)
    return journal


def test_lines_that_count_are_kept_as_they_are(journal: Journal[Any]) -> None:
    before = journal.path.read_bytes()
    assert list(journal.resume(unit_of)) == list(range(UNITS))
    assert journal.path.read_bytes() == before
    assert list(journal.find(lambda line: unit_of(line) if unit_of(line) % 2 else None)) == [1, 3, 5, 7]
    assert journal.path.read_bytes() == before
    journal.resume(lambda line: unit_of(line) if unit_of(line) % 2 else None)
    assert journal.path.read_bytes() == b"".join(before.splitlines(keepends=True)[1::2])


@pytest.mark.parametrize("seed", range(20))
def test_damage_loses_no_other_line(journal: Journal[Any], seed: int) -> None:
    """Lines are cut, changed, doubled and exchanged. What remains is as it was written, each line once."""
    source, texts = random.Random(seed), journal.path.read_bytes().splitlines(keepends=True)
    damaged = list(texts)
    flipped, lost, doubled = source.sample(range(UNITS - 1), 3)
    place = source.randrange(len(texts[flipped]) - 1)
    damaged[flipped] = texts[flipped][:place] + bytes([texts[flipped][place] ^ 1]) + texts[flipped][place + 1 :]
    damaged[lost] = b""
    damaged.insert(source.randrange(UNITS), texts[doubled])
    source.shuffle(damaged)
    damaged.append(texts[-1][: source.randrange(1, len(texts[-1]))])
    journal.path.write_bytes(b"".join(damaged))
    assert set(journal.resume(unit_of)) == set(range(UNITS)) - {flipped, lost}
    assert sorted(journal.path.read_bytes().splitlines(keepends=True)) == sorted(
        text for number, text in enumerate(texts) if number not in (flipped, lost)
    )


def judged(batches: Sequence[Sequence[FilePair]]) -> list[list[Verdict]]:
    """Return verdicts whose numbers depend on the other pairs of the batch, as the last digits of likelihoods do."""
    sums = [float(sum(int(pair.target) * 7**k for k, pair in enumerate(batch))) for batch in batches]
    return [
        [Verdict(*pair, "accepted", log_likelihood=number) for pair in batch]
        for batch, number in zip(batches, sums, strict=True)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_batches_without_a_damaged_line_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Batches without a damaged line keep their lines, in any order, even if the list contains pairs several times."""
    monkeypatch.setattr(verdict_folder, "BATCH", 4)
    source = random.Random(seed)
    pairs = [FilePair(str(k % 5), "a") for k in range(source.randrange(1, 60))]
    settings = FilterSettings(PipelineSettings("0", None, "fp32", "cpu"), 0.1, 9, "1")
    job = FilterJob(tmp_path, pairs, settings)
    list(job.run(judged(job.left)))
    whole = (tmp_path / SCORES).read_bytes()
    batches = [whole.splitlines(keepends=True)[k : k + 4] for k in range(0, len(pairs), 4)]
    damaged = source.sample(range(len(batches)), source.randrange(len(batches)))
    for number in damaged:
        batches[number][source.randrange(len(batches[number]))] = json.dumps({"target": "0"}).encode() + b"\n"
    exchanged = batches[:-1]
    source.shuffle(exchanged)
    cut = batches[-1][: source.randrange(len(batches[-1]) + 1)]
    (tmp_path / SCORES).write_bytes(b"".join(line for batch in [*exchanged, cut] for line in batch))
    job = FilterJob(tmp_path, pairs, settings)
    assert len(job.left) <= len(damaged) + 1
    list(job.run(judged(job.left)))
    assert (tmp_path / SCORES).read_bytes() == whole
    assert not FilterJob(tmp_path, pairs, settings).left


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_journal_that_is_no_file_is_refused(journal: Journal[Any], make: Callable[[Path], None]) -> None:
    """Reading a pipe would wait for a writer forever."""
    journal.path.unlink(missing_ok=True)
    make(journal.path)
    with pytest.raises(InputError, match="must be a file; remove what has its name"):
        journal.find(unit_of)
