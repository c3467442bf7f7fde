"""Finished engines. TensorRT-RTX builds them here without a GPU, for the GPUs that are named.

What the provider of TensorRT-RTX loads was read from version 0.5.0 of its plug-in, `onnxruntime-ep-nv-tensorrt-rtx`,
and from ONNX Runtime 1.32 (`onnxruntime/core/providers/nv_tensorrt_rtx/onnx_ctx_model_helper.cc`).
"""

import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
from commands import caflow, caflow_export, command, environment_with, in_a_process, run_without, started
from gpus import openvino_plugin, require
from onnx import helper
from test_altered_graphs import change_graph
from tiny import edited, photograph

from caflow_export.engine_targets import TensorRTUnavailable
from caflow_export.export import ExportReport
from caflow_export.tensorrt_builder import BuildFailed, EngineBuilder
from caflow_export.to_tensorrt import build_engines
from caflow_export.weights import load_whole
from caflow_runtime.backends.engines import Engines
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntime
from caflow_runtime.backends.parity import check_parity
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PROVIDERS
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.engine_model import CONTEXT, check_engine_model
from caflow_runtime.bundle.engine_sets import Machine, Profile, compiled_graphs
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.onnx_fields import WrongGraph
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import load

TARGETS = ("8.6", "12.0")
SMALL = Profile(1, 8, 8)
RTX_5090 = Machine("rtx", "1.7.1", "12.0", "NVIDIA GeForce RTX 5090")
READ_BY_THE_PROVIDER = {"embed_mode": 1, "hardware_architecture": b"86"}
"""Attributes of the node, beside the engine itself. Another architecture would be a warning."""
FLOAT_LAYERS = {"UnaryOperation.EXP", "UnaryOperation.SQRT", "LayerType.REDUCE"}


