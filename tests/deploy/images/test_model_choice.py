"""`caflow image` without `--model`: which model is chosen for each image, and that one folder may use several."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import caflow, command, json_lines, json_lines_of, messages
from many import started, wait_for_lines
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tiny import photograph

from caflow_deploy.images import model_choice
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.image_headers import header_of_file
from caflow_deploy.images.model_choice import (
    MIN_QUALITY,
    MODELS,
    Estimate,
    ModelChoice,
    choose_model,
    jpeg_quality,
)
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_runtime.bundle.builtin import MODELS as FOLDER
from caflow_runtime.pipeline.pipeline import load

PHOTO, REAL = MODELS
CLEAN = ModelChoice(PHOTO, "no damage was found")
LOW = MIN_QUALITY - 15

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clean(photographs: Path) -> Picture:
    """A photograph of 40×56 pixels, reduced as x4-photo expects it."""
    large = Image.fromarray(photograph(photographs, 0, 160, 224))
    return np.asarray(large.resize((56, 40), Image.Resampling.BICUBIC))


def noisy(picture: Picture, sigma: float = 8) -> Picture:
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def write_both(folder: Path, clean: Picture) -> list[str]:
    """Write a folder with images for both models. Return the model of each, in the order of their names."""
    folder.mkdir()
    Image.fromarray(clean).save(folder / "a.jpg", quality=LOW)
    Image.fromarray(clean).save(folder / "b.png")
    Image.fromarray(noisy(clean)).save(folder / "c.png")
    Image.fromarray(clean).save(folder / "d.jpg", quality=100, subsampling=0)
    return [REAL, PHOTO, REAL, PHOTO]


def models_of(lines: list[dict[str, Any]]) -> list[str]:
    return [line["model"] for line in sorted(lines, key=lambda line: str(line["input"]))]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quality_of_a_jpeg_is_that_it_was_written_with(options: dict[str, Any], mode: str, tmp_path: Path) -> None:
    for quality in (*range(1, 100, 7), 99, 100):
        Image.new(mode, (16, 16)).save(tmp_path / "in.jpg", quality=quality, **options)
        header = header_of_file(tmp_path / "in.jpg")
        assert header is not None
        assert jpeg_quality(header.quantization) == quality


@pytest.fixture(scope="module")
def estimate() -> Iterator[Estimate]:
    with load(REAL, backend="cpu") as pipe:
        yield pipe.degradation


def save(path: Path, picture: Picture, mode: str, **options: Any) -> None:
    """Save a picture in one of Pillow's modes, with `16 bits`, `once JPEG`, or `blurred`."""
    if mode == "16 bits":
        write_image(path, picture * np.uint16(257))
    elif mode == "once JPEG":
        Image.fromarray(picture).save(path, "JPEG", quality=LOW)
        Image.open(BytesIO(path.read_bytes())).save(path)
    elif mode == "blurred":
        Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1)).save(path)
    else:
        Image.fromarray(picture).convert(mode).save(path, **options)


LOW_QUALITY, COMPRESSED = f"it is a JPEG of quality {LOW}", "it shows traces of compression"


