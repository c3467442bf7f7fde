"""Models with int8 networks: sampling and scoring remain inverse to each other, and results are close to float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import caflow_export
from onnx import TensorProto
from tiny import photograph

from caflow_export.export import ExportReport, export
from caflow_export.export_options import ExportOptions
from caflow_export.weights import load_whole
from caflow_runtime.pipeline.pipeline import load

SCALE = 2
"""Scale of the super-resolution model of the fixture `least`."""


@pytest.fixture(scope="module")
def small(least: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    folder = tmp_path_factory.mktemp("int8") / "small.caflow"
    return export(least, folder, ExportOptions("int8", str(photographs)))


def convolutions(proto: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the convolutions of a graph with int8 weights, and the others."""
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    made = {name: node for node in proto.graph.node for name in node.output}
    found: dict[str, list[onnx.NodeProto]] = {"int8": [], "float": []}
    for node in proto.graph.node:
        if node.op_type == "Conv":
            source = made.get(node.input[1])
            is_int8 = source is not None and kinds.get(source.input[0]) == TensorProto.INT8
            found["int8" if is_int8 else "float"].append(node)
    return found


@pytest.mark.full
def test_networks_are_int8_and_the_state_is_not(small: ExportReport) -> None:
    for graph in small.manifest.graphs:
        found = convolutions(load_whole(small.path / graph.file.path))
        if graph.name.startswith(("decode", "likelihood", "reverse", "forward")):
            assert found["int8"]
            assert all("mixings" in node.input[1] or "repeat" in node.input[1] for node in found["float"])
        else:
            assert not found["int8"]
        assert {port.type for port in graph.outputs} <= {"float32", "uint8"}


@pytest.mark.full
def test_the_density_of_a_sample_is_that_of_its_score(small: ExportReport, photographs: Path) -> None:
    """The int8 model is a bijection, although quantization may reduce the likelihood."""
    condition = photograph(photographs, 0, 16, 16)
    with load(small.path, backend="cpu") as pipe:
        target = photograph(photographs, 0, 16 * SCALE, 16 * SCALE)
        encoded = pipe.encode(target, condition)
        again = pipe.decode(encoded.noise, condition)
        assert np.abs(again.images[0].astype(int) - target).max() <= 1
        np.testing.assert_allclose(again.log_likelihood, encoded.log_likelihood, rtol=1e-3)


@pytest.mark.full
def test_an_int8_model_is_close_to_the_model_in_float32(
    small: ExportReport, least_exported: Path, photographs: Path
) -> None:
    condition = photograph(photographs, 1, 16, 16)
    with load(small.path, backend="cpu") as pipe, load(least_exported, backend="cpu") as exact:
        a, b = (one.best_of(condition, n=1) for one in (pipe, exact))
    error = a.images[0].astype(float) - b.images[0]
    assert 0 < np.sqrt(np.square(error).mean()) < 1
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=0.05)


def test_photographs_are_given_with_int8_and_with_nothing_else(least: Path, photographs: Path, tmp_path: Path) -> None:
    for options in (["--precision", "int8"], ["--data", photographs], ["--precision", "fp16", "--data", photographs]):
        done = caflow_export(least, "-o", tmp_path / "new.caflow", *options, code=2)
        assert "precision int8 requires data" in done.stderr
    (tmp_path / "broken.jpg").write_text("no image")
    none = caflow_export(least, "-o", tmp_path / "new.caflow", "--precision", "int8", "--data", tmp_path)
    assert f"skipped: {tmp_path / 'broken.jpg'}: " in none.stderr
    assert "expected photographs" in none.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken.jpg"]


@pytest.mark.full
def test_engines_of_an_int8_model_are_refused(small: ExportReport) -> None:
    done = caflow_export(small.path, "--trt", "fp16", code=2)
    assert "TensorRT does not support their zero points" in done.stderr
