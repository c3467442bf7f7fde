"""Fixtures that need PyTorch or a compiler: checkpoints of small models, their bundles, and the built C++ runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cpp_data
import onnx
import pytest
import torch
from commands import command, in_a_process
from cpp_build import BUILD, MISSING, build
from made_once import made_once
from small_models import LEAST, OURS, small_model

from caflow_export.export import ExportReport, export
from caflow_export.export_options import ExportOptions
from caflow_export.to_onnx import GraphToTrace
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_training import checkpoint


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


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def saved(factory: pytest.TempPathFactory, name: str, changes: dict[str, Any], **stored: Any) -> Path:
    """Return the checkpoint of a small model, which is saved once for all tests."""

    def save(folder: Path) -> Path:
        torch.manual_seed(0)
        checkpoint.save(folder / f"{name}.pt", small_model(torch.float32, **changes), **stored)
        return folder / f"{name}.pt"

    return made_once(factory, name, save)


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint with two levels, ×4, a mean network whose features are used too, and variational dequantization."""
    return saved(tmp_path_factory, "ours", OURS)


@pytest.fixture(scope="session")
def exported(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Bundle of `ours`, for tests that also need the checkpoint. Do not change it.

    Tests of the runtime alone use `uncalibrated`, because the tracing of this bundle takes most of a minute.
    """
    return made_once(tmp_path_factory, "exported", lambda _: export(ours))


@pytest.fixture(scope="session")
def least(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint with one level, for export tests that fit any model. Its export takes a third of the time."""
    return saved(tmp_path_factory, "least", LEAST, training={"step": 7})


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


@pytest.fixture
def traced_before(least_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports of `least` take the graphs of its bundle. Tracing is most of the time that an export takes."""

    def graphs(to_trace: list[GraphToTrace], *_: object) -> Iterator[onnx.ModelProto]:
        return (onnx.load(least_exported / f"{graph.name}.onnx") for graph in to_trace)

    monkeypatch.setattr("caflow_export.export._traced", graphs)


@pytest.fixture(scope="session")
def exported_half(least_exported: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Bundle with networks in fp16, exported from the bundle `least_exported`. Do not change it."""
    half: PrecisionName = "fp16"
    return made_once(
        tmp_path_factory,
        "exported-half",
        lambda folder: export(least_exported, folder / "half.caflow", ExportOptions(half)),
    )