@pytest.mark.parametrize(
    ("name", "mode", "options", "reason"),
    [
        ("in.jpg", "RGB", {"quality": LOW}, LOW_QUALITY),
        ("in.png", "RGB", {"quality": LOW, "format": "JPEG"}, LOW_QUALITY),
        ("in.jpg", "RGB", {"quality": LOW, "progressive": True}, LOW_QUALITY),
        ("in.jpg", "CMYK", {"quality": LOW}, LOW_QUALITY),
        ("in.jpg", "RGB", {"quality": 92}, "it is a JPEG of quality 92"),
        ("in.jpg", "L", {"quality": 92}, None),
        ("in.jpg", "L", {"quality": 70}, "it is a JPEG of quality 70"),
        ("in.jpg", "RGB", {"quality": 100, "subsampling": 0}, None),
        ("in.tiff", "RGB", {"quality": LOW, "compression": "jpeg"}, COMPRESSED),
        ("in.webp", "RGB", {"quality": 30}, COMPRESSED),
        ("in.avif", "RGB", {"quality": 40}, COMPRESSED),
        ("in.png", "once JPEG", {}, COMPRESSED),
        ("in.png", "blurred", {}, "it looks blurred"),
        ("in.bmp", "RGB", {}, None),
        ("in.png", "L", {}, None),
        ("in.png", "16 bits", {}, None),
        ("in.tiff", "16 bits", {}, None),
        ("in.png", "RGBA", {}, None),
    ],
)
def test_the_model_is_chosen_by_the_quality_of_a_jpeg_and_by_the_pixels_of_every_format(
    name: str,
    mode: str,
    options: dict[str, Any],
    reason: str | None,
    clean: Picture,
    estimate: Estimate,
    tmp_path: Path,
) -> None:
    save(tmp_path / name, clean, mode, **options)
    found = choose_model(tmp_path / name, estimate)
    assert found == CLEAN if reason is None else (found.model == REAL and found.reason.startswith(reason))
    save(tmp_path / name, noisy(clean, 16), mode, **options)
    assert choose_model(str(tmp_path / name), estimate).model == REAL


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", 2], marks=pytest.mark.full)])
def test_one_folder_uses_both_models(workers: list[object], clean: Picture, tmp_path: Path) -> None:
    """Each result is that of its model."""
    expected = write_both(tmp_path / "in", clean)
    given = ["image", tmp_path / "in", "-n", 2, "--maps", "--json"]
    done = caflow(*given, "-o", tmp_path / "out", *workers, code=0)
    assert [line.partition(",")[0] for line in messages(done.stderr)[:2]] == [f"{name}: 2 images" for name in MODELS]
    lines = json_lines_of(tmp_path / "out" / RESULTS)
    assert models_of(json_lines(done.stdout)) == models_of(lines) == expected
    assert {line["model_because"] for line in lines if line["model"] == PHOTO} == {CLEAN.reason}
    for name in MODELS:
        named = caflow(*given, "-o", tmp_path / name, "--model", name, code=0)
        assert messages(named.stderr) == []
        assert models_of(json_lines(named.stdout)) == [name] * 4
        assert "model_because" not in named.stdout
    results = [path for path in (tmp_path / "out").iterdir() if path.suffix in (".jpg", ".png")]
    assert len(results) == 4 * 6
    for path in results:
        name = dict(zip("abcd", expected, strict=True))[path.name[0]]
        assert path.read_bytes() == (tmp_path / name / path.name).read_bytes(), path


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", 1], marks=pytest.mark.full)])
def test_a_job_that_is_killed_keeps_its_choices(workers: list[object], clean: Picture, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(6):
        Image.fromarray(noisy(clean) if k % 2 else clean).save(tmp_path / "in" / f"{k}.png")
    out = tmp_path / "out"
    run = command("image", tmp_path / "in", "-o", out, "-n", 4, "--json", *workers)
    with started(run, tmp_path) as process:
        wait_for_lines(process, tmp_path, out / RESULTS, 4)  # three of x4-photo, one of x4-real
        process.kill()
        process.wait()
    before = json_lines_of(out / RESULTS)
    assert len(before) < 6
    again = caflow(*run[3:], code=0)
    lines = json_lines_of(out / RESULTS)
    assert lines[: len(before)] == before
    assert len(json_lines(again.stdout)) == 6 - len(before)
    assert models_of(lines) == [PHOTO, REAL] * 3


def test_a_finished_image_keeps_its_model(clean: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_both(tmp_path / "in", clean)
    given = ["image", tmp_path / "in", "-o", tmp_path / "out", "-n", 1, "--json"]
    caflow(*given, code=0)
    (tmp_path / "out" / "c.png").unlink()
    monkeypatch.setattr(model_choice, "MAX_NOISE", 1e9)
    monkeypatch.setattr(model_choice, "MAX_BLUR", 1e9)
    monkeypatch.setattr(model_choice, "MIN_QUALITY", 1)
    monkeypatch.setattr(model_choice, "MIN_GREY_QUALITY", 1)
    again = json_lines(caflow(*given, code=0).stdout)
    assert [(Path(line["input"]).name, line["model"]) for line in again] == [("c.png", PHOTO)]
    assert models_of(json_lines_of(tmp_path / "out" / RESULTS)) == [*expected[:2], PHOTO, *expected[3:]]
    assert "already complete" in caflow(*given, code=0).stderr


def test_a_job_with_another_bundle_is_refused(clean: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the working directory with the name of a built-in model is used in its place."""
    monkeypatch.chdir(tmp_path)
    write_both(tmp_path / "in", clean)
    given = ["image", "in", "-o", "out", "-n", 1]
    caflow(*given, code=0)
    assert "the model or its choice (--model) has changed; " in caflow(*given, "--model", PHOTO, code=2).stderr
    for name in MODELS:
        shutil.copytree(FOLDER / f"{name}.caflow", tmp_path / name)
        (tmp_path / name / "calibration.json").unlink()
        said = "the model has changed; " if name == PHOTO else "the model or its choice (--model) has changed; "
        assert said in caflow(*given, code=2).stderr
        assert said in caflow(*given, "--dry-run", code=2).stderr
        shutil.rmtree(tmp_path / name)
    assert "already complete" in caflow(*given, code=0).stdout


@pytest.mark.parametrize("shape", [(1, 1), (4, 300), (64, 64), (2100, 21)])
def test_an_image_of_any_size_has_a_model(shape: tuple[int, int], estimate: Estimate, tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", np.full((*shape, 3), 128, np.uint8))
    assert choose_model(tmp_path / "in.png", estimate).model in MODELS
