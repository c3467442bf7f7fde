"""`--workers`: results equal those of one process, even if processes are killed."""

import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from clips import frames_of, packets
from commands import caflow, command, in_a_process, json_lines, json_lines_of, messages
from deadly import DeadlyConfig, fail, square
from filter_data import data, write_list
from many import crops, drawn_alike, is_running, started, wait_for_lines, workers_of
from tiny import DATA, photograph

from caflow_cli.console import resuming
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_deploy.jobs.executor import WorkerConfig, WorkerLost, open_worker_pipeline, versions_here
from caflow_deploy.jobs.folder import flat, settings_of_pipeline
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_deploy.jobs.process_executor import open_process_executor
from caflow_runtime.bundle.bundle_errors import NoBundle
from caflow_runtime.errors import BackendError, InputError
from caflow_runtime.file_io.line_checksum import fields_with_checksum
from caflow_runtime.ood.calibration import NAME as CALIBRATION
from caflow_runtime.pipeline.pipeline import load

__all__ = ["data"]  # a fixture

IMAGES = 40


def config_of(bundle: Path) -> WorkerConfig:
    with load(bundle, backend="cpu", threads=1) as pipe:
        return WorkerConfig(str(bundle), flat(settings_of_pipeline(pipe)), {}, "cpu", 1, {})


def test_work_that_kills_its_worker_is_given_up_and_other_work_is_done(calibrated: Path) -> None:
    expected = [(k, str(WorkerLost("unit 5") if k == 5 else k * k)) for k in range(70)]
    with open_process_executor(config_of(calibrated), 2) as executor:
        assert executor.backend == "onnxruntime cpu"
        found = executor.run(square, range(70), lambda k: f"unit {k}", in_order=True)
        assert [(k, str(result)) for k, result in found] == expected
        found = executor.run(square, [1, 2, 3])  # by the same workers
        assert sorted(found) == [(1, 1), (2, 4), (3, 9)]
        workers = workers_of(os.getpid())
        assert len(workers) == 2
    assert not workers_of(os.getpid())


def test_a_worker_that_hangs_is_killed(calibrated: Path) -> None:
    """Otherwise Ctrl-C would not end the command."""
    with open_process_executor(config_of(calibrated), 2) as executor:
        list(executor.run(square, range(4)))
        hung, _ = workers_of(os.getpid())
        os.kill(hung, signal.SIGSTOP)
    assert not workers_of(os.getpid())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "in"
    crops(folder, IMAGES)
    return folder


@pytest.fixture(scope="module")
def alone(calibrated: Path, images: Path) -> Path:
    """Results of one undisturbed process."""
    out = images.with_name("alone")
    done = in_a_process(command("image", images, "-o", out, *drawing(calibrated)))
    assert (done.returncode, messages(done.stderr)) == (0, [])
    assert [fields_with_checksum(report) for report in json_lines(done.stdout)] == json_lines_of(out / RESULTS)
    return out


