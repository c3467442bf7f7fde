"""`caflow batch`: images and pairs on many machines, that fail; results are those of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from clips import ffmpeg, packets
from conftest import DATA, photograph
from ray_nodes import two_nodes
from two_machines import Machine, kill, why_none
from visit import free_port

from caflow_deploy.commands.batch import kind_of
from caflow_deploy.serving.batch import Place, open_pipeline, versions_here
from caflow_runtime.bundle import NoBundle
from caflow_runtime.calibration import NAME as CALIBRATION
from caflow_runtime.consistency import degrade
from caflow_runtime.errors import InputError
from caflow_runtime.image_batch import RESULTS, ImageBatch, remove_partial
from caflow_runtime.image_job import Done, Job
from caflow_runtime.images import read_image, write_image
from caflow_runtime.job_folder import alone, settings_of_pipeline
from caflow_runtime.pipeline import load
from caflow_runtime.video import job as video
from caflow_runtime.video.segments import DrawSettings
from caflow_runtime.video.sink import Encoding
from caflow_runtime.video.source import FileSource

SETTINGS = {"n": 2, "seed": 0}


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """For Ray: a folder of its own, whose name is short as it holds Unix sockets."""
    folder = mkdtemp(prefix="ray")
    yield {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
    shutil.rmtree(folder, ignore_errors=True)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "caflow_deploy.cli", *map(str, arguments)]


def caflow(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, **options)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def crops(folder: Path, count: int, side: int = 16) -> None:
    """So many windows of the repository's photographs, each another one."""
    folder.mkdir()
    places = np.random.default_rng(0)
    pictures = [read_image(path).rgb for path in sorted((DATA / "photographs").glob("*.jpg"))]
    for k in range(count):
        picture = pictures[k % len(pictures)]
        y, x = (int(places.integers(0, length - side)) for length in picture.shape[:2])
        write_image(folder / f"{k:03}.png", np.ascontiguousarray(picture[y : y + side, x : x + side]))


# What is asked for


