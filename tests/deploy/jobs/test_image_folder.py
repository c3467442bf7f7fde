"""Folder of an image job: which images are done, which are drawn again, and which process may work in it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from commands import caflow, command, in_a_process, json_lines_of
from msgspec.structs import replace
from tiny import TINY

from caflow_deploy.cluster.executor import SerialExecutor
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_runtime.batching.sampling_config import Reject, SamplingConfig
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.folder_lock import LOCK
from caflow_runtime.file_io.job_file import JOB_FILE
from caflow_runtime.file_io.line_checksum import fields_with_checksum
from caflow_runtime.file_io.path_text import as_path, as_text
from caflow_runtime.jobs.folder import PipelineSettings, State, exclusive_lock, make_folder, stamp_of
from caflow_runtime.jobs.image_folder import RESULTS, ImageFolder, ImageSettings, without_leftovers
from caflow_runtime.jobs.image_job import ImageJob
from caflow_runtime.jobs.image_report import ImageReport
from caflow_runtime.jobs.images import ImageOutcome
from caflow_runtime.pipeline.pipeline import Pipeline

PIPELINE = PipelineSettings("0" * 64, None, "fp32", "onnxruntime cpu")
SETTINGS = ImageSettings(PIPELINE, SamplingConfig(2))


def jobs_of(folder: Path, *names: str) -> list[ImageJob]:
    return [ImageJob(folder / "in" / name, folder / "out" / f"{name}.png", (), {}) for name in names]


def drawn(job: ImageJob, **more: Any) -> ImageOutcome:
    for path in job.outputs:
        path.write_text("a picture")
    names = {"input": as_text(job.source), "output": as_text(job.output), "outcome": "accepted"}
    known = {"input_bits": 8, "sample": 0, "density_at": "sample", "log_likelihood": -7352.5, "bits_per_dim": 3.5}
    fields: dict[str, Any] = {
        **names,
        **known,
        "log_likelihood_per_level": [-7352.5],
        "sample_typicality": None,
        "image_typicality": None,
        **more,
    }
    return ImageOutcome(job, ImageReport(**fields, input_stamp=stamp_of(job.source)))


def line_of(done: ImageOutcome) -> dict[str, Any]:
    assert done.report is not None
    return fields_with_checksum(done.report.fields())


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="out cannot be created: Read-only file system; choose another -o"):
        make_folder(tmp_path / "out")


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


@pytest.mark.parametrize(
    "edit",
    [
        {"outcome": "best"},
        {"log_likelihood": -7352.0},
        {"maps": {"spread": [0.0, 1.0]}},
        {"outcome": "dropped"},
        {"note": "mine"},
        {"sha256": "0" * 64},
        {"sha256": None},
    ],
)
def test_an_image_whose_line_was_edited_is_drawn_again(tmp_path: Path, edit: dict[str, Any]) -> None:
    """A line without a hash, as in files of earlier versions, is invalid too. Reformatted lines remain valid."""
    jobs, path = jobs_of(tmp_path, "a", "b"), tmp_path / "out" / RESULTS
    first = ImageFolder(tmp_path / "out", jobs, SETTINGS)
    whole = [drawn(job, log_likelihood=-7353.0, maps={"spread": [0.0, 1.5]}) for job in jobs]
    list(first.run(whole))
    lines = json_lines_of(path)
    rewritten = [json.dumps(line, sort_keys=True).replace(".0,", ",") for line in lines]
    path.write_text("\n".join(rewritten) + "\n")
    assert not ImageFolder(tmp_path / "out", jobs, SETTINGS).left
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], lines[1] | edit)))
    again = ImageFolder(tmp_path / "out", jobs, SETTINGS)
    assert again.left == jobs[1:]
    assert again.outcomes == {"accepted": 1}
    list(again.run(whole[1:]))
    assert json_lines_of(path) == lines


@pytest.mark.parametrize(
    "edit",
    [
        {"sample_typicality": 2.0},
        {"image_typicality": -1},
        {"sample": -2},
        {"outcome": "fine"},
        {"maps": 1},
        {"output": "a\0.png"},
    ],
)
def test_an_image_whose_line_has_impossible_values_is_drawn_again(tmp_path: Path, edit: dict[str, Any]) -> None:
    """The hash of such a line is right: whoever edited the line has computed it again."""
    jobs = jobs_of(tmp_path, "a", "b")
    list(ImageFolder(tmp_path / "out", jobs, SETTINGS).run([drawn(job) for job in jobs]))
    path = tmp_path / "out" / RESULTS
    good, edited = json_lines_of(path)
    path.write_text("".join(json.dumps(line) + "\n" for line in (good, fields_with_checksum(edited | edit))))
    assert ImageFolder(tmp_path / "out", jobs, SETTINGS).left == jobs[1:]
    assert json_lines_of(path) == [good]


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


def test_names_that_are_not_utf_8_are_escaped_and_found_again(tmp_path: Path) -> None:
    """Every JSON parser reads them, and a resumed job finds them."""
    jobs = jobs_of(tmp_path, os.fsdecode(b"caf\xe9"), r"caf\xe9", "café", os.fsdecode(b"\xff\xfe\n"))
    list(ImageFolder(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs[:3])))
    dropped = ImageOutcome(jobs[3], wrong="dropped", is_dropped=True)
    list(ImageFolder(tmp_path / "out", jobs, SETTINGS).run([dropped]))
    again = ImageFolder(tmp_path / "out", jobs, SETTINGS)
    assert (again.left, again.outcomes) == ([], {"accepted": 3, "dropped": 1})
    lines = (tmp_path / "out" / RESULTS).read_bytes().splitlines()
    inputs = [msgspec.json.decode(line)["input"] for line in lines]
    assert [Path(text).name for text in inputs] == [r"caf\xe9", r"caf\x5cxe9", "café", "\\xff\\xfe\n"]
    assert [Path(as_path(text)) for text in inputs] == [job.source for job in jobs]


def test_only_images_that_are_asked_for_are_counted(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b", "c")
    list(ImageFolder(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs)))
    assert ImageFolder(tmp_path / "out", jobs[:1], SETTINGS).outcomes == {"accepted": 1}
    assert len(json_lines_of(tmp_path / "out" / RESULTS)) == 3


def test_a_result_of_another_image_does_not_count(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, "a")
    list(ImageFolder(tmp_path / "out", [job], SETTINGS).run([drawn(job)]))
    other = ImageJob(tmp_path / "in" / "a.jpg", job.output, (), {})
    assert ImageFolder(tmp_path / "out", [other], SETTINGS).left == [other]
    assert json_lines_of(tmp_path / "out" / RESULTS) == []


def test_a_job_with_other_settings_is_refused_with_the_differences(tmp_path: Path) -> None:
    """The error names every setting that differs, including the bundle, the backend and the additional files."""
    jobs, out = jobs_of(tmp_path, "a"), tmp_path / "out"
    list(ImageFolder(out, jobs, SETTINGS).run(map(drawn, jobs)))
    cuda = replace(PIPELINE, bundle="1" * 64, backend="onnxruntime cuda")
    for other, differing in (
        (replace(SETTINGS, config=SamplingConfig(2, seed=1)), r"--seed 0 \(now 1\)"),
        (
            replace(SETTINGS, config=SamplingConfig(2, reject=Reject(0.1))),
            r"--min-typicality not given \(now 0\.1\), --redraws ",
        ),
        (replace(SETTINGS, pipeline=cuda), "the model has changed, --backend onnxruntime cpu .now onnxruntime cuda"),
        (
            replace(SETTINGS, keep_all=True, sheet=True),
            r"--keep-all not given \(now given\), --sheet not given \(now given\)",
        ),
    ):
        with pytest.raises(
            InputError, match=f"contains a job with other settings: {differing}.*; use the same settings"
        ):
            ImageFolder(out, jobs, other)
    assert not ImageFolder(out, jobs, SETTINGS).left
    assert ImageFolder(out, jobs, replace(SETTINGS, config=SamplingConfig(2, seed=1)), force=True).left == jobs


def test_a_job_without_results_leaves_no_file(tmp_path: Path) -> None:
    """For example because all images failed. A result without a line, which a killed process leaves, keeps its job."""
    jobs, out = jobs_of(tmp_path, "a", "b"), tmp_path / "out"
    with closing(ImageFolder(out, jobs, SETTINGS)) as folder:
        list(folder.run([ImageOutcome(job, wrong="cannot be read") for job in jobs]))
    assert not list(out.iterdir())
    other = replace(SETTINGS, config=SamplingConfig(2, seed=1))
    with closing(ImageFolder(out, jobs, other)):
        drawn(jobs[0])
    with pytest.raises(InputError, match="contains a job with other settings"):
        ImageFolder(out, jobs, SETTINGS)


def test_a_result_that_a_worker_writes_last_keeps_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped command ends its workers. One of them may still finish its image."""
    out, unreadable = tmp_path / "out", tmp_path / "a.png"
    unreadable.write_bytes(b"no picture")

    @contextmanager
    def writing_at_its_end(_: object, pipe: Pipeline) -> Iterator[SerialExecutor]:
        try:
            yield SerialExecutor(pipe)
        finally:
            (out / "a.png").write_text("a picture")

    monkeypatch.setattr(ExecutionOptions, "open_executor", writing_at_its_end)
    caflow("image", unreadable, "-o", out, "--bundle", TINY, "--backend", "cpu", code=1)
    assert (out / JOB_FILE).is_file()


def test_a_job_of_another_command_is_refused(tmp_path: Path) -> None:
    jobs, out = jobs_of(tmp_path, "a"), tmp_path / "out"
    out.mkdir()
    State({}, "caflow filter").write(out)
    with pytest.raises(InputError, match="contains a job of caflow filter, not of caflow image"):
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
        with pytest.raises(InputError, match=f"{name} already exists; use --force to overwrite it"):
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
    script = "import sys, time; from pathlib import Path; from caflow_runtime.jobs.folder import exclusive_lock\n"
    script += "with exclusive_lock(Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(
                InputError, match=r"another process is working in .*out; wait until it ends, or choose another output"
            ):
                exclusive_lock(out).__enter__()
            done = in_a_process(command("image", tmp_path / "a.png", "-o", out))
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "another process is working in" in done.stderr
        finally:
            other.kill()
    assert [path.name for path in out.iterdir()] == [LOCK]
    with exclusive_lock(out):
        assert out.exists()
    assert not out.exists()


def test_a_folder_that_a_job_has_created_is_removed_if_it_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, made in (("new", False), ("empty", False), ("filled", True)):
        with exclusive_lock(tmp_path / name):
            if made:
                (tmp_path / name / "result").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "filled", "result"]


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