@pytest.fixture(scope="module")
def smallest_engines(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with engines for two compute capabilities, at most 8×8 pixels. Tests must not change it."""
    folder = Path(shutil.copytree(uncalibrated, tmp_path_factory.mktemp("smallest") / "small.caflow"))
    build_engines(folder, compute_capabilities=TARGETS, profile=SMALL)
    return folder


@pytest.fixture
def with_engines(smallest_engines: Path, tmp_path: Path) -> Path:
    """A copy of `smallest_engines` that a test may change."""
    return Path(shutil.copytree(smallest_engines, tmp_path / "small.caflow"))


def check_node(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Check an engine's only node, and that inputs and outputs have the names, types and shapes of the graph's."""
    (node,) = model.graph.node
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert {name: found[name] for name in READ_BY_THE_PROVIDER} == READ_BY_THE_PROVIDER
    assert found["source"].decode() == PROVIDERS["tensorrt-rtx"].name
    assert found[CONTEXT][:4] in (b"vtrt", b"trtv", b"ftrt")
    assert list(node.input) == [value.name for value in source.graph.input]
    assert list(node.output) == [value.name for value in source.graph.output]
    assert list(model.graph.input) == list(source.graph.input)
    assert list(model.graph.output) == list(source.graph.output)
    assert not model.graph.initializer


def test_every_graph_is_built_for_every_target(smallest_engines: Path) -> None:
    """Both sets are complete, and each engine is what a provider reads."""
    folder, manifest = smallest_engines, read_manifest(smallest_engines)
    found = [one for one in engines.find(folder) if one.engines]
    assert {one.engines.compute_capability for one in found if one.engines} == set(TARGETS)
    for one in found:
        assert one.engines is not None
        assert one.stale is None
        assert (one.engines.flavor, one.engines.precision, one.engines.gpu) == ("rtx", "fp32", None)
        assert [engine.graph for engine in one.engines.engines] == [graph.name for graph in compiled_graphs(manifest)]
        for engine in one.engines.engines:
            path = engines.check_engine(one.folder, engine)
            assert sha256_of(path) == engine.file.sha256
            if one.engines.compute_capability == "8.6":
                check_node(onnx.load(path), onnx.load(folder / f"{engine.graph}.onnx", load_external_data=False))
    verify_files(folder, manifest)


def test_onnx_runtime_reads_engines_as_those_of_tensorrt_rtx(smallest_engines: Path) -> None:
    """ONNX Runtime accepts the file and its node, and refuses it for other providers only."""
    path = next(smallest_engines.glob("engines/*sm86*/encode.onnx"))
    sessions = ProviderSessions(PROVIDERS["cpu"])
    with pytest.raises(Exception, match=f"EPContext node generated by '{PROVIDERS['tensorrt-rtx'].name}'"):
        sessions.open(path, sessions.needs())


def recorded(monkeypatch: pytest.MonkeyPatch, kind: Any, name: str) -> list[str]:
    """Return a list to which each call of a method adds the name of its graph."""
    graphs, method = list[str](), getattr(kind, name)

    def recording(self: object, path: Path, *arguments: object) -> object:
        graphs.append(path.stem)
        return method(self, path, *arguments)

    monkeypatch.setattr(kind, name, recording)
    return graphs


@pytest.mark.full
def test_only_changed_graphs_or_engines_are_built_again(with_engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = recorded(monkeypatch, EngineBuilder, "build")

    def run(profile: Profile = SMALL) -> list[str]:
        built.clear()
        build_engines(with_engines, compute_capabilities=TARGETS[:1], profile=profile)
        return list(built)

    graphs = [graph.name for graph in compiled_graphs(read_manifest(with_engines))]
    assert run() == []
    assert run(Profile(2, 8, 8)) == graphs
    engine = next(with_engines.glob("engines/*sm86*/decode_0.onnx"))
    engine.write_bytes(engine.read_bytes()[:-1] + b"?")
    assert run(Profile(2, 8, 8)) == graphs
    change_graph(with_engines, "reverse_0", lambda proto: setattr(proto, "doc_string", "changed"))
    assert run(Profile(2, 8, 8)) == graphs


def test_networks_are_half_and_the_flow_is_float(least_exported: Path, exported_half: ExportReport) -> None:
    builder = EngineBuilder("rtx", "8.6")
    for folder in (least_exported, exported_half.path):
        halves, floats = 0, set[str]()
        for graph in compiled_graphs(read_manifest(folder)):
            network = builder.parse(trt.Builder(trt.Logger()), load_whole(folder / graph.file.path), graph.name)
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
                if network.get_output(k).name in ("log_likelihood_map", "pixels", "latent", "z", "next_carry"):
                    assert network.get_output(k).dtype == trt.DataType.FLOAT
        assert (halves > 0) == (folder == exported_half.path)
        assert floats == FLOAT_LAYERS


def test_the_command_builds_a_bundle_and_info_shows_it(copied: Path) -> None:
    done = caflow_export(
        copied, "--trt", "fp32", "--compute-capability", "8.9", "--max-batch-size", 4, "--max-size", "128x60", code=0
    )
    assert done.stdout.startswith(str(copied / "engines" / "rtx-"))
    (folder,) = (copied / "engines").iterdir()

    def row() -> str:
        """Return the line of caflow info about the engines."""
        info = in_a_process(command("info", copied), env=environment_with(COLUMNS="200"))
        (found,) = (line for line in info.stdout.splitlines() if folder.name in line)
        return found

    shown = row()
    assert "compute capability 8.9" in shown
    assert "4 × 128×64" in shown
    assert shown.rstrip().endswith("current, not verified")  # no GPU here can run them
    (folder / "decode_0.onnx").write_bytes(b"")
    assert row().rstrip().endswith("stale: decode_0.onnx is missing or truncated")
    manifest = copied / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert [one.stale for one in engines.find(copied)] == ["built from another export of the model"]
    described = (folder / engines.DESCRIPTION).read_text()
    for text, why in (
        (described.replace('"decode_0.onnx"', '"../../decode_0.onnx"'), "is not a path inside the bundle"),
        ("{}", "cannot be read"),
    ):
        (folder / engines.DESCRIPTION).write_text(text)
        (broken,) = engines.find(copied)
        assert broken.engines is None
        assert why in str(broken.stale)


def test_a_machine_gets_its_own_engines_or_an_error_with_the_available_ones(with_engines: Path) -> None:
    def machine(**changes: str) -> Machine:
        return Machine(**{**vars(RTX_5090), **changes})

    found: Any = engines.set_for(with_engines, RTX_5090)
    folder, chosen = found
    assert (chosen.compute_capability, folder.name.endswith("sm120-fp32")) == ("12.0", True)
    assert engines.set_for(with_engines, machine(flavor="tensorrt")) is None
    with pytest.raises(BackendError, match=r"NVIDIA L4 .* 8\.9 .*-sm120-fp32 \(for .* 12\.0\)"):
        engines.set_for(with_engines, machine(compute_capability="8.9", gpu="NVIDIA L4"))
    with pytest.raises(BackendError, match=rf"sm120-fp32 \(built with TensorRT-RTX {chosen.version}\)"):
        engines.set_for(with_engines, machine(version="1.8.0"))
    described = folder / engines.DESCRIPTION
    described.write_text(described.read_text().replace('"gpu": null', '"gpu": "NVIDIA GeForce RTX 5080"'))
    with pytest.raises(BackendError, match=r"sm120-fp32 \(for NVIDIA GeForce RTX 5080\)"):
        engines.set_for(with_engines, RTX_5090)
    (with_engines / MANIFEST).write_bytes((with_engines / MANIFEST).read_bytes() + b" ")
    with pytest.raises(BackendError, match=r"-sm86-fp32 \(built from another export of the model\)"):
        engines.set_for(with_engines, machine(compute_capability="8.6"))


def node(**attributes: object) -> onnx.NodeProto:
    given = {"embed_mode": 1, CONTEXT: b"an engine"} | attributes
    return helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", **given)  # type: ignore[arg-type]


def model_of(*nodes: onnx.NodeProto, **more: object) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy")
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], **more))  # type: ignore[arg-type]


