"""Nodes that ONNX Runtime's CUDA provider would run on the CPU, and the arctangent that avoids them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from caflow_export.cuda_nodes import KERNELS, nodes_on_cpu
from caflow_export.export import ExportError, export
from caflow_export.to_onnx import GraphToTrace, Port, trace
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu

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
def test_nodes_without_cuda_kernels_are_found_by_version_and_type(
    opset: int, text: str, expected: dict[str, int]
) -> None:
    assert count(opset, text.replace("{{", "{").replace("}}", "}")) == Counter(expected)


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
