"""Graphs for measuring the peak speed of a device: each is a single matrix product."""

from importlib.resources import files

import onnx
import pytest
from onnx import TensorProto

from caflow_runtime.health.peak import SIDE


@pytest.mark.parametrize(("kind", "number"), [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)])
def test_graphs_for_the_peak_speed_are_a_single_matrix_product(kind: str, number: int) -> None:
    contents = files("caflow_runtime.health").joinpath(f"product-{kind}.onnx").read_bytes()
    proto = onnx.load_model_from_string(contents)
    onnx.checker.check_model(proto, full_check=True)
    (node,) = proto.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("MatMul", ["a", "b"], ["product"])
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.elem_type == number
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [SIDE, SIDE]