WEIGHT = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "w")
FUNCTION = helper.make_function("f", "f", ["x"], ["y"], [node()], [helper.make_opsetid("com.microsoft", 1)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of(node(embed_mode=0, ep_cache_context="../../secret")), "got the name of a file, b'../../secret'"),
        (model_of(node(), node()), "must have one node; got 2"),
        (model_of(helper.make_node("Relu", ["x"], ["y"])), "must have a node EPContext of com.microsoft; got b'Relu'"),
        (model_of(helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")), "must have the attributes"),
        (model_of(node(notes=WEIGHT)), "the attribute 'notes' must be a number or a text"),
        (model_of(node(), initializer=[WEIGHT]), "got weights"),
        (helper.make_model(model_of(node()).graph, functions=[FUNCTION]), "got functions"),
    ],
)
def test_only_an_engine_is_loaded_as_an_engine(model: onnx.ModelProto, message: str) -> None:
    check_engine_model(model_of(node(ep_sdk_version="1", main_context=0)).SerializeToString())
    with pytest.raises(WrongGraph, match=message):
        check_engine_model(model.SerializeToString())


def test_engines_that_are_damaged_or_missing_are_refused(with_engines: Path) -> None:
    (folder,) = with_engines.glob("engines/*sm120*")
    sessions = ProviderSessions(PROVIDERS["cpu"])
    chosen = Engines(with_engines, sessions, RTX_5090)
    encode, decode = (with_engines / f"{name}.onnx" for name in ("encode", "decode_0"))
    assert chosen.file_for(encode) == (folder / "encode.onnx", sessions.needs())
    assert chosen.profile == SMALL
    contents = (folder / "encode.onnx").read_bytes()
    (folder / "encode.onnx").write_bytes(contents[:-9] + bytes([contents[-9] ^ 1]) + contents[-8:])
    with pytest.raises(BackendError, match=r"encode\.onnx is damaged, or was built again since the bundle was opened"):
        chosen.file_for(encode)
    (folder / "decode_0.onnx").unlink()
    with pytest.raises(BackendError, match=r"decode_0\.onnx cannot be read: No such file"):
        chosen.file_for(decode)
    onnx.save(model_of(node(embed_mode=0)), folder / "encode.onnx")
    with edited(folder, engines.DESCRIPTION) as description:
        file = msgspec.to_builtins(describe_file(folder, "encode.onnx"))
        description["engines"] = [{"graph": "encode", "file": file}]
    chosen = Engines(with_engines, sessions, RTX_5090)
    with pytest.raises(BackendError, match="must contain the engine, with embed_mode 1"):
        chosen.file_for(encode)
    with pytest.raises(BackendError, match="has no engine for decode_0: build it again"):
        chosen.file_for(decode)


def test_without_engines_graphs_are_compiled_once(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's plug-in compiles them here."""
    sessions = openvino_plugin()
    compiled = recorded(monkeypatch, ProviderSessions, "compile")

    def check() -> Path:
        compiled.clear()
        chosen = Engines(copied, sessions, RTX_5090)
        backend = OnnxRuntime("compiled", sessions, chosen)
        assert backend.builds_engines
        assert backend.profile == engines.DEFAULT_PROFILE
        check_parity(Graphs(copied, backend))
        return chosen.file_for(copied / "encode.onnx")[0].parent

    with pytest.warns(UserWarning, match=r"TensorRT-RTX builds engines for this NVIDIA GeForce RTX 5090 .* kept in "):
        first = check()
    assert first.parent == copied / "engines"
    assert "encode" in compiled
    assert check() == first
    assert compiled == []
    assert list(engines.find(copied)) == []
    change_graph(copied, "to_image", lambda proto: setattr(proto, "doc_string", "changed"))
    monkeypatch.setattr("os.access", lambda *_: False)  # a bundle that cannot be written to
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="builds engines"):
        second = check()
    assert second.parent == tmp_path / "cache" / "caflow-deploy" / "engines"
    assert second.name != first.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trt", "fp16"], "copy.caflow -o NEW --trt fp16"),
        (["--trt", "fp32", "--precision", "fp16"], "omit --precision"),
        ([], "is already a bundle: give --trt to build its engines"),
        (["--trt", "fp32", "--compute-capability", "9.0"], "does not build for compute capability 9.0"),
        (["--trt", "fp32", "--trt-flavor", "tensorrt"], "pip install 'caflow-deploy[trt]'"),
        (["--trt", "fp32", "--max-size", "1024x"], "expected a size such as 1024 or 1920x1088; got '1024x'"),
    ],
)
def test_wrong_options_for_engines_are_refused(copied: Path, arguments: list[str], message: str) -> None:
    done = caflow_export(copied, *arguments, code=2)
    assert done.stdout == ""
    assert message in done.stderr
    assert not (copied / "engines").exists()


