"""The built-in models: the inverse of x4-photo never explodes, and x4-real knows noisy photographs."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import caflow, messages
from numpy.typing import NDArray
from PIL import Image
from tiny import photograph

import caflow_deploy
from caflow_deploy.images.image_files import read_image
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.pipeline.pipeline import Pipeline, load

ROOT = Path(__file__).parents[3]
BUNDLE = builtin.find_bundle("x4-photo")
PHOTOGRAPHS_OFF_BY, TEXTURE_OFF_BY, STRANGE_OFF_BY = 10.0, 64.0, 200.0
"""Largest allowed differences between 8×8 blocks of a sample and of the enlarged condition, in grey levels.

Measured: 7 for photographs, 52 for the finest texture of the test crops (benchmarks/hard_inputs.py), 49 for text and
checks, 159 for white noise, which the model has not learned. The difference of an exploding inverse has no bound."""


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with load(backend="cpu") as pipe:
        yield pipe


def test_a_bundle_may_have_the_name_of_a_built_in_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert builtin.names() == ["colour-hints", "inpaint-photo", "x2-video", "x4-photo", "x4-real"]
    monkeypatch.chdir(tmp_path)
    assert builtin.find_bundle("x4-photo") == BUNDLE
    assert builtin.find_bundle("x5-photo") == Path("x5-photo")
    Path("x4-photo").mkdir()
    assert builtin.find_bundle("x4-photo") == BUNDLE  # the folder has no manifest, so it is not a bundle
    (Path("x4-photo") / MANIFEST).touch()
    assert builtin.find_bundle("x4-photo") == Path("x4-photo")


def strange_images() -> dict[str, NDArray[np.uint8]]:
    """Return 16×16 images unlike any photograph, by name."""
    rng = np.random.default_rng(0)
    text = np.full((16, 16, 3), 255, np.uint8)
    cv2.putText(text, "Ab", (0, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
    checks = np.indices((16, 16)).sum(0) % 2
    return {
        "noise": rng.integers(0, 256, (16, 16, 3), np.uint8),
        "black": np.zeros((16, 16, 3), np.uint8),
        "white": np.full((16, 16, 3), 255, np.uint8),
        "red": np.tile(np.array([255, 0, 0], np.uint8), (16, 16, 1)),
        "text": text,
        "checks": np.repeat(255 * checks[..., None], 3, 2).astype(np.uint8),
        "half": np.where(np.arange(16)[:, None, None] < 8, 0, 255).repeat(16, 1).repeat(3, 2).astype(np.uint8),
    }


@pytest.mark.full
def test_ten_thousand_samples_stay_near_their_condition(pipe: Pipeline, photographs: Path) -> None:
    cat = read_image(ROOT / "docs" / "images" / "chelsea.png").rgb
    given = {f"photograph {k}": photograph(photographs, k, 16, 16) for k in range(13)}
    given |= {"photograph of a cat": cat[30:46, 40:56]}
    given |= {f"fur {y}, {x}": cat[y : y + 16, x : x + 16] for y in (0, 20, 40) for x in (10, 40, 80)}
    given |= strange_images()
    bounds = {"photograph": PHOTOGRAPHS_OFF_BY, "fur": TEXTURE_OFF_BY}
    count, n = 0, 50
    while count < 10_000:
        for seed, (name, image) in enumerate(given.items(), start=count):
            drawn = pipe.sample(image, n=n, temperature=1.0, seed=seed)
            assert np.isfinite(drawn.log_likelihood).all()
            large = cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC).astype(np.float64)
            blocks = (drawn.images[0].astype(np.float64) - large).reshape(n, 8, 8, 8, 8, 3)
            off_by = np.abs(blocks.mean((2, 4))).max()
            assert off_by < bounds.get(name.partition(" ")[0], STRANGE_OFF_BY), name
            count += n


SIDE, PHOTOGRAPHS = 128, 4
WARNING = "the sample is untypical and contradicts the input"
SIGMA = 8


def test_it_is_calibrated_and_closer_to_the_truth_of_noisy_photographs_than_x4_photo(photographs: Path) -> None:
    """Both models draw at their default temperature, the one that users get."""
    targets = [photograph(photographs, number, SIDE, SIDE) for number in range(PHOTOGRAPHS)]
    errors = {}
    for name in ("x4-photo", "x4-real"):
        rng = np.random.default_rng(0)
        with load(name, backend="cpu", threads=1) as pipe:
            assert pipe.calibration.photographs > 300
            clean = [pipe.consistency.degraded(target).astype(np.float64) for target in targets]
            noisy = [np.clip(np.rint(one + rng.normal(0, SIGMA, one.shape)), 0, 255).astype(np.uint8) for one in clean]
            results = pipe.best_of(noisy, n=1).images
        errors[name] = [
            float(np.square(np.subtract(a, b, dtype=np.float64)).mean()) for a, b in zip(results, targets, strict=True)
        ]
    assert all(real < 0.8 * photo for real, photo in zip(errors["x4-real"], errors["x4-photo"], strict=True)), errors


@pytest.mark.parametrize(("model", "is_warned"), [("x4-photo", True), ("x4-real", False)])
def test_a_dithered_photograph_is_unknown_to_one(
    model: str, is_warned: bool, photographs: Path, tmp_path: Path
) -> None:
    small = Image.fromarray(photograph(photographs, 0, 48, 48))
    small.save(tmp_path / "clean.png")
    small.convert("1").save(tmp_path / "dithered.png")
    names = [tmp_path / f"{name}.png" for name in ("clean", "dithered")]
    done = caflow("image", *names, "-o", tmp_path / "out", "--model", model, "-n", 1, "--json", code=0)
    clean, dithered = done.stdout.splitlines()
    assert WARNING not in clean
    assert (WARNING in dithered) is is_warned
    warned = [line for line in messages(done.stderr) if WARNING in line]
    assert [names[1].name in line and "such as x4-real" in line for line in warned] == [True] * is_warned


@pytest.mark.parametrize(("model", "inputs"), [("inpaint-photo", ["mask"]), ("colour-hints", [])])
def test_fillings_and_colours_have_no_verdict(model: str, inputs: list[str], photographs: Path, tmp_path: Path) -> None:
    """Typicality does not tell their good results from bad ones, as the models' cards show."""
    given, mask = tmp_path / "given.png", tmp_path / "mask.png"
    Image.fromarray(photograph(photographs, 0, 48, 48)).save(given)
    Image.fromarray(np.pad(np.full((12, 12), 255, np.uint8), 18)).save(mask)
    command = ["image", given, "--model", model, *(f"--{name}={mask}" for name in inputs), "-o", tmp_path / "out.png"]
    assert "typicality" not in caflow(*command, code=0).stdout
    report = json.loads(caflow(*command, "--force", "--json", code=0).stdout)
    assert report["sample_typicality"] is report["image_typicality"] is None
    refused = caflow(*command, "--force", "--min-typicality", 0.01, code=2)
    assert f"{model} is not calibrated, because typicality does not tell its good results" in refused.stderr
    result = caflow_deploy.draw(given, model=model, inputs=dict.fromkeys(inputs, mask))
    assert result.typicality is None
    assert "typicality" not in str(result)
