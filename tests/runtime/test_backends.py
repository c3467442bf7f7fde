"""Backends: the requested one is used, or an error says what to install, and results are those of ONNX Runtime."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import in_a_process
from gpus import Watched, bound_to_cpu, require
from tiny import edited, photograph

from caflow_deploy.health.doctor import check_bundle
from caflow_runtime.available_memory import resident_memory
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.backends.parity import check_once
from caflow_runtime.backends.select import open_backend
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.level_chain import Array, Arrays
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *packages: str, only: bool = False) -> None:
    """Make these packages appear as installed. With `only`, no other package appears as installed."""
    for package in packages:
        name = f"{package.replace('-', '_')}-1.31.0.dist-info"
        (folder / name).mkdir()
        (folder / name / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.31.0\n")
    monkeypatch.setattr(sys, "path", [str(folder)] if only else [str(folder), *sys.path])


def test_two_onnx_runtimes_at_once_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "onnxruntime-gpu")
    for name in ("cpu", "cuda", "auto"):
        with pytest.raises(BackendError, match=r"are both installed .* pip uninstall -y onnxruntime onnxruntime-gpu"):
            open_backend(name, tmp_path)


def test_cuda_is_never_the_cpu(uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend cuda fails with the package for the CPU, and with a package for GPUs that cannot use CUDA."""
    import_onnxruntime()  # import it before the package is hidden below
    with pytest.raises(BackendError, match=r"onnxruntime has no CUDAExecutionProvider; .* 'caflow-deploy\[gpu\]'"):
        load(uncalibrated, backend="cuda")
    install(tmp_path, monkeypatch, "onnxruntime-gpu", only=True)
    with pytest.raises(BackendError, match="onnxruntime-gpu has no CUDAExecutionProvider; it has"):
        load(uncalibrated, backend="cuda")


