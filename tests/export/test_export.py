"""`caflow-export`: exported graphs compared with the model and the public code."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import pytest
import torch
from commands import caflow_export
from safetensors.torch import load_file
from tiny import DATA

from caflow_export import verify as verification
from caflow_export.export import ExportError, ExportReport, export
from caflow_export.export_options import ExportOptions
from caflow_export.measure import VerificationFailed
from caflow_export.weights import WeightStore, load_whole, widen
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle import run_memory, stored_checkpoint
from caflow_runtime.bundle.file_names import CARD, MANIFEST, SHEET
from caflow_runtime.bundle.reading import read_manifest, sha256_of, verify_files
from caflow_runtime.bundle.stored_checkpoint import WEIGHTS
from caflow_runtime.flow import level_chain
from caflow_training import checkpoint
from caflow_training.bijections import TransitionStep

FORBIDDEN = {"MatrixInverse", "Det", "RandomNormal", "RandomNormalLike", "RandomUniform", "Loop", "If"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    output = tmp_path_factory.mktemp("reference") / "unshared.caflow"
    return export(DATA / "reference" / "unshared" / "lightning.ckpt", output)


@pytest.mark.full
def test_the_bundle_is_whole_and_says_what_it_is(ours: Path, exported: ExportReport) -> None:
    assert exported.path == ours.with_suffix(".caflow")
    manifest = read_manifest(exported.path)
    verify_files(exported.path, manifest)
    assert manifest == exported.manifest
    named = {file.path for file in bundle.files_of(manifest)}
    named |= {MANIFEST, CARD, SHEET, stored_checkpoint.NAME, run_memory.NAME}
    assert {path.name for path in exported.path.iterdir()} == named
    assert (manifest.model.task, manifest.model.scale, manifest.model.size_multiple) == ("super-resolution", 4, 8)
    assert manifest.source.checkpoint_sha256 == sha256_of(ours)
    assert all(m.max_error <= m.tolerance for m in manifest.verification)
    assert {m.graph for m in manifest.verification} >= {graph.name for graph in manifest.graphs}
    assert f"SHA-256 {manifest.source.checkpoint_sha256}" in (exported.path / CARD).read_text()


@pytest.mark.full
@pytest.mark.parametrize("name", ["exported", "reference"])
def test_every_graph_is_clean(name: str, request: pytest.FixtureRequest) -> None:
    report: ExportReport = request.getfixturevalue(name)
    for graph in report.manifest.graphs:
        path = report.path / graph.file.path
        onnx.checker.check_model(path, full_check=True)
        proto = onnx.load(path)
        assert not {node.op_type for node in proto.graph.node} & FORBIDDEN, graph.name
        dynamic = {size for port in graph.inputs for size in port.shape if isinstance(size, str)}
        assert all(size.rpartition("*")[2] in {"items", "images", "h", "w"} for size in dynamic), graph.name
        onnx.checker.check_model(onnxslim.slim(proto), full_check=True)


@pytest.mark.full
def test_weights_are_stored_once(reference: ExportReport) -> None:
    """Sampling and likelihood graphs refer to the same bytes, so together they are little larger than the parameters.

    The checkpoint adds little more than the 1×1 convolutions, because the graphs contain those combined with ActNorms.
    """
    model = checkpoint.load(reference.path)
    parameters = sum(4 * parameter.numel() for parameter in model.parameters())
    mixing = sum(4 * layer.conv.weight.numel() for layer in model.modules() if isinstance(layer, TransitionStep))
    protos = [onnx.load(reference.path / g.file.path, load_external_data=False) for g in reference.manifest.graphs]
    entries = [{e.key: e.value for e in t.external_data} for proto in protos for t in proto.graph.initializer]
    of_graphs = max(int(entry["offset"]) + int(entry["length"]) for entry in entries if entry)
    weights, stored = (reference.path / name for name in (WEIGHTS, stored_checkpoint.NAME))
    of_checkpoint = weights.stat().st_size - of_graphs + stored.stat().st_size
    assert (reference.bytes - of_checkpoint) / parameters <= 1.2
    assert of_checkpoint <= 1.15 * mixing


def test_weights_that_halves_hold_are_stored_as_such(tmp_path: Path) -> None:
    """One of two weights is exact in float16. The file stores 2 bytes for each of its values; graphs use float32."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((64, 64), np.float32)
    rounded = rng.standard_normal((64, 64), np.float32).astype(np.float16).astype(np.float32)
    rounded[0, 0] = np.float16(6e-8)  # one of the smallest values of float16
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n, 64] x) => (float[n, 64] y)'
        "{ h = MatMul(x, rounded) y = MatMul(h, wide) }"
    )
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(wide, "wide")])
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(rounded, "rounded")])
    with (tmp_path / WEIGHTS).open("wb") as file:
        WeightStore(file).move_out(proto)
    onnx.save(proto, tmp_path / "g.onnx")
    onnx.checker.check_model(tmp_path / "g.onnx", full_check=True)
    assert (tmp_path / WEIGHTS).stat().st_size == wide.nbytes + rounded.nbytes // 2
    x = rng.standard_normal((3, 64), np.float32)
    y = OnnxRuntimeCpu().load(tmp_path / "g.onnx")({"x": x})["y"]
    np.testing.assert_allclose(y, x @ rounded @ wide, rtol=1e-4, atol=1e-4)
    (tmp_path / "linked.bin").hardlink_to(tmp_path / WEIGHTS)
    widened = load_whole(tmp_path / "g.onnx")
    widen(widened)
    assert [node.op_type for node in widened.graph.node] == ["MatMul", "MatMul"]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in widened.graph.initializer}
    np.testing.assert_array_equal(weights["rounded"], rounded)
    np.testing.assert_array_equal(weights["wide"], wide)


