"""Bundles of models that are told how their input was degraded: the estimate, and what a user knows instead."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from c_library import CModel
from commands import caflow
from made_once import made_once
from numpy.typing import NDArray
from PIL import Image
from small_models import LEAST, planes
from test_degradations import aware_model
from tiny import photograph

from caflow_deploy.images.image_files import read_image, write_image
from caflow_export.export import export
from caflow_runtime.degradation import Degradation, known
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import load
from caflow_training import checkpoint
from caflow_training.model import CAFlow
from caflow_training.results import to_integers

pytestmark = pytest.mark.full

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Aware:
    """A model and its bundle."""

    model: CAFlow
    folder: Path


@pytest.fixture(scope="session")
def aware(tmp_path_factory: pytest.TempPathFactory) -> Aware:
    """A model whose estimates differ from image to image, and whose mean depends on them."""

    def write(folder: Path) -> Path:
        torch.manual_seed(0)
        model = aware_model(torch.float32, **LEAST)
        torch.nn.init.normal_(model.degradation_estimator.last.weight, std=0.1)
        torch.nn.init.constant_(model.degradation_estimator.last.bias, 0.4)
        checkpoint.save(folder / "aware.pt", model)
        return export(folder / "aware.pt").path

    folder = made_once(tmp_path_factory, "aware", write)
    return Aware(checkpoint.load(folder.with_suffix(".pt")), folder)


def expected(model: CAFlow, condition: Picture, degradation: NDArray[np.float32]) -> Picture:
    """Return the model's sample at temperature 0, if it is told this degradation."""
    with torch.no_grad():
        encoded = model.encode(planes(condition).float(), degradation=torch.from_numpy(degradation)[None])
        noise = {key: 0 * z for key, z in model.draw_noise(1, *encoded.prepared.shape[2:]).items()}
        return to_integers(model.decode(noise, encoded).images)[0].permute(1, 2, 0).numpy()


def estimated(model: Any, condition: Picture) -> NDArray[np.float32]:
    """Return the model's estimate for a condition."""
    with torch.no_grad():
        found: torch.Tensor = model.degradation_estimator(planes(condition).float()).clamp(0, 1)[0]
        return found.numpy()


def test_the_estimate_is_that_of_the_model(aware: Aware, photographs: Path) -> None:
    condition = photograph(photographs, 0, 12, 16)
    told = estimated(aware.model, condition)
    with load(aware.folder, "cpu", 1) as pipe:
        drawn = pipe.best_of(condition, n=1, temperature=0.0)
        found: Any = pipe.runner.degradations([condition])
        np.testing.assert_allclose(found[0], told, atol=1e-5)
    np.testing.assert_allclose(drawn.images[0], expected(aware.model, condition, told), atol=1)
    other = expected(aware.model, condition, np.zeros_like(told))
    assert np.abs(drawn.images[0].astype(int) - other).max() > 5, "the estimate should change the image"


def test_all_tiles_are_told_the_degradation_of_the_whole_image(aware: Aware, photographs: Path) -> None:
    """Their overlap is larger than the field of view of this model, so that tiles change nothing else."""
    condition = np.ascontiguousarray(photograph(photographs, 0, 40, 200))
    condition[:, :100] = 128  # an estimate of the left part alone would be another one
    with load(aware.folder, "cpu", 1) as whole, load(aware.folder, "cpu", 1, tiling=Tiling(2**13, 40)) as tiled:
        assert len(tiled.tiles(condition)) > 1
        expected, found = (pipe.best_of(condition, n=1, temperature=0.0) for pipe in (whole, tiled))
        np.testing.assert_allclose(found.images[0], expected.images[0], atol=1)
        scored = [pipe.score(expected.images[0], condition).bits_per_dim[0] for pipe in (whole, tiled)]
        assert scored[1] == pytest.approx(scored[0], abs=0.01)


