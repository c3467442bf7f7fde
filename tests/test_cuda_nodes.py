"""Count of the nodes that ONNX Runtime's CUDA provider runs on the CPU, which the exporter reports."""

from collections import Counter

import onnx
import pytest

from caflow_export.cuda_nodes import KERNELS, nodes_on_cpu
from caflow_export.export import ExportReport

OLDEST_OPSET = 18
"""Oldest opset of graphs that the list is for."""
RESIZE = "float[1,3,h,w] x) => (float[1,3,a,b] y) <float[4] s = {{1, 1, 2, 2}}> {{ y = Resize(x, , s) }}"


def count(opset: int, text: str) -> Counter[str]:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g ({text}')
    onnx.checker.check_model(model)
    return nodes_on_cpu(model)


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
def test_each_node_by_its_version_and_type(opset: int, text: str, expected: dict[str, int]) -> None:
    assert count(opset, text.replace("{{", "{").replace("}}", "}")) == Counter(expected)


def test_the_list_names_operators_that_exist() -> None:
    for name, kernels in KERNELS.items():
        newest = onnx.defs.get_schema(name).since_version
        assert newest >= OLDEST_OPSET or kernels[0][0] <= newest, name
        for first, last, _ in kernels:
            assert last is None or first < last, name


def test_our_graphs_leave_their_arctangents_alone(exported: ExportReport) -> None:
    """Arctangents are the only nodes of exported graphs that run on the CPU."""
    assert set(exported.on_cpu) == {"Atan"}
    assert exported.on_cpu["Atan"] == sum(
        node.op_type == "Atan"
        for graph in exported.manifest.graphs
        for node in onnx.load(exported.path / graph.file.path, load_external_data=False).graph.node
    )