@pytest.mark.full
def test_the_graphs_reproduce_the_public_implementation(reference: ExportReport) -> None:
    given = load_file(DATA / "reference" / "unshared" / "tensors.safetensors")
    model = reference.manifest.model
    graphs = {g.name: OnnxRuntimeCpu(1).load(reference.path / g.file.path) for g in reference.manifest.graphs}
    assert (model.task, model.scale) == ("image-to-image", 1)
    n = model.levels
    condition = given["Y"].permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    target = given["W"].permute(0, 2, 3, 1).contiguous().numpy()
    noise = [
        np.concatenate([given[f"sample_z.{n - 1 - i}.{n - 1 - j}"].numpy() for i in range(j, n)], 1) for j in range(n)
    ]
    rows = np.arange(2)
    encoded = level_chain.encode(graphs, condition)
    drawn = level_chain.sample(graphs, n, encoded, rows, noise)
    expected = given["sample_W_continuous"].permute(0, 2, 3, 1).numpy()
    assert np.abs(drawn.pixels - expected).max() / 256 < 1e-4
    integers = graphs["to_image"]({"pixels": drawn.pixels})["integers"]
    assert (integers == given["sample_W_8bit"].permute(0, 2, 3, 1).numpy()).mean() >= 0.999
    scored = level_chain.score(graphs, n, encoded, rows, target + np.float32(0.5))
    np.testing.assert_allclose(scored.log_likelihood.sum(1), given["log_prob_w_given_y"], rtol=1e-5)


@pytest.mark.full
def test_bfloat16_is_verified_where_it_runs(least: Path, tmp_path: Path) -> None:
    report = export(least, tmp_path / "brain.caflow", ExportOptions("bf16"), processes=1)
    assert {m.verified_with for m in report.manifest.verification} == {"PyTorch CPU, same types"}


@pytest.mark.usefixtures("traced_before")
def test_force_replaces_bundles_and_nothing_else(least: Path, tmp_path: Path, least_exported: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "precious.jpg").touch()
    for force in (True, False):  # so no message may recommend --force
        with pytest.raises(ExportError, match="already exists and is not a bundle: give another name with -o"):
            export(least, tmp_path / "photographs", ExportOptions(force=force))
    assert (tmp_path / "photographs" / "precious.jpg").exists()
    shutil.copytree(least_exported, tmp_path / "old.caflow")
    (tmp_path / "old.caflow" / "calibration.json").touch()
    said: list[str] = []
    export(least, tmp_path / "old.caflow", ExportOptions(force=True), say=said.append)
    assert "the calibration of the replaced bundle was removed" in said[-1]
    assert not (tmp_path / "old.caflow" / "calibration.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"photographs", "old.caflow"}


@pytest.mark.usefixtures("traced_before")
def test_a_failed_verification_leaves_no_bundle(least: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph with a wrong output is found and named, and nothing is written."""
    true_graphs = verification.torch_graphs

    def wrong_graphs(*arguments: object) -> dict[str, level_chain.Graph]:
        graphs = true_graphs(*arguments)  # type: ignore[arg-type]
        right = graphs["reverse_0"]
        graphs["reverse_0"] = lambda arrays: {
            **right(arrays),
            "log_likelihood_map": right(arrays)["log_likelihood_map"] + 1,
        }
        return graphs

    monkeypatch.setattr(verification, "torch_graphs", wrong_graphs)
    with pytest.raises(VerificationFailed, match="reverse_0: log_likelihood_map"):
        export(least, tmp_path / "wrong.caflow")
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_existing_bundles_and_unknown_models(least: Path, least_exported: Path) -> None:
    """The fixture `least_exported` is the bundle that the command writes by default."""
    before = (least_exported / MANIFEST).read_bytes()
    assert read_manifest(least_exported).source.checkpoint_sha256 == sha256_of(least)
    assert "give --force" in caflow_export(least, code=2).stderr
    assert (least_exported / MANIFEST).read_bytes() == before
    missing = caflow_export("x4-phto", code=2)
    assert missing.stderr.startswith("caflow-export: x4-phto: expected a checkpoint, a bundle, or a built-in model")
    assert "x4-photo" in missing.stderr