def test_known_values_replace_their_group_of_the_estimate(aware: Aware, photographs: Path) -> None:
    condition = photograph(photographs, 0, 12, 16)
    told = estimated(aware.model, condition)
    told[0] = Degradation(blur_sigma=3.0).vector()[0]
    told[1:5] = Degradation(noise_sigma=6.0).vector()[1:5]
    with load(aware.folder, "cpu", 1, assume={"blur": 3, "noise": 6}) as pipe:
        found: Any = pipe.runner.degradations([condition])
        np.testing.assert_allclose(found[0], told, atol=1e-5)
        drawn = pipe.best_of(condition, n=1, temperature=0.0)
        on_device = pipe.run(condition[None], 1, 0.0)
    np.testing.assert_allclose(drawn.images[0], expected(aware.model, condition, told), atol=1)
    np.testing.assert_array_equal(np.from_dlpack(on_device.images)[0], drawn.images[0])


@pytest.mark.usefixtures("built_cpp")
def test_cpp_estimates_the_degradation_as_python_does(aware: Aware, photographs: Path) -> None:
    conditions = [photograph(photographs, 0, 12, 16), photograph(photographs, 1, 20, 160)]
    with load(aware.folder, "cpu", 1) as pipe, CModel(aware.folder) as model:
        for condition in conditions:
            expected, (found,) = pipe.best_of(condition, n=2), model.best_of([condition], n=2)
            np.testing.assert_allclose(found.rgb, expected.images[0], atol=1)
            assert found.log_likelihood == pytest.approx(expected.log_likelihood[0], rel=1e-5)


def test_the_command_tells_the_model_what_the_user_and_the_file_say(
    aware: Aware, photographs: Path, tmp_path: Path
) -> None:
    image = photograph(photographs, 0, 24, 32)
    Image.fromarray(image).save(tmp_path / "in.jpg", quality=60)
    given = ["image", tmp_path / "in.jpg", "--model", aware.folder, "-n", 1, "--json", "--force"]
    by_file = json.loads(caflow(*given, "-o", tmp_path / "file.png", code=0).stdout)["degradation"]
    assert by_file["jpeg"] == pytest.approx(60, abs=0.01)
    told = ["--assume", "blur=2", "--assume", "noise=3", "--assume", "jpeg=80"]
    by_user = json.loads(caflow(*given, *told, "-o", tmp_path / "user.png", code=0).stdout)["degradation"]
    assert {name: by_user[name] for name in ("blur", "noise", "jpeg")} == pytest.approx(
        {"blur": 2, "noise": 3, "jpeg": 80}, abs=0.01
    )
    assert by_user["video"] == pytest.approx(by_file["video"], abs=0.01)
    with load(aware.folder, "cpu", 1, assume={"blur": 2, "noise": 3, "jpeg": 80}) as pipe:
        expected = pipe.best_of(read_image(tmp_path / "in.jpg").rgb, n=1)
    np.testing.assert_array_equal(read_image(tmp_path / "user.png").rgb, expected.images[0])
    assert (read_image(tmp_path / "file.png").rgb != expected.images[0]).any()


def test_what_the_user_says_is_a_setting_of_the_job(aware: Aware, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", photograph(photographs, 0, 12, 16))
    given = ["image", tmp_path / "in", "--model", aware.folder, "-n", 1, "-o", tmp_path / "out"]
    caflow(*given, "--assume", "blur=1", code=0)
    assert "already complete" in caflow(*given, "--assume", "blur=1", code=0).stdout
    assert "--assume blur 1" in caflow(*given, "--assume", "blur=2", code=2).stderr
    assert "already complete" not in caflow(*given, code=2).stdout
    refused = caflow(*given, "--model", "x4-photo", "--assume", "noise=1", code=2)
    assert "--assume is for models that are told how their input was degraded" in refused.stderr


@pytest.mark.parametrize(
    ("assume", "message"),
    [
        ({"noise": -1}, "noise must be from 0 to 50; got -1"),
        ({"blur": float("nan")}, "blur must be from 0 to 10; got nan"),
        ({"grain": 1}, "expected values for blur, noise, jpeg, video; got 'grain'"),
    ],
)
def test_impossible_known_values_are_refused(assume: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        known(assume)


def test_a_model_that_does_not_use_the_degradation_refuses_known_values(uncalibrated: Path) -> None:
    with pytest.raises(InputError, match="is not told how its input was degraded"):
        load(uncalibrated, "cpu", 1, assume={"noise": 5})
    with load(uncalibrated, "cpu", 1) as pipe:
        assert pipe.runner.degradations([np.zeros((8, 8, 3), np.uint8)]) is None
