"""TensorRT engines. TensorRT-RTX builds them here without a GPU, for the GPUs that are named."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import tensorrt_rtx as trt
import torch
from commands import caflow, caflow_export, command, environment_with, in_a_process, started
from conftest import stir
from onnx import helper

from caflow_export.export import ExportReport, export
from caflow_export.measure import VerificationFailed
from caflow_export.to_tensorrt import BuildFailed, build_engines, parse, profiles
from caflow_export.trt_flavor import TensorRTUnavailable, choose
from caflow_export.verify_engines import verify_engines
from caflow_runtime.backends.cache_file import read_cache, write_cache
from caflow_runtime.backends.gpu import Gpu, first_gpu
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound, OnnxRuntimeCpu
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.scan import Array, Arrays
from caflow_runtime.pipeline.pipeline import load
from caflow_training import checkpoint
from caflow_training.model import CAFlow
from caflow_training.reference_checkpoint import DEFAULT_SIZE

TARGETS = ("8.6", "12.0")
H100 = Gpu("NVIDIA H100", "9.0", "550.54", 12)
FLOAT_LAYERS = {"UnaryOperation.EXP", "UnaryOperation.ATAN", "LayerType.REDUCE"}

needs_no_gpu = pytest.mark.skipif(first_gpu() is not None, reason="this test is for machines without a GPU")


@pytest.fixture
def small(uncalibrated: Path, tmp_path: Path) -> Path:
    """A copy of the uncalibrated bundle, in which a test may build engines."""
    return Path(shutil.copytree(uncalibrated, tmp_path / "small.caflow"))


@pytest.fixture(scope="module")
def smallest_engines(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with engines for two compute capabilities, at most 8×8 pixels. Tests must not change it."""
    folder = Path(shutil.copytree(uncalibrated, tmp_path_factory.mktemp("smallest") / "small.caflow"))
    build_engines(folder, compute_capabilities=TARGETS, max_rows=1, max_size=(8, 8))
    return folder


@pytest.fixture
def with_engines(smallest_engines: Path, tmp_path: Path) -> Path:
    """A copy of `smallest_engines` that a test may change."""
    return Path(shutil.copytree(smallest_engines, tmp_path / "small.caflow"))


