"""The benchmark for GPUs, on the CPU: everything in it that needs no GPU runs and is right; and floors of times."""

from pathlib import Path
from typing import Any

import gpu
import gpu_cases
import numpy as np
import pytest
import torch
from floors import work_of
from gpu_floors import Floor, Rates, Work
from gpu_onnx import RECORDINGS, Recorded
from torch.utils._python_dispatch import TorchDispatchMode

from caflow_export.export import ExportReport
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PROVIDERS
from caflow_runtime.bundle.reading import read_manifest
from caflow_training import checkpoint

CPU = torch.device("cpu")
RATES = Rates(dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 1e9), 1e9)
SIDE = 16


@pytest.fixture
def subject(least_exported: Path, exported_half: ExportReport, tmp_path: Path) -> gpu_cases.Subject:
    (tmp_path / "least-fp32.caflow").symlink_to(least_exported)
    (tmp_path / "least-fp16.caflow").symlink_to(exported_half.path)
    return gpu_cases.Subject("least", checkpoint.load(least_exported), CPU, 1, tmp_path, RATES)


def test_each_way_draws_the_samples_of_the_model(subject: gpu_cases.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SIDE", SIDE)
    monkeypatch.setattr(gpu, "SAMPLES", (2,))
    rows = list(gpu.small(subject))
    found = [(row["way"], row["precision"]) for row in rows]
    onnx_ways = ("onnxruntime", *RECORDINGS)
    assert found == [
        *(("published", "fp32"), ("batched", "fp32")),
        *(("transformed", precision) for precision in ("fp32", "bf16", "fp16")),
        *((way, precision) for precision in ("fp32", "fp16") for way in onnx_ways),
    ]
    for row in rows[2:]:
        limits = {"fp32": (1e-5, 1e-5), "bf16": (5e-2, 1e-2), "fp16": (5e-3, 1e-3)}[row["precision"]]
        assert row["pixel error"] < limits[0], row
        assert row["likelihood error"] < limits[1], row


class OneDevice(TorchDispatchMode):
    """Fails for an operation on tensors of several devices. The device `meta` alone would accept some of them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor) and value.ndim]
        assert len({tensor.device for tensor in tensors}) <= 1, func
        return func(*args, **(kwargs or {}))


def test_graphs_make_all_tensors_on_their_device(subject: gpu_cases.Subject) -> None:
    case = gpu_cases.Case.of(subject.model, SIDE, SIDE, 2, torch.device("meta"))
    for precision in gpu_cases.NAMES:
        run = gpu.in_pytorch(subject.model, case, precision)
        with torch.no_grad(), OneDevice():  # type: ignore[no-untyped-call]
            assert torch.as_tensor(run().pixels).is_meta


def test_results_are_those_of_the_recording(least_exported: Path) -> None:
    """The graph without a recording only tells the shapes of the results."""
    backend = OnnxRuntimeBound("onnxruntime", ProviderSessions(PROVIDERS["cpu"]), memory="cpu")
    path = least_exported / read_manifest(least_exported).graph("to_image").file.path
    pixels = backend.to_device(np.full((1, SIDE, SIDE, 3), 7.5, np.float32))
    zeros = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    wrong: Any = backend.to_device(zeros)
    recorded = Recorded(path, lambda _: {"integers": wrong}, None, {})
    for _ in range(2):
        assert (recorded({"pixels": pixels})["integers"].numpy() == 7).all()
        wrong.update_inplace(zeros)


def test_frames_are_measured_in_both_layouts(subject: gpu_cases.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "FRAME", (SIDE, 2 * SIDE))
    monkeypatch.setattr(gpu, "FRAME_SAMPLES", (1,))
    rows = list(gpu.frames(subject))
    assert [row["way"] for row in rows] == ["transformed", "transformed, NHWC"] * 3
    assert [row["floor ms"] for row in rows[::2]] == [row["floor ms"] for row in rows[1::2]]  # the work is the same


def test_floors_count_the_operations_that_the_manifest_counts(subject: gpu_cases.Subject, least_exported: Path) -> None:
    """Those of each graph in ONNX, and those of all of them in PyTorch."""
    manifest, samples = read_manifest(least_exported), 3
    counted = {
        graph.name: (1 if graph.name == "encode" else samples) * graph.operations_per_pixel * SIDE**2
        for graph in manifest.graphs
        if graph.name.startswith(("encode", "decode", "reverse"))
    }
    of_graphs = work_of(least_exported, manifest.model, samples, (SIDE, SIDE))
    assert {name: sum(work.operations.values()) for name, work in of_graphs.items()} == counted
    case = gpu_cases.Case.of(subject.model, SIDE, SIDE, samples, CPU)
    work = Work.of(gpu.in_pytorch(subject.model, case, "fp32"))
    assert work.operations == {torch.float32: sum(counted.values())}


def test_the_floor_is_the_larger_of_computing_and_memory_time() -> None:
    matrix = torch.ones(8, 8)
    work = Work.of(lambda: matrix @ matrix)
    assert work.floor(RATES) == Floor(2 * 8**3 / 1e9, "operations")
    assert work.floor(Rates({torch.float32: 1e12}, 1e9)) == Floor(3 * 4 * 8**2 / 1e9, "bytes")
