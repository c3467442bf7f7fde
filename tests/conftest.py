"""Fixtures: small models with random weights, their bundles, the built C++ runtime, and fixtures of other modules."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cpp_data
import numpy as np
import pytest
import torch
from commands import command, in_a_process
from cpp_build import BUILD, MISSING, build
from filelock import FileLock
from gpus import cache_folder, pytest_collection_modifyitems
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from tiny import calibrated, photographs, pipe, uncalibrated

from caflow_export.export import ExportReport, export
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise
from caflow_training import checkpoint
from caflow_training.completion_tasks import ColorHints, MaskedInpainting
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.tasks import SuperResolution

__all__ = [  # fixtures and a hook, which pytest finds here
    "cache_folder",
    "calibrated",
    "photographs",
    "pipe",
    "pytest_collection_modifyitems",
    "uncalibrated",
]

# No limits on time, which a busy machine would exceed.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

Made = TypeVar("Made")
OURS = {
    "levels": 2,
    "target_steps": 1,
    "own_steps": 1,
    "residual": True,
    "mean_blocks": 1,
    "mean_width": 8,
    "mean_features": 4,
    "log_scale_bound": 1.0,
    "dequantization_steps": 1,
    "task": SuperResolution(scale=4),
}
COMPLETING: dict[str, Any] = {
    "levels": 1,
    "target_steps": 1,
    "own_steps": 1,
    "residual": True,
    "mean_blocks": 1,
    "mean_depth": 2,
    "mean_width": 4,
    "mean_features": 4,
}
LEAST = {"levels": 1, "target_steps": 1, "own_steps": 1, "residual": True, "task": SuperResolution(scale=2)}


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """Return the result of `make`, called with a folder of this name. With pytest-xdist, only one worker calls `make`.

    The other workers wait, and receive a copy of the result.
    """
    of_this_worker = factory.getbasetemp()
    folder = (of_this_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_this_worker) / name
    kept = folder / "made.pickle"
    with FileLock(f"{folder}.lock"):
        if not kept.exists():
            folder.mkdir(exist_ok=True)
            kept.write_bytes(pickle.dumps(make(folder)))
        made: Made = pickle.loads(kept.read_bytes())
    return made


@pytest.fixture(scope="session")
def cpp_test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the bundles and expected values for the C++ tests."""

    def write(folder: Path) -> Path:
        cpp_data.write(folder / "data")
        return folder / "data"

    return made_once(tmp_path_factory, "cpp-data", write)


@pytest.fixture(scope="session")
def built_cpp(cpp_test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder of the C++ runtime."""
    if MISSING:
        pytest.skip(f"not installed (.ci/packages): {' '.join(MISSING)}")
    return made_once(tmp_path_factory, "cpp-build", lambda _: build(BUILD, cpp_test_data))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of clips of 32×16 pixels and about a second, and of files that are not videos. Do not change it."""
    from clips import make_clips  # here, because tests without videos require neither PyAV nor FFmpeg

    return made_once(tmp_path_factory, "clips", make_clips)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video with B-frames and several key frames, sound, subtitles and chapters. Do not change it."""
    from clips import make_clip  # here for the same reason

    return made_once(tmp_path_factory, "clip", make_clip)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint with two levels, ×4, a mean network whose features are used too, and variational dequantization."""

    def save(folder: Path) -> Path:
        torch.manual_seed(0)
        checkpoint.save(folder / "model.pt", small_model(torch.float32, **OURS))
        return folder / "model.pt"

    return made_once(tmp_path_factory, "ours", save)


@pytest.fixture(scope="session")
def exported(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Bundle of `ours`, for tests that also need the checkpoint. Do not change it.

    Tests of the runtime alone use `uncalibrated`, because the tracing of this bundle takes most of a minute.
    """
    return made_once(tmp_path_factory, "exported", lambda _: export(ours))


@pytest.fixture(scope="session")
def least(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint with one level, for export tests that fit any model. Its export takes a third of the time."""

    def save(folder: Path) -> Path:
        torch.manual_seed(0)
        checkpoint.save(folder / "least.pt", small_model(torch.float32, **LEAST), training={"step": 7})
        return folder / "least.pt"

    return made_once(tmp_path_factory, "least", save)


@pytest.fixture(scope="session")
def least_exported(least: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of `least`, written by `caflow-export` in a new process, as users run it. Do not change it."""

    def write(_: Path) -> Path:
        done = in_a_process(command(least, package="caflow_export"))
        bundle = least.with_suffix(".caflow")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(bundle))
        return bundle

    return made_once(tmp_path_factory, "least-exported", write)


@pytest.fixture(scope="session")
def completing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles, by task, of models that complete images: masked-inpainting and color-hints. Do not change them."""

    def write(folder: Path) -> dict[str, Path]:
        torch.manual_seed(0)
        bundles: dict[str, Path] = {}
        for task in (MaskedInpainting(), ColorHints()):
            checkpoint.save(folder / f"{task.task}.pt", small_model(torch.float32, **COMPLETING, task=task))
            bundles[task.task] = export(folder / f"{task.task}.pt").path
        return bundles

    return made_once(tmp_path_factory, "completing", write)


@pytest.fixture(scope="session")
def exported_half(least_exported: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Bundle with networks in fp16, exported from the bundle `least_exported`. Do not change it."""
    half: PrecisionName = "fp16"
    return made_once(
        tmp_path_factory, "exported-half", lambda folder: export(least_exported, folder / "half.caflow", half)
    )


def torch_noise(
    noise_channels: list[list[int]], height: int, width: int, samples: NDArray[np.int64], seed: int
) -> dict[tuple[int, int], torch.Tensor]:
    """Return the runtime's noise in the form that `CAFlow.sample` expects: one tensor for each block (i, j)."""
    blocks: dict[tuple[int, int], torch.Tensor] = {}
    for j, channels in enumerate(noise_channels):
        cell = 2 ** (len(noise_channels) - j + 1)
        z = torch.from_numpy(
            draw_window_noise(channels, j, NoiseWindow(0, 0, height // cell, width // cell, tuple(samples)), seed)
        )
        blocks |= {(j + k, j): part for k, part in enumerate(z.split(channels, 1))}
    return blocks


def stir(module: torch.nn.Module, amount: float = 0.1) -> None:
    """Add noise to every parameter. New layers are the identity, which would hide errors."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))


def small_model(dtype: torch.dtype = torch.float64, **changes: object) -> CAFlow:
    """Return a model with few parameters, all of them moved away from their initial values."""
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
