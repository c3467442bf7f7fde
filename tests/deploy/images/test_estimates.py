"""The plan, the progress lines and the memory checks of `caflow image`, and the estimate of a video's memory."""

import re
import shutil
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from commands import caflow, command, in_a_process
from tiny import DATA, TINY, photograph

from caflow_deploy.commands import execution_options, progress_reporter
from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_image import inspect_image
from caflow_runtime import available_memory
from caflow_runtime.available_memory import Available
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.run_memory import NAME, write_memory
from caflow_runtime.errors import TooLittleMemory
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline import estimates
from caflow_runtime.pipeline.measured_memory import measure_memory
from caflow_runtime.pipeline.pipeline import load

OPTIONS = ["--model", TINY, "--backend", "cpu", "--threads", 1]
WITH_PEAK = """
import sys
from caflow_deploy.cli import main
from caflow_runtime.available_memory import peak_memory
try:
    main()
finally:
    print("peak", peak_memory(), file=sys.stderr)
"""
MEMORY = r"about ([\d.]+) ([MG])B of memory"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with its memory measured here: kernels of other processors take more or less."""
    folder = shutil.copytree(TINY, tmp_path_factory.mktemp("measured") / "model.caflow")
    found = measure_memory(folder)
    write_memory(folder, "onnxruntime cpu", found.sample, found.score)
    return Path(folder)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands cut results into tiles of 96×96 pixels."""
    monkeypatch.setattr(execution_options, "load", partial(load, tiling=Tiling(96 * 96, 16)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Image of 48×32 pixels."""
    path = tmp_path / "photo.png"
    write_image(path, photograph(DATA / "photographs", 0, 32, 48))
    return path


def short_of(monkeypatch: pytest.MonkeyPatch, bytes_: int) -> None:
    """Make this number of bytes appear as the available memory."""
    for name in ("available_memory", "memory_of_all"):
        monkeypatch.setattr(estimates, name, lambda: Available(bytes_, "ulimit -v"))


@pytest.mark.usefixtures("small_tiles")
def test_the_plan_names_size_tiles_and_memory(source: Path, tmp_path: Path) -> None:
    done = caflow("image", source, "-o", tmp_path / "out.png", "-n", 2, *OPTIONS, code=0)
    plan, progress, *_ = done.stderr.splitlines()
    found = re.search(rf"photo.png → \S+: 48×32 → 192×128 in (\d+) tiles of 2 samples, {MEMORY}$", plan)
    assert found, plan
    with load(TINY, "cpu", 1, tiling=Tiling(96 * 96, 16)) as pipe:
        assert int(found[1]) == len(pipe.tiles(read_image(source).rgb)) > 1
    assert re.search(r"photo.png: \d+% done, about \d+ s left$", progress)


def test_the_first_line_says_how_long_it_takes(source: Path, tmp_path: Path) -> None:
    """Unless the work is so short that the trial would delay it."""
    done = caflow("image", source, "-o", tmp_path / "out.png", "-n", 40, *OPTIONS)
    assert re.search(rf" in 1 tile of 40 samples, {MEMORY}, about \d+ s\n", done.stderr)
    for k in range(30):
        write_image(tmp_path / f"{k:02}.png", read_image(source).rgb)
    done = caflow("video", tmp_path / "%02d.png", "-o", tmp_path / "out.mkv", "-n", 1, *OPTIONS)
    assert re.search(rf"30 frames .* in 1 tile each, {MEMORY}, about \d+ s\n", done.stderr)


@pytest.mark.parametrize("model", [["--model", TINY], []], ids=["named", "chosen"])
def test_images_that_cannot_be_read_take_no_time(source: Path, tmp_path: Path, model: list[Any]) -> None:
    """An animation and an image above the limit, by their headers; a damaged one, if it was read to choose a model."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = read_image(source).rgb
    write_image(folder / "good.png", pixels)
    write_image(folder / "large.png", np.tile(pixels, (2, 2, 1)))
    frames = [PIL.Image.fromarray(picture) for picture in (pixels, pixels[::-1])]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    if not model:
        (folder / "damaged.png").write_bytes(source.read_bytes()[:-200])
    given = ["image", folder, "-o", tmp_path / "out", "-n", 1, "--max-pixels", pixels[..., 0].size, *model]
    plan = next(line for line in caflow(*given, code=1).stderr.splitlines() if " tile" in line)
    assert re.search(r"^[34] images in 1 tile of 1 sample", plan), plan


@pytest.mark.usefixtures("small_tiles")
def test_progress_counts_all_passes(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass of two is a small part of the work."""
    monkeypatch.setattr(progress_reporter, "MIN_S", 0.0)
    done = caflow("image", source, "-o", tmp_path / "out.png", "-n", 1, "--scale", 8, *OPTIONS, code=0)
    shares = [int(found) for found in re.findall(r": (\d+)% done, about \d+ s left", done.stderr)]
    assert shares[0] < 15
    assert 85 < shares[-1] < 100
    assert all(10 <= after - before < 15 for before, after in pairwise(shares))


@pytest.mark.parametrize(
    ("height", "width", "suffix"),
    [(60, 75, ".png"), (240, 300, ".png"), (240, 300, ".jpg"), (240, 300, ".webp")],
    ids=["small", "in tiles", "JPEG", "WebP"],
)
def test_memory_is_at_most_as_predicted(measured: Path, tmp_path: Path, height: int, width: int, suffix: str) -> None:
    """It is not much less either. `benchmarks/speed.py memory` compares both for a real model."""
    given, out = tmp_path / "in.png", tmp_path / f"out{suffix}"
    write_image(given, photograph(DATA / "photographs", 0, height, width))
    line = [sys.executable, "-c", WITH_PEAK, "image", given, "-o", out, "-n", 1, *OPTIONS, "--model", measured]
    done = in_a_process(line)
    assert done.returncode == 0, done.stderr
    found = re.search(MEMORY, done.stderr)
    assert found, done.stderr
    predicted = float(found[1]) * {"M": 1e6, "G": 1e9}[found[2]]
    assert 1 <= predicted / int(done.stderr.rpartition("peak ")[2]) <= 1.3


def test_an_image_that_does_not_fit_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image requires much more memory than the other one, whose result is still written."""
    write_image(tmp_path / "large.png", np.tile(read_image(source).rgb, (8, 8, 1)))
    monkeypatch.setattr(estimates, "resident_memory", lambda: 0)  # earlier tests may have left memory
    with load(TINY, "cpu", 1) as pipe:
        jobs = [ImageJob(tmp_path / name, tmp_path / "out.png", (), {}) for name in ("photo.png", "large.png")]
        short_of(monkeypatch, sum(inspect_image(pipe, job, DrawOptions(1))[1].memory for job in jobs) // 2)
    out = tmp_path / "out"
    done = caflow("image", tmp_path, "-o", out, "-n", 1, *OPTIONS, code=1)
    assert f"1 of 2 images failed: {tmp_path / 'large.png'}" in done.stderr
    assert [path.name for path in out.glob("*.png")] == ["photo.png"]
    monkeypatch.undo()
    caflow("image", tmp_path, "-o", out, "-n", 1, *OPTIONS, code=0)


def test_a_limit_of_the_process_is_found(source: Path, tmp_path: Path) -> None:
    """The process has 1 GB of address space, which is too little for this image."""
    given, out = tmp_path / "in.png", tmp_path / "out.png"
    write_image(given, np.tile(read_image(source).rgb, (60, 40, 1)))
    line = command("image", given, "-o", out, "-n", 1, *OPTIONS)
    done = in_a_process(["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", *line])
    assert done.returncode == 1, done.stderr
    assert re.search(r" [MG]B of memory required, \d+ MB available \(according to ulimit", done.stderr), done.stderr
    assert not out.exists()


def test_a_dry_run_does_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, other = tmp_path / "out", tmp_path / "other.png"
    other.write_text("no image")
    done = caflow("image", source, other, "-o", out, *OPTIONS, "--dry-run", code=1)
    assert len(done.stdout.splitlines()) == 1
    assert f"1 of 2 images failed: {other}" in done.stderr
    done = caflow("image", source, "-o", out, *OPTIONS, "--dry-run", "--json", code=0)
    assert done.stdout == "", "standard output is for JSON"
    assert "48×32 → 192×128" in done.stderr
    write_image(other, read_image(source).rgb)
    done = caflow("image", source, other, "-o", out, "-n", 40, *OPTIONS, "--dry-run")
    *lines, together = done.stdout.splitlines()
    assert [line.partition(" →")[0] for line in lines] == [str(source), str(other)]
    assert all(re.search(r" of memory, about \d+ s$", line) for line in lines)
    assert re.search(r"^2 images in 2 tiles of 40 samples, about \d+ s; the largest, 48×32 → 192×128, ", together)
    short_of(monkeypatch, 10**6)
    caflow("image", source, "-o", out, *OPTIONS, "--dry-run", code=1)
    assert not out.exists()


def test_a_dry_run_refuses_what_the_command_would_refuse(source: Path, tmp_path: Path) -> None:
    """An existing result, and a folder with a job of other settings; the command's own job is listed."""
    existing, out = tmp_path / "out.png", tmp_path / "out"
    existing.write_bytes(b"of the user")
    for line in ([source, "-o", existing], [source, "-o", out, "-n", 2]):
        if line[2] == out:
            caflow("image", source, "-o", out, "-n", 1, *OPTIONS, code=0)
        dry, real = (caflow("image", *line, *OPTIONS, *more) for more in (["--dry-run"], []))
        assert (dry.returncode, dry.stdout) == (2, "")
        assert dry.stderr == real.stderr
        assert line[2] == out or f"{existing} already exists; use --force" in real.stderr
        caflow("image", *line, *OPTIONS, "--dry-run", "--force", code=0)
    assert existing.read_bytes() == b"of the user"
    before = {path: path.read_bytes() for path in out.iterdir()}
    line = ["image", source, source.with_name("other.png"), "-o", out, "-n", 1, *OPTIONS]
    write_image(source.with_name("other.png"), read_image(source).rgb)
    finished, new = caflow(*line, "--dry-run").stdout.splitlines()
    assert finished == f"{source} → {out / source.name}: finished already, would be skipped"
    assert new.startswith(f"{source.with_name('other.png')} → {out / 'other.png'}: 48×32 → 192×128 in 1 tile ")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert len(caflow(*line, "--dry-run", "--force").stdout.splitlines()) == 3


def test_progress_is_said_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one progress line is printed for each tenth of the images."""
    monkeypatch.setattr(progress_reporter, "MIN_S", 0.0)
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(25):
        write_image(folder / f"{k:02}.png", photograph(DATA / "photographs", 0, 4, 4))
    plan, *lines = caflow("image", folder, "-o", tmp_path / "out", "-n", 1, *OPTIONS, code=0).stderr.splitlines()
    assert plan.startswith("25 images in 25 tiles of 1 sample; the largest, 4×4 → 16×16, requires about ")
    counts = [int(line.removesuffix(" s left").partition(" of 25 images, about ")[0]) for line in lines]
    assert 5 <= len(counts) <= 10
    assert counts == sorted(counts)


def test_a_bundle_without_measurements_opens(source: Path, tmp_path: Path, uncalibrated: Path) -> None:
    bundle = shutil.copytree(uncalibrated, tmp_path / "old.caflow", ignore=shutil.ignore_patterns(NAME))
    done = caflow("image", source, "-o", tmp_path / "out.png", "--model", bundle, "-n", 1, "--backend", "cpu", code=0)
    assert re.search(rf"in 1 tile of 1 sample, {MEMORY}\n", done.stderr)


def test_what_fits_by_its_header_may_not_fit(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bits and transparency require more memory. Both are known only after the file was read."""
    picture = read_image(source).rgb
    alpha = np.full(picture.shape[:2], 200, np.uint8)
    write_image(tmp_path / "alpha.png", picture, alpha)
    write_image(tmp_path / "deep.png", picture.astype(np.uint16) * 257)
    with load(TINY, "cpu", 1) as pipe:
        jobs = [ImageJob(tmp_path / f"{name}.png", tmp_path / "out.png", (), {}) for name in ("photo", "alpha", "deep")]
        plain, *more = (inspect_image(pipe, job, DrawOptions(1))[1].memory for job in jobs)
        assert min(more) > plain
        monkeypatch.setattr(estimates, "resident_memory", lambda: 0)
        short_of(monkeypatch, plain)
        inspect_image(pipe, jobs[0], DrawOptions(1))
        for job in jobs[1:]:
            with pytest.raises(TooLittleMemory):
                inspect_image(pipe, job, DrawOptions(1))


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_limit_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """The smallest limit of the group and its parents counts. Memory of cached files counts as available."""
    proc, root = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\nSwapFree: 0 kB\n")
    (proc / "self" / "status").write_text("Name: x\nVmSize: 100 kB\nVmHWM: 70 kB\nVmRSS: 50 kB\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    names = names if version == 1 else ("memory.max", "memory.current", "inactive_file")
    group = (root / "memory" if version == 1 else root) / "job" / "step"
    group.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("4:cpu,memory:/job/step\n" if version == 1 else "0::/job/step\n")
    for folder, limit in ((group, "max"), (group.parent, "5000000")):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text("3000000\n")
        (folder / "memory.stat").write_text(f"anon 1\n{names[2]} 500000\n")
    monkeypatch.setattr(available_memory, "PROC", proc)
    monkeypatch.setattr(available_memory, "CONTROL_GROUPS", root)
    group_limit = Available(2_500_000, "the limit of the control group (container)")
    assert available_memory.available_memory() == group_limit
    (group.parent / names[0]).write_text("max\n")
    machine = available_memory.available_memory()
    assert machine is not None
    assert machine.bytes == 8000 * 1024
    limits = "Limit  Soft  Hard  Units\nMax address space  1102400  unlimited bytes\n"
    (proc / "self" / "limits").write_text(limits)
    assert available_memory.available_memory() == Available(1_000_000, "ulimit -v")
    assert (available_memory.resident_memory(), available_memory.peak_memory()) == (50 * 1024, 70 * 1024)
