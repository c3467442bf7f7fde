"""Fixtures: the photographs and reference files of the repository, and small models with weights that do something."""

import shutil
import socket
from pathlib import Path

import cpp_data
import cv2
import numpy as np
import pytest
import torch
from cpp_build import BUILD, MISSING, build
from numpy.typing import NDArray

from caflow_export.export import ExportReport, export
from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.backends.onnx_runtime import check_installed
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.noise import Place, draw_noise
from caflow_runtime.jobs.calibrate import CROPS, Pair, calibrate, find_photographs, pairs_of
from caflow_runtime.judge.calibration import Calibration, write_calibration
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.tasks import SuperResolution

DATA = Path(__file__).parent / "data"
CALIBRATED_SIDES, CALIBRATED_TEMPERATURE = (16, 32), 0.8
OURS = {
    "levels": 2,
    "residual": True,
    "mean_blocks": 1,
    "mean_width": 8,
    "mean_features": 4,
    "log_scale_bound": 1.0,
    "dequantization_steps": 1,
    "task": SuperResolution(scale=4),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if first_gpu() is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


@pytest.fixture(scope="session")
def onnxruntime_cuda() -> None:
    """Skips where ONNX Runtime's package for GPUs is not installed: it cannot be beside the other one."""
    try:
        check_installed("cuda")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cpp_test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the C++ tests are held against."""
    folder = tmp_path_factory.mktemp("cpp") / "data"
    cpp_data.write(folder)
    return folder


@pytest.fixture(scope="session")
def built_cpp(cpp_test_data: Path) -> Path:
    """The build folder of the C++ runtime."""
    if MISSING:
        pytest.skip(f"not installed (.ci/packages): {' '.join(MISSING)}")
    return build(BUILD, cpp_test_data)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of 13 CC0 photographs."""
    return DATA / "photographs"


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint: two levels, ×4, residual to a mean network whose features are seen, variational dequantization."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("ours") / "model.pt"
    checkpoint.save(path, small_model(torch.float32, **OURS))
    return path


@pytest.fixture(scope="session")
def exported(ours: Path) -> ExportReport:
    """Its bundle: tracing takes most of a minute, so all tests share it. Do not change it."""
    return export(ours)


@pytest.fixture(scope="session")
def exported_half(ours: Path) -> ExportReport:
    """The same with networks in fp16."""
    return export(ours, ours.with_name("half.caflow"), precision="fp16")


@pytest.fixture(scope="session")
def calibrated(exported: ExportReport, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that bundle, calibrated with the repository's photographs. Do not change it."""
    folder = tmp_path_factory.mktemp("calibrated") / "model.caflow"
    shutil.copytree(exported.path, folder)
    with load(folder, backend="cpu") as pipe:
        write_calibration(folder, calibration_of(pipe, photographs))
    return folder


def calibration_of(pipe: Pipeline, folder: Path) -> Calibration:
    """What is typical of small crops of the photographs in a folder."""
    return calibrate(pipe, pairs_of_photographs(pipe, folder), [CALIBRATED_TEMPERATURE])


def pairs_of_photographs(pipe: Pipeline, folder: Path, each: int = 2 * CROPS) -> list[Pair]:
    """So many crops of each photograph, the largest ones, with their conditions."""
    model = pipe.manifest.model
    return [p for path in find_photographs(folder) for p in pairs_of(path, folder, model, CALIBRATED_SIDES)[-each:]]


def free_port() -> int:
    """Of the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def listening(port: int) -> set[str]:
    """Addresses at which something listens on that port, by IPv4 or IPv6, as Linux writes them."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    is_listening = "0A"
    ends = [row[1].split(":") for row in rows if row[3] == is_listening]
    return {address for address, number in ends if int(number, 16) == port}


def photograph(folder: Path, number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A window of a photograph, (height, width, 3) uint8 RGB."""
    image = cv2.imread(str(sorted(folder.glob("*.jpg"))[number]), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.ascontiguousarray(image[100 : 100 + height, 200 : 200 + width]).astype(np.uint8)


def torch_noise(
    noise_channels: list[list[int]], height: int, width: int, samples: NDArray[np.int64], seed: int
) -> dict[tuple[int, int], torch.Tensor]:
    """The runtime's noise as `CAFlow.sample` takes it."""
    blocks: dict[tuple[int, int], torch.Tensor] = {}
    for j, channels in enumerate(noise_channels):
        cell = 2 ** (len(noise_channels) - j + 1)
        z = torch.from_numpy(draw_noise(channels, j, Place(0, 0, height // cell, width // cell, tuple(samples)), seed))
        blocks |= {(j + k, j): part for k, part in enumerate(z.split(channels, 1))}
    return blocks


def stir(module: torch.nn.Module, amount: float = 0.1) -> None:
    """Move every parameter, so that no layer is the identity that it starts as."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))


def small_model(dtype: torch.dtype = torch.float64, **changes: object) -> CAFlow:
    """A model of few, stirred parameters."""
    small = {
        "levels": 3,
        "condition_steps": 1,
        "target_steps": 2,
        "own_steps": 2,
        "cross_steps": 1,
        "image_width": 8,
        "conditional_width": 8,
    }
    model = CAFlow(CAFlowConfig(**{**small, **changes}))  # type: ignore[arg-type]
    stir(model, 0.02)
    return model.to(dtype).eval()
