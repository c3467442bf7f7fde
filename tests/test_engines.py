"""TensorRT engines, on a GPU if there is one, and on fakes of CUDA and TensorRT on all machines.

The fakes run engines with ONNX Runtime on the CPU. They show that the right work is queued in the right order on the
right memory. They cannot show what TensorRT computes, how fast it is, or what a real driver refuses. Tests that require
neither a GPU nor fakes, such as building engines for other GPUs, are in test_tensorrt.py.
"""

import gc
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import ref

import numpy as np
import onnx
import pytest
from commands import caflow
from fake_gpu import state
from fake_gpu.install import fakes
from fake_gpu.memory import MEMORY
from onnx import helper
from tiny import photograph

from caflow_export.export import ExportReport
from caflow_export.measure import VerificationFailed
from caflow_export.to_tensorrt import build_engines
from caflow_export.trt_flavor import TensorRTUnavailable
from caflow_runtime.backends.cuda_device import ALIGNMENT, CudaDevice
from caflow_runtime.backends.cuda_kernels import are_finite, draw_rows
from caflow_runtime.backends.device_array import DeviceArray
from caflow_runtime.backends.tensorrt import TensorRT
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.errors import BackendError, InputError
from caflow_runtime.flow.noise import LevelNoise, Place
from caflow_runtime.flow.noise import draw_rows as draw_rows_on_the_host
from caflow_runtime.image import Image
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import Best

MAX_ROWS, MAX_SIZE = 8, (256, 256)


def with_engines(bundle: Path, folder: Path) -> Path:
    """Copy a bundle, build engines for the local GPU, and return the copy. Skip the test if TensorRT is unavailable."""
    shutil.copytree(bundle, folder)
    try:
        build_engines(folder, max_rows=MAX_ROWS, max_size=MAX_SIZE)
    except TensorRTUnavailable as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module", params=[pytest.param("gpu", marks=pytest.mark.gpu), "fakes"], autouse=True)
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real GPU or a fake one. All resources of the fake one must be freed when the tests end."""
    if request.param == "gpu":
        yield "gpu"
        return
    with fakes():
        yield "fakes"
        assert state.left() == {}


@pytest.fixture(scope="module")
def built(gpu: str, uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle with engines for the local GPU."""
    return with_engines(uncalibrated, tmp_path_factory.mktemp(gpu) / "model.caflow")


@pytest.fixture(scope="module")
def engine(built: Path) -> Iterator[Pipeline]:
    with load(built, backend="tensorrt") as pipe:
        yield pipe


@pytest.fixture(scope="module")
def cpu(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="cpu") as pipe:
        yield pipe


def check_equal(one: Best, other: Best, likelihood: float = 1e-5, pixels: float = 1e-3) -> None:
    np.testing.assert_array_equal(one.sample, other.sample)
    np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=likelihood)
    for a, b in zip(one.images, other.images, strict=True):
        assert (a != b).mean() < pixels


def test_what_was_built_here_is_verified(built: Path) -> None:
    (found,) = engines.find(built)
    assert found.engines is not None
    measured = found.engines.verification
    assert {m.graph for m in measured} >= {"encode", "decode_0", "reverse_1", "sample", "flow"}
    assert sum("identical rows" in m.what for m in measured) == MAX_ROWS
    assert all(m.max_error <= m.tolerance for m in measured)


