"""Operators that the graphs of a bundle may contain: those that `caflow-export` writes, all of them ONNX's own.

None of them runs a graph of its own, as `Loop` and `If` do, so the run of a graph ends. The list is `operators.txt`.
The C++ runtime is compiled with the same file.
"""

from importlib.resources import files

OPERATORS = frozenset(files("caflow_runtime.bundle").joinpath("operators.txt").read_bytes().split())
"""Names of the operators, as bytes."""