def test_a_provider_that_fails_is_not_replaced_by_the_cpu(
    uncalibrated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime would print the error, and try again with the CPU."""

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(import_onnxruntime().InferenceSession, "_create_inference_session", fail)
    with pytest.raises(MemoryError, match="onnxruntime cpu cannot load this graph: CUDA failure 2: out of memory"):
        Graphs(uncalibrated, OnnxRuntimeCpu())["encode"]
    assert capsys.readouterr().out == ""


def test_values_that_are_bound_to_device_memory_give_the_same_results(uncalibrated: Path, photographs: Path) -> None:
    """Values stay bound to device memory between graphs, as on a GPU. Here the CPU is the device."""
    pipes = [Pipeline(Graphs(uncalibrated, backend), Tiling()) for backend in (OnnxRuntimeCpu(), bound_to_cpu())]
    condition = photograph(photographs, 0, 9, 12)
    a, b = (pipe.best_of(condition, n=4, keep=(4, 2)) for pipe in pipes)
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.per_level, b.per_level)
    c, d = (pipe.score(a.images, condition) for pipe in pipes)
    np.testing.assert_array_equal(c.per_level, d.per_level)


def test_as_many_threads_are_started_as_requested(uncalibrated: Path) -> None:
    """Threads are counted in a new process, because in this one threads of other tests may end meanwhile."""
    code = (
        "import sys; from pathlib import Path; import numpy; from caflow_runtime.pipeline.pipeline import load; "
        "count = lambda: len(list(Path('/proc/self/task').iterdir())); before = count(); "
        "pipe = load(sys.argv[1], backend='cpu', threads=int(sys.argv[2])); "
        "pipe.best_of(numpy.zeros((4, 4, 3), 'u1'), n=2); print(count() - before)"
    )
    # The main thread waits for another one. Each of the five graphs of sampling has two more.
    for threads, more in ((1, 1), (3, 1 + 2 * 5)):
        assert in_a_process([sys.executable, "-c", code, uncalibrated, threads]).stdout == f"{more}\n"


class Tried(Watched):
    """The CPU as a backend that is compared with the CPU, and that counts its runs."""

    def __init__(self, device: str = "first", graph: str = "", output: str = "", factor: float = 1.0) -> None:
        super().__init__(1)
        self.name, self.is_reference, self.device = "tried", False, device
        self.wrong, self.output, self.factor = graph, output, np.float32(factor)
        self.runs = 0

    @property
    def identity(self) -> dict[str, str]:
        return {"device": self.device}

    def watch(self, name: str, arrays: Arrays, out: dict[str, Array]) -> dict[str, Array]:
        self.runs += 1
        return {**out, self.output: self.factor * out[self.output]} if name == self.wrong else out


@pytest.mark.parametrize(
    ("graph", "output", "factor", "found"),
    [
        ("reverse_1", "pixels", 1.001, "pixels, as a fraction of full scale"),
        ("decode_0", "log_likelihood_map", 1.001, "log-likelihood of samples"),
        ("likelihood_1", "log_likelihood_map", 1.001, "log-likelihood of images"),
        ("likelihood_0", "z", 1.01, "noise of level 0 after decode and likelihood"),
        ("reverse_1", "pixels", np.nan, "as a fraction of full scale: the error is nan, at most 1e-04"),
    ],
)
def test_a_backend_whose_results_differ_from_the_cpu_is_refused(
    uncalibrated: Path, graph: str, output: str, factor: float, found: str
) -> None:
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(BackendError, match=f"tried is not used, because its results differ .*: .*{found}"):
            check_once(Graphs(uncalibrated, Tried("refused", graph, output, factor)))


def test_a_passed_backend_is_not_compared_again(
    uncalibrated: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared again with another device, with another bundle, and where nothing can be remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (copied / MANIFEST).write_bytes((copied / MANIFEST).read_bytes() + b" ")

    def compares(folder: Path, device: str) -> bool:
        backend = Tried(device)
        check_once(Graphs(folder, backend))
        return backend.runs > 0

    assert [compares(uncalibrated, device) for device in ("a", "a", "b")] == [True, False, True]
    assert [compares(copied, "a"), compares(copied, "a")] == [True, False]
    (remembered, *_) = (tmp_path / "cache" / "caflow-deploy" / "parity").iterdir()
    assert json.loads(remembered.read_text())["backend"] == "tried"
    monkeypatch.setenv("XDG_CACHE_HOME", str(copied / MANIFEST))  # a file, in which nothing can be written
    assert [compares(uncalibrated, "a"), compares(uncalibrated, "a")] == [True, True]


def test_networks_in_bfloat16_are_not_for_onnx_runtime_on_the_cpu(copied: Path) -> None:
    with edited(copied) as manifest:
        manifest["precision"] = "bf16"
    message = "onnxruntime cpu does not support networks in bf16: use `backend` openvino"
    with load(copied, backend="cpu") as pipe, pytest.raises(BackendError, match=message):
        pipe.best_of(np.zeros((8, 8, 3), np.uint8))
    states = {check.name: check.state for check in check_bundle(copied)}
    assert states["onnxruntime cpu"] == "absent"


HELD = """
import sys
from pathlib import Path
import numpy as np
from caflow_runtime.available_memory import resident_memory
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
graphs = Graphs(Path(sys.argv[1]), OnnxRuntimeCpu(threads=1))
for spare in (lambda: None, graphs.spare_memory):
    spare()
    for side in (512, 2):
        graphs["reverse_0"]({"latent": np.zeros((1, 24, side, side), np.float32)})
    print(resident_memory())
"""
"""Prints the memory of the process after a large and a small run, before and after memory is spared."""


@pytest.mark.skipif(resident_memory() is None, reason="this system does not report the memory of a process")
def test_after_memory_ran_out_runs_free_their_memory(uncalibrated: Path) -> None:
    """By default, ONNX Runtime's arena keeps the memory of the largest run. Later arrays may then find no memory.

    It is measured in a new process. In this one, other tests may have left free memory, which runs would then use.
    """
    held, spared = map(int, in_a_process([sys.executable, "-c", HELD, uncalibrated]).stdout.split())
    assert spared < held - 50e6


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_a_backend_reports_nothing_and_writes_only_that_it_agrees_with_the_cpu(
    uncalibrated: Path, tmp_path: Path, backend: str
) -> None:
    """ONNX Runtime would store its telemetry in these folders before sending it."""
    require(backend)
    places = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for place in places.values():
        Path(place).mkdir()
    code = (
        "import numpy, sys, caflow_deploy; "
        f"caflow_deploy.load(sys.argv[1], backend={backend!r}).best_of(numpy.zeros((8, 8, 3), 'u1'), n=1); "
        "assert 'openvino_telemetry' not in sys.modules"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | places
    subprocess.run([sys.executable, "-c", code, uncalibrated], env=environment, check=True)
    written = [path.parent for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [tmp_path / "XDG_CACHE_HOME" / "caflow-deploy" / "parity"] * (backend != "cpu")


@pytest.fixture(scope="module")
def openvino(uncalibrated: Path) -> Iterator[Pipeline]:
    require("openvino")
    with load(uncalibrated, backend="openvino") as pipe:
        yield pipe


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("openvino", "openvino cpu"),
        ("ort:OpenVINO", "onnxruntime openvino"),
        pytest.param("cuda", "onnxruntime cuda", marks=pytest.mark.gpu),
    ],
)
def test_results_are_those_of_the_cpu(
    uncalibrated: Path, pipe: Pipeline, photographs: Path, backend: str, name: str
) -> None:
    require(backend)
    with load(uncalibrated, backend=backend) as other:
        assert other.backend == name
        for sides in ((8, 8), (9, 13), (24, 8)):
            condition = photograph(photographs, 0, *sides)
            a, b = (one.best_of(condition, n=3) for one in (other, pipe))
            np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-5)
            assert (a.images[0] != b.images[0]).mean() < 1e-3
            c, d = (one.score(b.images, condition) for one in (other, pipe))
            np.testing.assert_allclose(c.log_likelihood, d.log_likelihood, rtol=1e-5)


def test_a_missing_input_of_a_graph_is_an_error(openvino: Pipeline) -> None:
    with pytest.raises(BackendError, match=r"reverse_0\.onnx: the graph requires an input 'latent'"):
        openvino.runner.graphs.backend.load(openvino.folder / "reverse_0.onnx")({})


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (1, 24, 2), (1, 24, 2, 2, 1)])
def test_inputs_of_another_shape_are_refused(openvino: Pipeline, shape: tuple[int, ...]) -> None:
    """OpenVINO itself accepts all of them, both in its first run and after a correct one."""
    run = openvino.runner.graphs.backend.load(openvino.folder / "reverse_0.onnx")
    for _ in range(2):
        with pytest.raises(
            BackendError, match=r"reverse_0\.onnx: input 'latent': expected shape \(any, 24, any, any\)"
        ):
            run({"latent": np.zeros(shape, np.float32)})
        assert run({"latent": np.zeros((1, 24, 2, 2), np.float32)})["next_carry"].shape == (1, 6, 4, 4)