@pytest.fixture(scope="module")
def built(exported_half: ExportReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in fp16 with engines for two compute capabilities."""
    folder = shutil.copytree(exported_half.path, tmp_path_factory.mktemp("built") / "half.caflow")
    build_engines(folder, compute_capabilities=TARGETS)
    return Path(folder)


def test_every_graph_is_built_for_every_target(built: Path) -> None:
    manifest = read_manifest(built)
    found = list(engines.find(built))
    assert {one.engines.compute_capability for one in found if one.engines} == set(TARGETS)
    for one in found:
        assert one.engines is not None
        assert one.stale is None
        assert (one.engines.flavor, one.engines.precision, one.engines.gpu) == ("rtx", "fp16", None)
        assert [engine.graph for engine in one.engines.engines] == [graph.name for graph in manifest.graphs]
        for engine in one.engines.engines:
            path = one.folder / engine.file.path
            assert path.read_bytes()[:4] in (b"vtrt", b"trtv", b"ftrt")
            assert sha256_of(path) == engine.file.sha256
    verify_files(built, manifest)


def test_networks_are_half_and_the_flow_is_float(least_exported: Path, exported_half: ExportReport) -> None:
    for folder in (least_exported, exported_half.path):
        halves, floats = 0, set[str]()
        for graph in read_manifest(folder).graphs:
            network = parse("rtx", trt.Builder(trt.Logger()), folder / graph.file.path)
            for layer in (network.get_layer(k) for k in range(network.num_layers)):
                kind = str(layer.type)
                if kind == "LayerType.UNARY":
                    layer.__class__ = trt.IUnaryLayer
                    kind = str(layer.op)
                if layer.num_outputs:
                    halves += kind == "LayerType.CONVOLUTION" and layer.get_output(0).dtype == trt.DataType.HALF
                    if kind in FLOAT_LAYERS:
                        floats.add(kind)
                        assert layer.get_output(0).dtype == trt.DataType.FLOAT, (graph.name, layer.name)
            for k in range(network.num_outputs):
                if network.get_output(k).name in ("share", "pixels", "latent", "z", "next_carry"):
                    assert network.get_output(k).dtype == trt.DataType.FLOAT
        assert (halves > 0) == (folder == exported_half.path)
        assert floats == FLOAT_LAYERS


def test_profiles_share_the_pixels_among_rows(uncalibrated: Path) -> None:
    model = read_manifest(uncalibrated).model
    single, many = profiles(model, max_rows=16, max_size=(1080, 1920))
    assert (single.rows, single.height, single.width) == (1, 1080, 1920)
    assert many.rows == 16
    assert many.height % model.size_multiple == 0
    assert 0.9 < 16 * many.height * many.width / (1080 * 1920) <= 1
    assert profiles(model, max_rows=1, max_size=(1, 1)) == [engines.Profile(1, 8, 8)]


def test_the_command_builds_a_bundle_and_info_shows_it(small: Path) -> None:
    done = caflow_export(small, "--trt", "fp32", "--compute-capability", "8.9", "--max-rows", 4, "--max-size", "128x64")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(small / "engines" / "rtx-"))
    (folder,) = (small / "engines").iterdir()

    def row() -> str:
        """Return the line of caflow info about the engines."""
        info = in_a_process(command("info", small), env=environment_with(COLUMNS="200"))
        (found,) = (line for line in info.stdout.splitlines() if folder.name in line)
        return found

    shown = row()
    assert "compute capability 8.9" in shown
    assert "1 × 128×64, 4 × 40×40" in shown
    assert shown.rstrip().endswith("current, not verified")  # no GPU here can run them
    (folder / "decode_0.engine").write_bytes(b"")
    assert [one.stale for one in engines.find(small)] == ["decode_0.engine is missing or truncated"]
    assert row().rstrip().endswith("stale: decode_0.engine is missing or truncated")
    manifest = small / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert [one.stale for one in engines.find(small)] == ["built from another export of the model"]
    (folder / engines.DESCRIPTION).write_text("{}")
    (broken,) = engines.find(small)
    assert broken.engines is None
    assert "cannot be read" in str(broken.stale)


def test_the_gpu_here_gets_its_own_set_or_is_told_what_is_there(with_engines: Path) -> None:
    folder, chosen = engines.set_for(with_engines, "fp32", "12.0", "NVIDIA GeForce RTX 5090")
    assert (chosen.compute_capability, folder.name.endswith("sm120-fp32")) == ("12.0", True)
    with pytest.raises(
        BackendError, match=r"this NVIDIA L4 .* 8\.9, but .*-sm120-fp32 \(for .* 12\.0\), .*--trt fp32$"
    ):
        engines.set_for(with_engines, "fp32", "8.9", "NVIDIA L4")
    described = folder / engines.DESCRIPTION
    described.write_text(described.read_text().replace('"gpu": null', '"gpu": "NVIDIA GeForce RTX 5080"'))
    with pytest.raises(BackendError, match=r"sm120-fp32 \(for NVIDIA GeForce RTX 5080\)"):
        engines.set_for(with_engines, "fp32", "12.0", "NVIDIA GeForce RTX 5090")
    (with_engines / MANIFEST).write_bytes((with_engines / MANIFEST).read_bytes() + b" ")
    with pytest.raises(BackendError, match=r"-sm86-fp32 \(built from another export of the model\)"):
        engines.set_for(with_engines, "fp32", "8.6", "NVIDIA A10")


@needs_no_gpu
def test_without_a_gpu_engines_are_refused(small: Path) -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA GPU can be used \(.*\): install its driver"):
        load(small, backend="tensorrt")
    done = caflow("doctor", small)
    assert done.returncode == 0
    assert "no NVIDIA GPU can be used" in done.stdout


class Wrong(OnnxRuntimeCpu):
    """Backend with a wrong graph, as TensorRT had: with `rows` rows, the outputs of row `first` and later are wrong."""

    def __init__(self, name: str, rows: int, first: int) -> None:
        super().__init__()
        self.wrong, self.rows, self.first = name, rows, first
        self.profiles = [Profile(self.rows + 1, 128, 128)]

    def load(self, path: Path) -> Callable[[Arrays], dict[str, Array]]:
        run = super().load(path)

        def sometimes_wrong(arrays: Arrays) -> dict[str, Array]:
            out = run(arrays)
            is_off = path.stem == self.wrong and len(next(iter(out.values()))) == self.rows
            for array in out.values() if is_off else ():
                array[self.first :] += 1
            return out

        return sometimes_wrong


def test_engines_are_held_against_the_cpu(uncalibrated: Path) -> None:
    measured = verify_engines(uncalibrated, OnnxRuntimeBound("cpu"))
    graphs = {graph.name for graph in read_manifest(uncalibrated).graphs}
    assert {m.graph for m in measured} == graphs | {"sample", "flow"}
    assert max(m.max_error / m.tolerance for m in measured) < 0.1


@pytest.mark.parametrize(
    ("name", "rows", "first", "message"),
    [
        ("decode_1", 6, 0, r"decode_1: .*: the error must be at most"),
        ("likelihood_0", 6, 5, r"likelihood_0: .*: the error must be at most"),
        ("decode_0", 7, 0, "flow: 7 rows against one alone, pixels: the error must be at most"),
        ("decode_0", 7, 6, "flow: 7 identical rows, pixels: the error must be at most"),
    ],
)
def test_engines_that_are_off_are_named(uncalibrated: Path, name: str, rows: int, first: int, message: str) -> None:
    with pytest.raises(VerificationFailed, match=message):
        verify_engines(uncalibrated, Wrong(name, rows, first))


def test_engines_of_another_version_are_stale(with_engines: Path) -> None:
    found, _ = engines.find(with_engines)
    assert found.engines is not None
    path = found.folder / engines.DESCRIPTION
    path.write_text(path.read_text().replace(found.engines.version, "1.4.0.76"))
    found, _ = engines.find(with_engines)
    assert str(found.stale).startswith("built with TensorRT-RTX 1.4.0.76, but ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--trt", "fp16"], 2, "cannot be changed to fp16: give --trt fp32, or export the model again"),
        (["--trt", "fp16"], 2, "small.caflow -o NEW --trt fp16"),
        (["--trt", "fp32", "--precision", "fp16"], 2, "omit --precision"),
        (["--compute-capability", "8.6"], 2, "give --trt fp32, fp16 or bf16"),
        ([], 2, "is already a bundle: give --trt to build its engines"),
        (["--trt", "fp32", "--force"], 2, "omit --force"),
        (["--trt", "fp32", "--compute-capability", "9.0"], 2, "does not build for compute capability 9.0"),
        (["--trt", "fp32", "--trt-flavor", "tensorrt"], 2, "pip install 'caflow-deploy[trt]'"),
        (["--trt", "fp32", "--max-size", "0x8"], 2, "expected a size such as 1024 or 1920x1088"),
        (["--trt", "fp32", "--max-size", "1024x"], 2, "expected a size such as 1024 or 1920x1088; got '1024x'"),
    ],
)
def test_refusals_are_one_line(small: Path, arguments: list[str], code: int, message: str) -> None:
    done = caflow_export(small, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert not (small / "engines").exists()


@needs_no_gpu
def test_without_a_gpu_the_bundle_is_written_and_the_way_on_is_named(small: Path) -> None:
    done = caflow_export(small, "--trt", "fp32", "--max-size", "640x320")
    assert done.returncode == 3
    assert "this machine has no GPU: name the GPUs to build for" in done.stderr
    assert done.stderr.endswith(
        f": caflow-export {small} --trt fp32 --compute-capability 8.6,12.0 --max-size 640x320\n"
    )


def test_the_gpu_here_must_be_one_that_rtx_builds_for() -> None:
    assert choose("rtx", (), Gpu("NVIDIA A10", "8.6", "580.1", 13)) == ("rtx", [("8.6", None)])
    with pytest.raises(
        TensorRTUnavailable, match=r"does not build for compute capability 9\.0: give one or more of 7\.5"
    ):
        choose("rtx", (), H100)


def test_a_graph_that_tensorrt_refuses_is_named(small: Path) -> None:
    proto = onnx.load(small / "reverse_0.onnx", load_external_data=False)
    (first, *_) = proto.graph.input
    proto.graph.node.append(helper.make_node("Det", [first.name], ["refused"], name="a_determinant"))
    proto.graph.output.append(helper.make_tensor_value_info("refused", onnx.TensorProto.FLOAT, None))
    onnx.save(proto, small / "reverse_0.onnx")
    manifest = read_manifest(small)
    old, new = manifest.graph("reverse_0").file, describe_file(small, "reverse_0.onnx")
    text = (small / MANIFEST).read_text().replace(old.sha256, new.sha256)
    (small / MANIFEST).write_text(text.replace(f'"bytes": {old.bytes}', f'"bytes": {new.bytes}'))
    with pytest.raises(BuildFailed, match="reverse_0: TensorRT-RTX does not support the graph: Det"):
        build_engines(small, compute_capabilities=["8.6"])
    assert not list((small / "engines").iterdir())


def test_paths_of_engines_stay_inside(with_engines: Path) -> None:
    path, _ = sorted(with_engines.glob("engines/*/engines.json"))
    path.write_text(path.read_text().replace('"decode_0.engine"', '"../../decode_0.onnx"'))
    found, _ = engines.find(with_engines)
    assert found.engines is None
    assert "is not a path inside the bundle" in str(found.stale)


def test_ctrl_c_leaves_nothing_half_written(small: Path) -> None:
    building = command(small, "--trt", "fp32", "--compute-capability", "8.6", package="caflow_export")
    with started(building) as process:
        while not list((small / "engines").glob(".*.partial/*.engine")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert errors == "caflow-export: cancelled: unfinished engines were not written\n"
    assert process.returncode == 130
    assert not list((small / "engines").iterdir())


def test_a_damaged_timing_cache_is_dropped_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "engines" / "some.timing"
    assert read_cache(path) == b""
    write_cache(path, b"what was measured")
    assert read_cache(path) == b"what was measured"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged: its checksum is wrong"):
        assert read_cache(path) == b""


@pytest.fixture(scope="module")
def default_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the public implementation's default size."""
    torch.manual_seed(0)
    model = CAFlow(DEFAULT_SIZE)
    stir(model, 0.003)
    path = tmp_path_factory.mktemp("default") / "default.pt"
    checkpoint.save(path, model)
    return path


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "precision", "targets"), [("default", "fp32", TARGETS[:1]), ("x4-photo", "fp16", TARGETS)]
)
def test_real_models_are_built(
    default_size: Path, tmp_path: Path, name: str, precision: PrecisionName, targets: tuple[str, ...]
) -> None:
    """Every graph of models in practical sizes is built. The build time without the export is printed."""
    source = default_size if name == "default" else builtin.find_bundle(name)
    report = export(source, tmp_path / "model.caflow", precision=precision)
    began = time.monotonic()
    sets = build_engines(report.path, compute_capabilities=targets)
    print(f"{name}, {precision}: {time.monotonic() - began:.0f} s")
    assert len(sets) == len(targets)
    for one in engines.find(report.path):
        assert one.stale is None
        assert one.engines is not None
        assert [engine.graph for engine in one.engines.engines] == [g.name for g in report.manifest.graphs]