def test_a_missing_builder_is_named_with_the_extra_that_fits(copied: Path) -> None:
    line = ["caflow-export", str(copied), "--trt", "fp32", "--compute-capability", "8.6"]
    done = run_without(("tensorrt_rtx",), f"sys.argv = {line!r}; from caflow_export.cli import main; main()")
    assert done.returncode == 2
    assert re.search(r"TensorRT-RTX is not installed: .*\[rtx\]'", done.stderr), done.stderr


def test_ctrl_c_leaves_no_unfinished_engines(copied: Path) -> None:
    building = command(copied, "--trt", "fp32", "--compute-capability", "8.6", package="caflow_export")
    with started(building) as process:
        while not list((copied / "engines").glob(".*.partial/*.onnx")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert errors == "caflow-export: cancelled: unfinished engines were not written\n"
    assert process.returncode == 130
    assert not list((copied / "engines").iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_engines_give_what_the_cpu_gives(copied: Path, photographs: Path, backend: str, is_finished: bool) -> None:
    """Engines for the local GPU: finished and verified, or built when they are first needed."""
    require(backend)
    if is_finished:
        try:
            build_engines(copied, PROVIDERS[backend].flavor, profile=Profile(4, 256, 256))
        except TensorRTUnavailable as error:
            pytest.skip(str(error))
        (found,) = engines.find(copied)
        assert found.engines is not None
        assert all(m.max_error <= m.tolerance for m in found.engines.verification)
    images = [photograph(photographs, k, *size) for k, size in enumerate([(9, 12), (16, 16), (70, 80)])]
    with load(copied, backend=backend) as engine, load(copied, backend="cpu", tiling=Tiling(256**2)) as cpu:
        best, expected = engine.best_of(images, n=9), cpu.best_of(images, n=9)
        np.testing.assert_allclose(best.log_likelihood, expected.log_likelihood, rtol=1e-5)
        for one, other in zip(best.images, expected.images, strict=True):
            assert (one != other).mean() < 1e-3
    caflow("doctor", copied, code=0)


def test_a_graph_that_tensorrt_refuses_is_named(copied: Path) -> None:
    def add_cast(proto: onnx.ModelProto) -> None:
        (first, *_) = proto.graph.input
        to = onnx.TensorProto.COMPLEX64
        proto.graph.node.append(helper.make_node("Cast", [first.name], ["refused"], name="a_cast", to=to))
        proto.graph.output.append(helper.make_tensor_value_info("refused", to, None))

    change_graph(copied, "reverse_0", add_cast)
    with pytest.raises(BuildFailed, match="reverse_0: TensorRT-RTX does not support the graph: Cast"):
        build_engines(copied, compute_capabilities=["8.6"], profile=SMALL)
    assert not list((copied / "engines").iterdir())
