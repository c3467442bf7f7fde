"""The folder of a batch of images: what is done there, what is left, and whose it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from batches import caflow, lines_of

from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import LOCK, State, alone, read_state, stamp_of
from caflow_runtime.jobs.image_folder import COMMAND, RESULTS, ImageBatch, remove_partial
from caflow_runtime.jobs.images import Done, Job
from caflow_runtime.path_text import as_path, as_text
from caflow_runtime.seal import sealed_fields

SETTINGS = {"n": 2, "seed": 0}


def jobs_of(folder: Path, *names: str) -> list[Job]:
    return [Job(folder / "in" / name, folder / "out" / f"{name}.png", (), {}) for name in names]


def drawn(job: Job, **more: Any) -> Done:
    job.output.write_text("a picture")
    names = {"input": as_text(job.source), "output": as_text(job.output)}
    return Done(job, {**names, "outcome": "accepted", "input_stamp": stamp_of(job.source), **more})


@pytest.mark.parametrize("torn", [-20, None])
def test_a_batch_goes_on(tmp_path: Path, torn: int | None) -> None:
    """What has a whole line, and its file, is done; what was dropped is, too; what failed is not."""
    jobs = jobs_of(tmp_path, "a", "b", "c", "d", "e")
    out = tmp_path / "out"
    first = ImageBatch(out, jobs, SETTINGS)
    results = [drawn(jobs[3]), Done(jobs[1], wrong="dropped", is_dropped=True), Done(jobs[4], wrong="broken")]
    found = list(first.run([*results, drawn(jobs[0])]))
    assert [done.report for done in found if done.report] == [lines_of(out / RESULTS)[k] for k in (0, 2)]
    assert [(done.job, done.wrong) for done in found] == [(done.job, done.wrong) for done in [*results, drawn(jobs[0])]]
    with (out / RESULTS).open("a") as file:
        # The file is there, its line not whole.
        file.write(json.dumps(sealed_fields(drawn(jobs[2]).report or {}))[:torn])
    jobs[0].output.unlink()
    again = ImageBatch(out, [*jobs, *jobs_of(tmp_path, "new")], SETTINGS)
    assert [job.source.name for job in again.left] == ["a", "c", "e", "new"]
    assert again.outcomes == {"accepted": 1, "dropped": 1}
    list(again.run(map(drawn, again.left)))
    whole = lines_of(out / RESULTS)
    assert [Path(line["input"]).name for line in whole] == ["d", "b", "a", "c", "e", "new"]
    assert not ImageBatch(out, jobs, SETTINGS).left


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
    """And so is one whose line has no hash, as earlier versions wrote it. How a line is written does not matter."""
    jobs, path = jobs_of(tmp_path, "a", "b"), tmp_path / "out" / RESULTS
    first = ImageBatch(tmp_path / "out", jobs, SETTINGS)
    whole = [drawn(job, log_likelihood=-7353.0, maps={"spread": [0.0, 1.5]}, sample=0) for job in jobs]
    list(first.run(whole))
    lines = lines_of(path)
    rewritten = [json.dumps(line, sort_keys=True).replace(".0,", ",") for line in lines]
    path.write_text("\n".join(rewritten) + "\n")
    assert not ImageBatch(tmp_path / "out", jobs, SETTINGS).left
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], lines[1] | edit)))
    again = ImageBatch(tmp_path / "out", jobs, SETTINGS)
    assert again.left == jobs[1:]
    assert again.outcomes == {"accepted": 1}
    list(again.run(whole[1:]))
    assert lines_of(path) == lines


def test_an_image_that_has_changed_is_drawn_again(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b")
    (tmp_path / "in").mkdir()
    for job in jobs:
        job.source.touch()
    list(ImageBatch(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs)))
    assert not ImageBatch(tmp_path / "out", jobs, SETTINGS).left
    (tmp_path / "in" / "older").write_text("another picture")
    os.utime(tmp_path / "in" / "older", ns=(10**18, 10**18))
    (tmp_path / "in" / "older").replace(jobs[1].source)
    jobs[0].source.unlink()
    assert ImageBatch(tmp_path / "out", jobs, SETTINGS).left == [jobs[1]]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """In JSON, all readers know them; and they are found again."""
    jobs = jobs_of(tmp_path, os.fsdecode(b"caf\xe9"), r"caf\xe9", "café", os.fsdecode(b"\xff\xfe\n"))
    list(ImageBatch(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs[:3])))
    dropped = Done(jobs[3], wrong="dropped", is_dropped=True)
    list(ImageBatch(tmp_path / "out", jobs, SETTINGS).run([dropped]))
    again = ImageBatch(tmp_path / "out", jobs, SETTINGS)
    assert (again.left, again.outcomes) == ([], {"accepted": 3, "dropped": 1})
    lines = (tmp_path / "out" / RESULTS).read_bytes().splitlines()
    inputs = [msgspec.json.decode(line)["input"] for line in lines]
    assert [Path(text).name for text in inputs] == [r"caf\xe9", r"caf\x5cxe9", "café", "\\xff\\xfe\n"]
    assert [Path(as_path(text)) for text in inputs] == [job.source for job in jobs]


def test_only_images_that_are_asked_for_are_counted(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b", "c")
    list(ImageBatch(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs)))
    assert ImageBatch(tmp_path / "out", jobs[:1], SETTINGS).outcomes == {"accepted": 1}
    assert len(lines_of(tmp_path / "out" / RESULTS)) == 3


def test_a_result_of_another_image_does_not_count(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, "a")
    list(ImageBatch(tmp_path / "out", [job], SETTINGS).run([drawn(job)]))
    other = Job(tmp_path / "in" / "a.jpg", job.output, (), {})
    assert ImageBatch(tmp_path / "out", [other], SETTINGS).left == [other]
    assert lines_of(tmp_path / "out" / RESULTS) == []


def test_another_job_is_refused(tmp_path: Path) -> None:
    jobs, out = jobs_of(tmp_path, "a"), tmp_path / "out"
    list(ImageBatch(out, jobs, SETTINGS).run(map(drawn, jobs)))
    with pytest.raises(InputError, match=r"holds a job with seed 0 \(now 1\): give the same to resume"):
        ImageBatch(out, jobs, {**SETTINGS, "seed": 1})
    assert ImageBatch(out, jobs, {**SETTINGS, "seed": 1}, force=True).left == jobs
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no job of caflow batch, but something else"):
        ImageBatch(tmp_path / "mine", jobs, SETTINGS)


def test_a_folder_is_one_process_own(tmp_path: Path) -> None:
    """Until that ends, however it does. What the killed process leaves behind does not block the next one."""
    (tmp_path / "a.png").touch()
    script = "import sys, time; from pathlib import Path; from caflow_runtime.jobs.folder import alone\n"
    script += "with alone(Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(InputError, match=r"another process works in .*out: wait for it, or give another -o"):
                alone(out).__enter__()
            done = caflow("batch", tmp_path / "a.png", "-o", out)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "another process works in" in done.stderr
        finally:
            other.kill()
    assert [path.name for path in out.iterdir()] == [LOCK]
    assert read_state(out, State, COMMAND) is None  # no job, and nothing foreign
    with alone(out):
        assert out.exists()
    assert not out.exists()


def test_a_folder_that_was_held_is_removed_where_it_is_empty_and_was_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, made in (("new", False), ("empty", False), ("filled", True)):
        with alone(tmp_path / name):
            if made:
                (tmp_path / name / "result").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "filled", "result"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b")
    (tmp_path / "out").mkdir()
    kept = [".c.png.12345678.partial", ".a.png", "a.png", "a.png.12345678.partial"]
    for name in [*kept, ".a.png.12345678.partial", ".a.png.abcdef00.partial", ".b.png.12345678.partial"]:
        (tmp_path / "out" / name).touch()
    remove_partial(jobs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(kept)
