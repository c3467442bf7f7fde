"""Arctangent in operators that ONNX Runtime's CUDA provider has.

The provider has no kernel for Atan, so each Atan would run on the CPU and copy its input and output.
"""

from typing import Any

from onnxscript import opset18

op: Any = opset18  # whose types do not include Python's numbers
LARGEST = 1e9
"""Larger inputs are replaced by this number, because their squares overflow. Both have the same arctangent."""
K, A, B, C, D, E = 0.63661978525, 0.40528339664, -0.06027502173, 0.48132677349, -0.05858037439, 0.36580780668


def arctangent(x: Any) -> Any:
    """Return the arctangent of x as x / (K s + A + B / (s + C + D / (s + E))), where s = √(1 + x²).

    This is the continued fraction of a rational function. Its coefficients minimize the largest relative error, which
    is 2.0e-8. With the rounding of float32 the error is at most 3e-7, as that of ONNX Runtime's own Atan on CPUs. The
    form has no branches, and fewer operations than a polynomial of the same accuracy.
    """
    x = op.Clip(x, -LARGEST, LARGEST)
    s = op.Sqrt(op.Add(op.Mul(x, x), 1.0))
    inner = op.Add(op.Add(s, C), op.Div(D, op.Add(s, E)))
    return op.Div(x, op.Add(op.Add(op.Mul(s, K), A), op.Div(B, inner)))