def test_kinds(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
    assert kind_of(["a.png", str(tmp_path)]) == "images"
    assert kind_of([str(tmp_path / "pairs")]) == kind_of(["list.csv"]) == kind_of(["list.ndjson"]) == "pairs"
    with pytest.raises(InputError, match="one list of pairs, and nothing else"):
        kind_of(["a.png", "list.csv"])
    assert kind_of(["clip.mp4"]) == "a video"
    with pytest.raises(InputError, match=r"clip\.mp4: wanted one video"):
        kind_of(["a.png", "clip.mp4"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "-o", "out", "--alpha", 0.1], "--alpha is not for images"),
        (["list.csv", "-o", "out", "-n", 10], "--samples is not for pairs"),
        (["a.png", "-o", "out", "--crf", 20], "--crf is not for images"),
        (["clip.mp4", "-o", "out.mp4", "--redraws", 3], "--redraws is not for a video"),
        (["clip.mp4", "-o", "out.mp4"], "clip.mp4"),
        (["a.png", "-o", "out.png"], "out.png: wanted a folder, this names an image"),
        (["nothing", "-o", "out"], "nothing: wanted an image, a folder with images or a glob"),
        (["list.csv", "-o", "out"], "No such file or directory: "),
        (["a.png", "-o", "out", "--ray", "127.0.0.1:1"], "caflow: no Ray cluster at 127.0.0.1:1: "),
    ],
)
def test_refusals(calibrated: Path, tmp_path: Path, arguments: list[object], said: str) -> None:
    """Before anything is written, or a cluster started."""
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    done = caflow("batch", *arguments, "--bundle", calibrated, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out" / "job.json").exists()


def test_without_ray(calibrated: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    arguments = ["batch", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--bundle", str(calibrated)]
    code = f"import sys; sys.modules['ray'] = None; from caflow_deploy.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "caflow: many machines need Ray: pip install 'caflow-deploy[ray]'\n"


@pytest.mark.full
def test_a_video(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The same bytes as of one process that ends its segments at the same frames, with scenes that cross them."""
    clip, out, alone = tmp_path / "clip.mp4", tmp_path / "out.mp4", tmp_path / "alone.mp4"
    moving = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=1.2", "-f", "lavfi", "-i", "sine=d=1.2"]
    ffmpeg(*moving, "-c:v", "libx264", "-bf", 2, "-g", 9, "-c:a", "aac", clip)
    options = ["--bundle", calibrated, "-n", 3, "--seed", 2, "--workers", 2, "--segment-frames", 7]
    done = caflow("batch", clip, "-o", out, *options, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{clip} → {out}  36 frames\n"
    as_json = caflow("batch", clip, "-o", tmp_path / "json.mkv", *options, "--json", cwd=tmp_path, env=environment)
    assert sorted(json.loads(line)["frames"] for line in as_json.stdout.splitlines()) == [1, 7, 7, 7, 7, 7]
    (tmp_path / "json.mkv").unlink()
    with load(calibrated, backend="cpu", threads=1) as pipe:
        stream = DrawSettings(n=3, seed=2).open_stream(pipe)
        video.Job(FileSource(clip), alone, stream, Encoding("h264", 18, 8), {}, segment_frames=7).run(resume=False)
    assert out.read_bytes() == alone.read_bytes()
    assert packets(out, "audio") == packets(clip, "audio")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["alone.mp4", "clip.mp4", "out.mp4"]


def test_a_worker_opens_the_same_bundle_or_none(calibrated: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.caflow"
    shutil.copytree(calibrated, copy)
    with load(calibrated, backend="cpu") as pipe:
        settings = settings_of_pipeline(pipe)
    place = Place(str(copy), settings, versions_here(), "cpu", 1, {})
    assert settings_of_pipeline(open_pipeline(place)) == settings
    (copy / CALIBRATION).write_text((copy / CALIBRATION).read_text() + " ")
    with pytest.raises(InputError, match="is another bundle, or another calibration, than where the command runs"):
        open_pipeline(place)
    with pytest.raises(InputError, match=r"wanted onnxruntime 1\.0, as where the command runs, found 1\.[1-9]"):
        open_pipeline(replace(place, versions={**versions_here(), "onnxruntime": "1.0"}))
    with pytest.raises(NoBundle, match="nowhere"):
        open_pipeline(replace(place, bundle=str(tmp_path / "nowhere")))


# The folder of a batch


def jobs_of(folder: Path, *names: str) -> list[Job]:
    return [Job(folder / "in" / name, folder / "out" / f"{name}.png", (), {}) for name in names]


def drawn(job: Job) -> Done:
    job.output.write_text("a picture")
    return Done(job, {"input": str(job.source), "output": str(job.output), "outcome": "accepted"})


@pytest.mark.parametrize("torn", [-20, None])
def test_a_batch_goes_on(tmp_path: Path, torn: int | None) -> None:
    """What has a whole line, and its file, is done; what was dropped is, too; what failed is not."""
    jobs = jobs_of(tmp_path, "a", "b", "c", "d", "e")
    out = tmp_path / "out"
    first = ImageBatch(out, jobs, SETTINGS)
    results = [drawn(jobs[3]), Done(jobs[1], wrong="dropped", is_dropped=True), Done(jobs[4], wrong="broken")]
    assert list(first.run([*results, drawn(jobs[0])])) == [*results, drawn(jobs[0])]
    with (out / RESULTS).open("a") as file:
        file.write(json.dumps(drawn(jobs[2]).report)[:torn])  # the file is there, its line not whole
    jobs[0].output.unlink()
    again = ImageBatch(out, [*jobs, *jobs_of(tmp_path, "new")], SETTINGS)
    assert [job.source.name for job in again.left] == ["a", "c", "e", "new"]
    assert again.outcomes == {"accepted": 1, "dropped": 1}
    list(again.run(map(drawn, again.left)))
    whole = lines_of(out / RESULTS)
    assert [Path(line["input"]).name for line in whole] == ["d", "b", "a", "c", "e", "new"]
    assert not ImageBatch(out, jobs, SETTINGS).left


def test_an_image_that_has_changed_is_drawn_again(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b")
    (tmp_path / "in").mkdir()
    for job in jobs:
        job.source.touch()
    list(ImageBatch(tmp_path / "out", jobs, SETTINGS).run(map(drawn, jobs)))
    assert not ImageBatch(tmp_path / "out", jobs, SETTINGS).left
    later = jobs[1].output.stat().st_mtime_ns + 10**9
    os.utime(jobs[1].source, ns=(later, later))
    jobs[0].source.unlink()
    assert ImageBatch(tmp_path / "out", jobs, SETTINGS).left == [jobs[1]]


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
    with pytest.raises(InputError, match=r"holds a job with seed 0 \(now 1\): give the same to go on"):
        ImageBatch(out, jobs, {**SETTINGS, "seed": 1})
    assert ImageBatch(out, jobs, {**SETTINGS, "seed": 1}, force=True).left == jobs
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no job of caflow batch, but something else"):
        ImageBatch(tmp_path / "mine", jobs, SETTINGS)


def test_a_folder_is_one_process_own(tmp_path: Path) -> None:
    """Until that ends, however it does."""
    (tmp_path / "a.png").touch()
    script = "import sys, time; from pathlib import Path; from caflow_runtime.job_folder import alone\n"
    script += "with alone(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match=r"another process works in .*out: wait for it, or give another -o"):
            alone(out).__enter__()
        done = caflow("batch", tmp_path / "a.png", "-o", out)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "another process works in" in done.stderr
        other.kill()
        other.wait()
        with alone(out):
            assert out.exists()
    assert out.exists()  # it was there
    with alone(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "a", "b")
    (tmp_path / "out").mkdir()
    kept = [".c.png.12345678.partial", ".a.png", "a.png", "a.png.12345678.partial"]
    for name in [*kept, ".a.png.12345678.partial", ".a.png.abcdef00.partial", ".b.png.12345678.partial"]:
        (tmp_path / "out" / name).touch()
    remove_partial(jobs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(kept)


# With Ray


def drawn_alike(one: Path, results: list[dict[str, Any]], other: Path, reports: list[dict[str, Any]]) -> bool:
    """The same files, to the byte, and the same reports but for the folder; each once, and nothing else."""
    files = {str(path.relative_to(other)): path.read_bytes() for path in other.rglob("*") if path.is_file()}
    found = {str(path.relative_to(one)): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    own = {"job.json", RESULTS}
    assert {name: found[name] == files.get(name) for name in found.keys() - own} == dict.fromkeys(files, True)
    expected = {report["input"]: {**report, "output": ""} for report in reports}
    assert len(results) == len(reports) == len(expected)
    assert {result["input"]: {**result, "output": ""} for result in results} == expected
    return True


@pytest.mark.full
def test_images_are_those_of_one_process(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Of several sizes, also tiled, transparent and grey; one is broken, is reported, and is done once it is whole."""
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    for k, (height, width) in enumerate([(16, 16), (9, 13), (40, 24), (5, 5), (16, 16), (21, 8)]):
        write_image(folder / "below" / f"{k}.png", photograph(DATA / "photographs", k, height, width))
    picture = photograph(DATA / "photographs", 7, 9, 12)
    write_image(folder / "grey.png", picture, is_grey=True)
    write_image(folder / "alpha.png", picture, np.full((9, 12), 77, np.uint8))
    (folder / "bad.png").write_text("broken")
    options = ["--bundle", calibrated, "-n", 3, "--seed", 4, "--pixel-budget", 96 * 96, "--overlap", 16, "--json"]
    spread = ["batch", folder, "-o", out, *options, "--workers", 2]
    done = caflow(*spread, env=environment)
    wrong = f"caflow: {folder / 'bad.png'}: wanted an image (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp), "
    assert done.stderr == f"{wrong}cannot decode this one: it is none, or too large\ncaflow: 1 of 9 images failed\n"
    assert done.returncode == 1
    assert done.stdout == (out / RESULTS).read_text()
    write_image(folder / "bad.png", picture)
    again = caflow(*spread, env=environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert [json.loads(line)["input"] for line in again.stdout.splitlines()] == [str(folder / "bad.png")]
    alone = caflow("image", folder, "-o", tmp_path / "alone", *options, "--threads", 2)
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)


@pytest.mark.full
def test_a_cluster_that_wants_a_token(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """`ray start` makes such a one where there is a token, as Ray leaves it once it has run on this machine alone."""
    environment = {**environment, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_MODE"]
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("1" * 64)
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    address = f"127.0.0.1:{free_port()}"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", "--num-cpus=1"]
    with started([*ray, *start, "--block"], environment, tmp_path) as head:
        until = time.monotonic() + 60
        while "Ray runtime started" not in (tmp_path / "stdout").read_text() and time.monotonic() < until:
            time.sleep(0.2)
        arguments = ["batch", tmp_path / "a.png", "--bundle", calibrated, "-n", 1, "--ray", address]
        done = caflow(*arguments, "-o", tmp_path / "out", env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        token.write_text("0" * 64)
        refused = caflow(*arguments, "-o", tmp_path / "refused", env=environment)
        assert refused.returncode == 2
        assert f"caflow: no Ray cluster at {address}: " in refused.stderr
        assert "have its ~/.ray/auth_token here, too" in refused.stderr
        head.terminate()  # it ends what it has started
        head.wait(60)


@pytest.fixture(scope="module")
def pairs(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 150 pairs, of two sizes, one of them broken."""
    folder = tmp_path_factory.mktemp("pairs")
    crops(folder / "B", 40, side=32)
    (folder / "A").mkdir()
    with load(calibrated, threads=1) as pipe:
        for path in (folder / "B").iterdir():
            target = read_image(path).rgb[: 16 if int(path.stem) % 2 else 32]
            write_image(path, target)
            write_image(folder / "A" / path.name, degrade(pipe.manifest.model, target))
    (folder / "A" / "007.png").write_text("broken")
    names = [f"{k % 40:03}.png" for k in range(150)]
    lines = [json.dumps({"target": f"B/{name}", "condition": f"A/{name}"}) for name in names]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return folder / "list.jsonl"


@pytest.mark.full
def test_verdicts_are_those_of_one_process(
    calibrated: Path, pairs: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """To the bit, in order; also of what is left of a job that one process began."""
    options = ["--bundle", calibrated, "--alpha", 0.1, "--accepted", "copy"]
    out, alone = tmp_path / "out", tmp_path / "alone"
    spread = caflow("batch", pairs, "-o", out, *options, "--workers", 2, env=environment)
    filtered = caflow("filter", pairs, "-o", alone, *options)
    assert spread.returncode == filtered.returncode == 1
    assert spread.stdout == filtered.stdout.replace(str(alone), str(out))
    assert sorted(spread.stderr.splitlines()) == sorted(filtered.stderr.splitlines())
    whole = (alone / "scores.jsonl").read_bytes()
    assert (out / "scores.jsonl").read_bytes() == whole
    assert {p.name for p in (out / "accepted").iterdir()} == {p.name for p in (alone / "accepted").iterdir()}
    (out / "scores.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:70]))
    caflow("batch", pairs, "-o", out, *options, env=environment)
    assert (out / "scores.jsonl").read_bytes() == whole


@contextmanager
def started(run: list[str], environment: dict[str, str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the block; what it says is in `folder`."""
    with (
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(run, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for_results(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    end = time.monotonic() + 120
    path = folder / "out" / RESULTS
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < end, (folder / "stderr").read_text()
        time.sleep(0.02)


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_changes_nothing(
    calibrated: Path, tmp_path: Path, environment: dict[str, str], how: signal.Signals
) -> None:
    """Of the process that was started; its workers end with it."""
    crops(tmp_path / "in", 120)
    out = tmp_path / "out"
    arguments = [tmp_path / "in", "--bundle", calibrated, "-n", 16, "--json"]
    spread = command("batch", *arguments, "-o", out, "--workers", 2)
    with started(spread, environment, tmp_path) as process:
        wait_for_results(process, tmp_path, 20)
        process.send_signal(how)
        process.wait(60)
    there = len(lines_of(out / RESULTS)) if how == signal.SIGTERM else 20
    if how == signal.SIGTERM:
        assert process.returncode == 1
        said = (tmp_path / "stderr").read_text()
        assert said == f"caflow: stopped after {there} of 120 images: the same command goes on\n"
    again = subprocess.run(spread, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert len(again.stdout.splitlines()) <= 120 - there
    alone = caflow("image", *arguments, "-o", tmp_path / "alone")
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)


DEADLY = """
import os, sys

if not hasattr(sys, "is_driver") and "at-start" in {mode!r}:
    os._exit(1)

def do(pipe, unit):
    if unit == 5:
        os._exit(1)
    return unit * unit
"""
DRIVER = """
import sys
sys.is_driver = True
import deadly
from caflow_deploy.serving.batch import open_fleet
from caflow_runtime.errors import CaflowError
from caflow_runtime.job_folder import settings_of_pipeline
from caflow_runtime.pipeline import load

settings = settings_of_pipeline(load(sys.argv[1], "cpu"))
with open_fleet(None, sys.argv[1], settings, "cpu", 2, 1, {}) as fleet:
    try:
        print(sorted(fleet.run(deadly.do, list(range(12)))), file=sys.__stdout__)
    except CaflowError as error:
        print(error, file=sys.__stdout__)
"""


@pytest.mark.full
@pytest.mark.parametrize("mode", ["at-one", "at-start"])
def test_what_kills_its_worker_is_given_up(
    calibrated: Path, tmp_path: Path, environment: dict[str, str], mode: str
) -> None:
    """One unit, and the others are done; or the start, for all of them."""
    (tmp_path / "deadly.py").write_text(DEADLY.format(mode=mode))
    (tmp_path / "driver.py").write_text(DRIVER)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    run = [sys.executable, str(tmp_path / "driver.py"), str(calibrated)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=300)
    if mode == "at-one":
        assert done.stdout == f"{[(k, None if k == 5 else k * k) for k in range(12)]}\n"
    else:
        assert "8 workers in a row died while they opened" in done.stdout
    assert "Traceback" not in done.stderr


# Machines that fail


def actor_of(machine: Machine) -> int:
    """The process of an actor that does the work."""
    found = machine.processes("ray::MapWorker")
    assert found, "no worker on this machine"
    return found[0]


@pytest.mark.full
def test_machines_may_fail(calibrated: Path, tmp_path: Path) -> None:
    """A worker is killed, then the machine of another: every image is there, once, and is that of one process."""
    if reason := why_none():
        pytest.skip(reason)
    crops(tmp_path / "in", 500)
    out = tmp_path / "out"
    arguments = [tmp_path / "in", "--bundle", calibrated, "-n", 8, "--json"]
    with two_nodes(tmp_path, cpus=1) as nodes:
        first, second = nodes.machines
        spread = first.command(command("batch", *arguments, "-o", out, "--ray", nodes.address))
        with started(spread, nodes.environment, tmp_path) as process:
            wait_for_results(process, tmp_path, 150)
            kill(actor_of(first))
            wait_for_results(process, tmp_path, 300)
            actor_of(second)
            second.kill_all()
            process.wait(120)
    assert process.returncode == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "stdout").read_text() == (out / RESULTS).read_text()
    alone = caflow("image", *arguments, "-o", tmp_path / "alone")
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)
