"""Operators of exported graphs: readers of bundles accept all of them, and the CUDA provider runs none on the CPU."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from small_models import small_model
from test_tasks import DEGRADING
from test_transformations import VARIANTS
from tiny import TINY

from caflow_export.cuda_nodes import KERNELS, nodes_on_cpu
from caflow_export.export import PRECISIONS, ExportError, _write_graphs, export
from caflow_export.graphs import ModelGraphs
from caflow_export.to_onnx import GraphToTrace, Port, graphs_to_trace, trace
from caflow_export.weights import WeightStore
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.builtin import MODELS
from caflow_runtime.bundle.external_data import OPERATORS
from caflow_runtime.bundle.reading import read_manifest, verify_files
from caflow_training.tasks import ImageToImage


@pytest.mark.parametrize("bundle", [TINY, *sorted(MODELS.glob("*.caflow"))], ids=lambda path: path.stem)
def test_built_in_bundles_are_accepted(bundle: Path) -> None:
    verify_files(bundle, read_manifest(bundle))


def unlisted(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node if node.domain or node.op_type.encode() not in OPERATORS}


SMALLER: dict[str, Any] = {"levels": 2, "target_steps": 1, "own_steps": 1}
KINDS = ("shared", "residual super-resolution", "mean network, degradation", "logit, variational")


@pytest.mark.full
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        *(({"task": task, "levels": 1}, ("encode", "degrade")) for task in DEGRADING),
        *((VARIANTS[kind] | SMALLER, ("",)) for kind in KINDS),
    ],
)
def test_graphs_of_every_task_and_kind_of_layer_are_accepted(changes: dict[str, Any], names: tuple[str, ...]) -> None:
    """Of a task, the graphs that depend on it. Exports in other precisions each check their own graphs."""
    types = PRECISIONS["fp32"]
    model = small_model(torch.float32, **{"task": ImageToImage(), **changes})
    graphs = graphs_to_trace(model, ModelGraphs.of(model, types), types.state)
    assert not {name for graph in graphs if graph.name.startswith(names) for name in unlisted(trace(graph))}


def test_an_export_with_another_operator_fails(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Atan", ["x"], ["y"])], "reverse_0", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    to_trace: list[Any] = [SimpleNamespace(name="reverse_0")]
    numbers: Any = None
    with (tmp_path / "weights.bin").open("w+b") as file:
        store = WeightStore(file)
        with pytest.raises(ExportError, match=r"reverse_0: runtimes refuse the operators Atan: .*operators\.txt"):
            _write_graphs(to_trace, [model], store, tmp_path, numbers)


RESIZE = "float[1,3,h,w] x) => (float[1,3,a,b] y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }"


@pytest.mark.parametrize(
    ("opset", "text", "expected"),
    [
        (18, RESIZE, {}),
        (20, RESIZE, {"Resize": 1}),
        (18, "float[n] x) => (float[n] y) { a = Atan(x) b = Exp(a) y = Atan(b) }", {"Atan": 2}),
        (18, "float[n] x) => (float[m] y) { y = ReduceMax(x) }", {}),
        (20, "float[n] x) => (float[m] y) { y = ReduceMax(x) }", {"ReduceMax": 1}),
        (21, "bfloat16[1,1,h,w] x, bfloat16[1,1,1,1] k) => (bfloat16[1,1,h,w] y) { y = Conv(x, k) }", {"Conv": 1}),
        (22, "bfloat16[1,1,h,w] x, bfloat16[1,1,1,1] k) => (bfloat16[1,1,h,w] y) { y = Conv(x, k) }", {}),
        (18, "int64[n] x) => (int64[n] y) { y = Clip(x) }", {}),
        (18, "int32[n] x) => (int32[n] y) { y = Clip(x) }", {"Clip": 1}),
        (20, "bool[n] c, float[n] x) => (float[n] y) { y = Where(c, x, x) }", {}),
        # Nodes that depend only on shapes and constants run on the CPU anyway, so they are not counted.
        (20, "float[n] x) => (float[a] y) { s = Shape(x) y = ConstantOfShape(s) }", {}),
    ],
)
def test_nodes_without_cuda_kernels_are_found_by_version_and_type(
    opset: int, text: str, expected: dict[str, int]
) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g ({text}')
    onnx.checker.check_model(model)
    assert nodes_on_cpu(model) == Counter(expected)


def test_the_arctangent_is_as_accurate_as_that_of_the_operator(tmp_path: Path) -> None:
    """Also for numbers whose squares overflow or vanish, and for infinity."""

    class Arctangent(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.atan(x)

    path = tmp_path / "arctangent.onnx"
    proto = trace(GraphToTrace("arctangent", Arctangent(), (Port("x", torch.float32, ("items",)),), ("y",)))
    assert not nodes_on_cpu(proto)
    onnx.save(proto, path)
    magnitude = np.concatenate([np.logspace(-38, 38, 20001), np.logspace(-2, 2, 20001), [1e-8, 1e30, np.inf]])
    x = np.concatenate([magnitude, -magnitude, [0.0]]).astype(np.float32)
    y = OnnxRuntimeCpu(1).load(path)({"x": x})["y"]
    np.testing.assert_allclose(y, np.arctan(x.astype(np.float64)), rtol=4e-7, atol=0)


@pytest.mark.usefixtures("traced_before")
def test_an_export_fails_on_nodes_that_cuda_lacks(least: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KERNELS, "Clip")
    with pytest.raises(ExportError, match=r"encode: ONNX Runtime's CUDA provider has no kernel for Clip"):
        export(least, tmp_path / "least.caflow", processes=1)
    assert not list(tmp_path.iterdir())