def drawing(bundle: Path) -> list[object]:
    return ["--model", bundle, "-n", 16, "--threads", 1, "--json"]


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.full), 2])
def test_a_killed_folder_of_images_is_resumed(
    calibrated: Path, images: Path, alone: Path, tmp_path: Path, workers: int
) -> None:
    """The same command resumes the job. Workers end with the killed command."""
    out = tmp_path / "out"
    run = command("image", images, "-o", out, *drawing(calibrated), *["--workers", workers][: 2 * bool(workers)])
    with started(run, tmp_path) as process:
        wait_for_lines(process, tmp_path, out / RESULTS, 5)
        own = workers_of(process.pid)
        assert len(own) == workers
        process.kill()
        process.wait()
        second = in_a_process(command(*run[3:]))  # immediately after the kill
    there = len(json_lines_of(tmp_path / "stdout"))
    assert 5 <= there < IMAGES
    assert second.returncode == 0, second.stderr
    assert len(second.stdout.splitlines()) <= IMAGES - there
    assert not any(map(is_running, own))
    assert drawn_alike(out, alone)
    assert in_a_process(command(*run[3:])).stderr == f"{out} is already complete\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_workers(calibrated: Path, images: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C also reaches the workers, which ignore it."""
    out = tmp_path / "out"
    run = command("image", images, "-o", out, *drawing(calibrated), "--workers", 2)
    with started(run, tmp_path) as process:
        wait_for_lines(process, tmp_path, out / RESULTS, 3)
        own = workers_of(process.pid)
        for pid in [*own, process.pid] if how == signal.SIGINT else [process.pid]:
            os.kill(pid, how)
        process.wait(300)
    assert process.returncode == 128 + how
    there = len(json_lines_of(out / RESULTS))
    (said,) = messages((tmp_path / "stderr").read_text())
    # The signal may arrive when the last line is written, but not counted yet.
    assert said in [f"caflow: stopped: {resuming(count, IMAGES, 'image')}" for count in (there - 1, there)]
    assert len(own) == 2
    assert not any(map(is_running, own))
    assert not list(out.glob(".*"))


