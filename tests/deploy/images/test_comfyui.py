"""The nodes for ComfyUI, loaded and called as ComfyUI does it. ComfyUI itself is on no package index."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from commands import caflow, json_lines, score_report
from numpy.typing import NDArray
from tiny import photograph

from caflow_deploy.images.image_files import read_image, write_image

FOLDER = Path(__file__).parents[3] / "integrations" / "comfyui"
OPTIONS = {"n": 3, "temperature": 0.7, "seed": 5}


@pytest.fixture(scope="module")
def nodes() -> ModuleType:
    """Module of the nodes, imported as ComfyUI imports a folder of `custom_nodes`."""
    spec: Any = importlib.util.spec_from_file_location("caflow_nodes", FOLDER / "__init__.py")
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["caflow_nodes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(photographs: Path, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, path in enumerate(paths):
        write_image(path, photograph(photographs, number, 9, 13))
    return paths


def loaded(*paths: Path) -> torch.Tensor:
    """Return images in the form of the node *Load Image*, (N, H, W, 3) float32 from 0 to 1."""
    return torch.stack([torch.from_numpy(read_image(path).rgb.astype(np.float32) / 255.0) for path in paths])


def saved(images: torch.Tensor) -> NDArray[np.uint8]:
    """Return images as the node *Save Image* writes them, (N, H, W, 3) uint8."""
    return np.clip(255.0 * images.numpy(), 0, 255).astype(np.uint8)


def run(nodes: ModuleType, name: str, **inputs: Any) -> Any:
    """Run a node with values for all inputs that it declares, and return its outputs, one for each declared output."""
    kind = nodes.NODE_CLASS_MAPPINGS[name]
    assert name in nodes.NODE_DISPLAY_NAME_MAPPINGS
    taken = kind.INPUT_TYPES()["required"]
    for option, value in OPTIONS.items():
        if option in taken:
            assert taken[option][1]["min"] <= value <= taken[option][1]["max"]
            inputs[option] = value
    if "rank" in taken:
        inputs["rank"] = taken["rank"][0][0]
    assert taken.keys() <= inputs.keys() <= taken.keys() | kind.INPUT_TYPES().get("optional", {}).keys()
    outputs = getattr(kind(), kind.FUNCTION)(**inputs)
    assert len(outputs) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES) == len(kind.OUTPUT_IS_LIST)
    return outputs


def test_results_are_the_commands(nodes: ModuleType, uncalibrated: Path, files: list[Path], tmp_path: Path) -> None:
    best, samples, bits = run(nodes, "CaflowEnlarge", image=loaded(*files), model=str(uncalibrated))
    options = [f"-n{OPTIONS['n']}", *(f"--{name}={value}" for name, value in OPTIONS.items() if name != "n")]
    given = [*files, "-o", tmp_path / "out", "--model", uncalibrated]
    reports = json_lines(caflow("image", *given, *options, "--keep-all", "--json", code=0).stdout)
    assert best.dtype == torch.float32
    for k, name in enumerate(("a", "b")):
        np.testing.assert_array_equal(saved(best)[k], read_image(tmp_path / "out" / f"{name}.png").rgb)
        for rank, suffix in enumerate(("", "-2", "-3")):
            expected = read_image(tmp_path / "out" / f"{name}{suffix}.png").rgb
            np.testing.assert_array_equal(saved(samples)[3 * k + rank], expected)
        assert bits[3 * k] == pytest.approx(reports[k]["bits_per_dim"], rel=1e-6)


def test_scores_are_those_of_the_command(
    nodes: ModuleType, uncalibrated: Path, calibrated: Path, files: list[Path], tmp_path: Path
) -> None:
    made, _, _ = run(nodes, "CaflowEnlarge", image=loaded(*files), model=str(calibrated))
    write_image(tmp_path / "large.png", saved(made)[1])
    bits, typicality = run(nodes, "CaflowScore", target=made, condition=loaded(*files), model=str(calibrated))
    expected = score_report(tmp_path / "large.png", files[1], calibrated)
    assert bits[1] == pytest.approx(expected["bits_per_dim"], rel=1e-6)
    assert typicality[1] == pytest.approx(expected["image_typicality"], rel=1e-6)
    _, unknown = run(nodes, "CaflowScore", target=made, condition=loaded(*files), model=str(uncalibrated))
    assert all(map(math.isnan, unknown))


def test_a_mask_is_filled(nodes: ModuleType, completing: dict[str, Path], photographs: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", photograph(photographs, 0, 24, 40))
    image, mask = loaded(tmp_path / "in.png"), torch.zeros(1, 24, 40)
    mask[:, 3:9, 10:20] = 1
    best, _, _ = run(nodes, "CaflowEnlarge", image=image, mask=mask, model=str(completing["masked-inpainting"]))
    changed = (saved(best) != saved(image)).any(3)[0]
    assert changed[3:9, 10:20].any()
    changed[3:9, 10:20] = False
    assert not changed.any()