def test_engines_that_fail_their_verification_are_closed(
    uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise VerificationFailed("encode")

    closed = list[str]()
    monkeypatch.setattr("caflow_export.to_tensorrt.verify_engines", fail)
    monkeypatch.setattr(TensorRT, "close", lambda self: closed.append(self.name))
    with pytest.raises(VerificationFailed):
        with_engines(uncalibrated, tmp_path / "model.caflow")
    assert len(closed) == 1


def test_images_are_those_of_the_cpu_also_when_chains_are_repeated(
    engine: Pipeline, cpu: Pipeline, photographs: Path
) -> None:
    condition = photograph(photographs, 0, 16, 16)
    for seed in range(4):
        check_equal(engine.best_of(condition, n=4, seed=seed), cpu.best_of(condition, n=4, seed=seed))


def test_sizes_rows_and_tiles_that_engines_do_not_take_at_once(
    engine: Pipeline, built: Path, photographs: Path
) -> None:
    images = [photograph(photographs, k, *size) for k, size in enumerate([(9, 12), (16, 16), (70, 80)])]
    assert len(engine.tiles(images[2])) > 1
    with load(built, backend="cpu", pixel_budget=MAX_SIZE[0] * MAX_SIZE[1]) as cpu:
        for _ in range(2):
            check_equal(engine.best_of(images, n=3), cpu.best_of(images, n=3))
        check_equal(engine.best_of(images[1], n=2 * MAX_ROWS + 1), cpu.best_of(images[1], n=2 * MAX_ROWS + 1))


def test_pruning_scores_and_noise(engine: Pipeline, cpu: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 2, 8, 8)
    best = cpu.best_of(condition, n=4, keep=(4, 2))
    check_equal(engine.best_of(condition, n=4, keep=(4, 2)), best)
    scored, expected = (pipe.score(best.images, condition).log_likelihood for pipe in (engine, cpu))
    np.testing.assert_allclose(scored, expected, rtol=1e-5)
    encoded = engine.encode(best.images, condition)
    np.testing.assert_allclose(engine.decode(encoded.noise, condition).images, best.images, atol=1)


def test_threads_share_a_pipeline(engine: Pipeline, cpu: Pipeline, photographs: Path) -> None:
    images = [photograph(photographs, k, 8, 8 + 2 * (k % 2)) for k in range(4)]

    def draw(k: int) -> list[Best]:
        return [engine.best_of(images[k], n=3, seed=seed) for seed in range(5)]

    with ThreadPoolExecutor(len(images)) as pool:
        for k, results in enumerate(pool.map(draw, range(len(images)))):
            for seed, result in enumerate(results):
                check_equal(result, cpu.best_of(images[k], n=3, seed=seed))


def test_halves(exported_half: ExportReport, photographs: Path, tmp_path: Path) -> None:
    folder = with_engines(exported_half.path, tmp_path / "half.caflow")
    condition = photograph(photographs, 3, 16, 16)
    with load(folder, backend="tensorrt") as engine, load(folder, backend="cpu") as cpu:
        for _ in range(3):
            check_equal(engine.best_of(condition, n=1), cpu.best_of(condition, n=1), likelihood=1e-3, pixels=1)


def test_from_device_memory_to_device_memory(engine: Pipeline, photographs: Path) -> None:
    conditions = np.stack([photograph(photographs, k, 8, 12) for k in range(2)])
    expected = engine.best_of(conditions, n=3)
    device = CudaDevice()  # stands for another library that owns the arrays
    for array in (device.upload(conditions), OnlyInterface(device.upload(conditions))):
        got = engine.run(array, n=3)
        np.testing.assert_array_equal(got.sample, expected.sample)
        np.testing.assert_allclose(got.per_level, expected.per_level, rtol=1e-6)
        assert isinstance(got.images, DeviceArray)
        np.testing.assert_array_equal(device.download(device.adopt(got.images)), expected.images)
    with pytest.raises(InputError, match=r"expected an array in the memory of .*; got ndarray"):
        engine.run(conditions)


class OnlyInterface:
    """Array with `__cuda_array_interface__`, but without DLPack."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.__cuda_array_interface__ = array.__cuda_array_interface__


def test_noise_on_the_device_is_that_of_the_host() -> None:
    device = CudaDevice()
    channels, places = (5, 6, 12), (Place(3, 5, 7, 9, (0, 4)), Place(1, 0, 7, 9, (2,)))
    z = LevelNoise(channels, 1, places, (0.8, 0.5, 0.3), 7, 11)
    drawn, expected = device.download(draw_rows(device, z)), draw_rows_on_the_host(z)
    np.testing.assert_array_max_ulp(drawn, expected, maxulp=2)


def test_rows_that_are_not_finite_are_found_on_the_device() -> None:
    device = CudaDevice()
    values = np.zeros((5, 7, 300, 3), np.float32)
    values[1, 6, 299, 2], values[3, 0, 0, 0], values[4, 2, 100, 1] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(are_finite(device, device.upload(values)), [True, False, True, False, False])


def test_an_array_that_begins_at_an_odd_place_is_copied_for_engines() -> None:
    device = CudaDevice()
    values = np.arange(21, dtype=np.uint8).reshape(3, 7)
    array = device.upload(values)
    assert device.adopt(array).address == array.address
    adopted = device.adopt(device.row(array, 1))
    assert adopted.address % ALIGNMENT == 0
    np.testing.assert_array_equal(device.download(adopted), values[1])


def test_a_library_may_ask_for_an_array_on_its_own_device() -> None:
    """PyTorch passes the device by DLPack if the caller names it."""
    array = CudaDevice().upload(np.ones(3, np.float32))
    assert array.__dlpack__(stream=-1, dl_device=array.__dlpack_device__()) is not None
    with pytest.raises(BufferError):
        array.__dlpack__(stream=-1, dl_device=(1, 0))


def test_a_graph_of_fixed_shapes_is_built_and_runs(engine: Pipeline, tmp_path: Path) -> None:
    matrices = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [32, 32]) for name in ("a", "b", "product")]
    node = helper.make_node("MatMul", ["a", "b"], ["product"])
    graph = helper.make_graph([node], "product", matrices[:2], matrices[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "p.onnx")
    backend = engine.graphs.backend
    a, b = np.random.default_rng(0).standard_normal((2, 32, 32), np.float32)
    product = backend.build(tmp_path / "p.onnx")({"a": backend.to_device(a), "b": backend.to_device(b)})["product"]
    np.testing.assert_allclose(backend.to_host(product), a @ b, rtol=1e-4, atol=1e-4)


def test_a_damaged_engine_is_not_loaded(built: Path, tmp_path: Path, photographs: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy.caflow"))
    (plan,) = copy.glob("engines/*/encode.engine")
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    with (
        load(copy, backend="tensorrt") as pipe,
        pytest.raises(BackendError, match="is damaged, or was built again since"),
    ):
        pipe.best_of(photograph(photographs, 0, 8, 8))


def test_a_closed_pipeline_keeps_no_memory_of_the_gpu(gpu: str, built: Path, photographs: Path) -> None:
    """The collector of cycles may run much later, when another process has already found too little memory."""
    if gpu != "fakes":
        pytest.skip("only the fake GPU counts its memory by process")
    gc.collect()
    held = MEMORY.in_use, MEMORY.engines
    gc.disable()
    try:
        pipe = load(built, backend="tensorrt")
        for _ in range(3):  # until the chain is recorded
            pipe.best_of(photograph(photographs, 0, 8, 8), n=2)
        assert MEMORY.in_use > held[0]
        assert MEMORY.engines > held[1]
        pipe.close()
        assert (MEMORY.in_use, MEMORY.engines) == held
        backend = ref(pipe.graphs.backend)
        del pipe
        assert backend() is None
    finally:
        gc.enable()


def test_doctor_checks_the_engines(built: Path) -> None:
    done = caflow("doctor", built)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"tensorrt.* fp32 on .*: a row alone and in a batch, pixels", done.stdout)


def test_a_video_is_that_of_the_cpu(built: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("imageio_ffmpeg")
    from clips import ffmpeg  # here, so that the other tests of engines run without FFmpeg

    source, drawn = tmp_path / "clip.mp4", list[Image]()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=0.6", "-c:v", "libx264", source)
    for backend in ("cpu", "tensorrt"):
        output = tmp_path / f"{backend}.mkv"
        options = ["-n", 2, "--bundle", built, "--backend", backend, "--codec", "ffv1"]
        done = caflow("video", source, "-o", output, *options)
        assert done.returncode == 0, done.stderr
        with av.open(str(output)) as container:
            drawn.append(np.stack([f.to_ndarray(format="rgb24") for f in container.decode(container.streams.video[0])]))
    assert (drawn[0] != drawn[1]).mean() < 1e-3