def test_a_worker_that_is_killed_changes_nothing(calibrated: Path, images: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(command("image", images, "-o", out, *drawing(calibrated), "--workers", 2), tmp_path) as process:
        wait_for_lines(process, tmp_path, out / RESULTS, 3)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        process.wait(300)
    assert (process.returncode, messages((tmp_path / "stderr").read_text())) == (0, [])
    assert len(json_lines_of(tmp_path / "stdout")) == IMAGES
    assert drawn_alike(out, alone)


@pytest.mark.full
@pytest.mark.parametrize("form", [[], ["--fit", "70x50", "--bits", 16]])
def test_all_kinds_of_images_are_those_of_one_process(calibrated: Path, tmp_path: Path, form: list[object]) -> None:
    """Several sizes, transparent and grey images."""
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    for k, (height, width) in enumerate([(16, 16), (9, 13), (40, 24), (5, 5), (16, 16), (21, 8)]):
        write_image(folder / "below" / f"{k}.png", photograph(DATA / "photographs", k, height, width))
    picture = photograph(DATA / "photographs", 7, 9, 12)
    write_image(folder / "grey.png", picture, is_grey=True)
    write_image(folder / "alpha.png", picture, np.full((9, 12), 77, np.uint8))
    options = ["--model", calibrated, "-n", 3, "--seed", 4, "--json"]
    options += ["--keep-all", "--sheet", "--maps", *form]
    done = in_a_process(command("image", folder, "-o", out, *options, "--workers", 2))
    assert (done.returncode, messages(done.stderr)) == (0, [])
    in_a_process(command("image", folder, "-o", tmp_path / "alone", *options, "--threads", 2))
    assert drawn_alike(out, tmp_path / "alone")


def test_a_killed_filter_is_resumed(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """The lines and their order equal those of one undisturbed process, byte for byte. One pair fails.

    test_filter_jobs.py covers jobs without workers.
    """
    listed = list_pairs(data) * 46  # so many that the command is still busy when it is killed
    listed[20] = FilePair(listed[20].target, "nowhere.png")
    pairs = write_list(tmp_path / "pairs.jsonl", listed)
    options = ["--model", calibrated, "--min-typicality", 0.1, "--accepted", "copy", "--threads", 1]
    out, alone = tmp_path / "out", tmp_path / "alone"
    given = [*options, "--workers", 2]
    with started(command("filter", pairs, "-o", out, *given), tmp_path) as process:
        wait_for_lines(process, tmp_path, out / "scores.jsonl", 70)
        process.kill()
    assert not (out / "accepted").exists()
    again = in_a_process(command("filter", pairs, "-o", out, *given))
    filtered = in_a_process(command("filter", pairs, "-o", alone, *options))
    assert again.returncode == filtered.returncode == 1
    assert again.stdout == filtered.stdout.replace(str(alone), str(out))
    whole = (alone / "scores.jsonl").read_bytes()
    assert (out / "scores.jsonl").read_bytes() == whole
    assert {p.name for p in (out / "accepted").iterdir()} == {p.name for p in (alone / "accepted").iterdir()}
    assert not list(out.glob(".*"))


@pytest.fixture(scope="module")
def whole(calibrated: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result of one undisturbed process for a clip with sound."""
    out = tmp_path_factory.mktemp("whole") / "whole.mp4"
    assert caflow("video", clips / "vfr.mp4", "-o", out, *drawing_video(calibrated)).returncode == 0
    return out


def drawing_video(bundle: Path) -> list[object]:
    return ["--model", bundle, "-n", 8, "--seed", 2, "--threads", 1, "--segment-frames", 3]


@pytest.mark.parametrize(
    ("begun_by", "resumed_by"),
    [(0, 0), (2, 2), pytest.param(0, 2, marks=pytest.mark.full), pytest.param(2, 0, marks=pytest.mark.full)],
)
def test_a_killed_video_is_resumed(
    calibrated: Path, clips: Path, whole: Path, tmp_path: Path, begun_by: int, resumed_by: int
) -> None:
    """One process or workers resume it, whichever started it. The bytes are always equal."""
    clip, out, options = clips / "vfr.mp4", tmp_path / "out.mp4", drawing_video(calibrated)
    first, second = (["--workers", count][: 2 * bool(count)] for count in (begun_by, resumed_by))
    with started(command("video", clip, "-o", out, *options, *first), tmp_path) as process:
        wait_for_lines(process, tmp_path, Path(f"{out}.segments/segments.jsonl"), 2)
        process.kill()
    assert not out.exists()
    done = in_a_process(command("video", clip, "-o", out, *options, *second))
    assert (done.returncode, messages(done.stderr)) == (0, [])
    assert done.stdout == f"{clip} → {out}  {len(frames_of(clip))} frames\n"
    assert out.read_bytes() == whole.read_bytes()
    assert packets(out, "audio") == packets(clip, "audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "stderr", "stdout"]


def test_a_worker_opens_the_same_bundle_or_none(copied_calibrated: Path, tmp_path: Path) -> None:
    calibration = copied_calibrated / CALIBRATION
    config = replace(config_of(copied_calibrated), versions=versions_here())
    assert flat(settings_of_pipeline(open_worker_pipeline(config))) == config.settings
    calibration.write_text(calibration.read_text() + " ")
    with pytest.raises(InputError, match="is not the bundle of the command, or has another calibration"):
        open_worker_pipeline(config)
    with pytest.raises(InputError, match=r"onnxruntime 1\.[1-9].* is installed, but the command runs with 1\.0"):
        open_worker_pipeline(replace(config, versions={**versions_here(), "onnxruntime": "1.0"}))
    with pytest.raises(NoBundle, match="nowhere"):
        open_worker_pipeline(replace(config, bundle=str(tmp_path / "nowhere")))


def test_workers_that_die_at_once_are_an_error(calibrated: Path) -> None:
    config = DeadlyConfig(**asdict(config_of(calibrated)))
    with (
        open_process_executor(config, 1) as executor,
        pytest.raises(BackendError, match="4 workers in a row died while"),
    ):
        list(executor.run(square, [1]))


def test_what_goes_wrong_in_a_worker_is_raised(calibrated: Path, tmp_path: Path) -> None:
    with open_process_executor(config_of(calibrated), 1) as executor, pytest.raises(ZeroDivisionError):
        list(executor.run(fail, [1]))
    nowhere = replace(config_of(calibrated), bundle=str(tmp_path / "nowhere"))
    with open_process_executor(nowhere, 1) as executor, pytest.raises(NoBundle, match="nowhere"):
        list(executor.run(square, [1]))
