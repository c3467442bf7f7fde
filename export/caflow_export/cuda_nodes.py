"""Count of the nodes of a graph that ONNX Runtime's CUDA provider runs on the CPU.

Such nodes are slow, because their inputs and outputs are copied between the GPU and the CPU. An export with such a node
fails. `KERNELS` lists the
provider's kernels, from ONNX Runtime's docs/OperatorKernels.md (commit 001d12d2, 2026). Operator versions that never
occur in graphs of opset 18 or later are omitted. Control flow, sequences, random numbers and recurrent networks are
omitted because exported graphs never contain them. `Resize` of version 19 is omitted because older releases of ONNX
Runtime have no kernel for it.
"""

from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import TensorProto

HALF_TO_DOUBLE = frozenset((TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE))
FLOATS = HALF_TO_DOUBLE | {TensorProto.BFLOAT16}
LARGE_INTEGERS = frozenset((TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64))
SMALL_INTEGERS = frozenset((TensorProto.INT8, TensorProto.INT16, TensorProto.UINT8, TensorProto.UINT16))
NUMBERS = FLOATS | LARGE_INTEGERS | SMALL_INTEGERS
ANY = NUMBERS | {TensorProto.BOOL}
BOOL = frozenset((TensorProto.BOOL,))
BYTES = frozenset((TensorProto.INT8, TensorProto.UINT8))
SIGNED = frozenset((TensorProto.INT32, TensorProto.INT64))
REDUCED = HALF_TO_DOUBLE | {TensorProto.INT32}

Kernel = tuple[int, int | None, frozenset[int]]
"""First operator version of a kernel, last operator version or None, and the input types that the kernel supports.

None means that the kernel is known to support its first version only.
"""


def _kernels(versions: Iterable[tuple[int, int | None]], types: frozenset[int]) -> list[Kernel]:
    return [(first, last, types) for first, last in versions]


RESHAPING = ((23, None), (21, 22), (19, 20), (13, 18))
KERNELS: dict[str, list[Kernel]] = {
    **{
        name: [(version, None, types)]
        for version, types, names in (
            (1, BOOL, "Not"),
            (1, HALF_TO_DOUBLE, "GlobalAveragePool GlobalMaxPool Softplus Softsign"),
            (6, HALF_TO_DOUBLE, "Elu InstanceNormalization Selu"),
            (7, BOOL, "And Or Xor"),
            (7, HALF_TO_DOUBLE, "Cos Sin"),
            (11, HALF_TO_DOUBLE, "ConvTranspose Round"),
            (11, HALF_TO_DOUBLE | SIGNED, "TopK"),
            (12, HALF_TO_DOUBLE, "Einsum"),
            (12, HALF_TO_DOUBLE | BYTES, "MaxPool"),
            (13, ANY, "Concat Expand Flatten Gather GatherElements Slice"),
            (13, FLOATS, "Erf Exp Gemm MatMul Sigmoid Softmax Sqrt Sum Tanh"),
            (13, FLOATS | LARGE_INTEGERS, "Max Min Mod"),
            (13, FLOATS | SIGNED, "ReduceSum Tile"),
            (13, HALF_TO_DOUBLE, "ArgMax ArgMin Ceil DepthToSpace Floor Log LogSoftmax LRN Reciprocal SpaceToDepth"),
            (13, HALF_TO_DOUBLE | BYTES | {TensorProto.INT64, TensorProto.UINT64}, "Clip"),
            (13, HALF_TO_DOUBLE | LARGE_INTEGERS, "Greater Less"),
            (13, HALF_TO_DOUBLE | LARGE_INTEGERS | BOOL, "Equal"),
            (13, NUMBERS, "Abs Sign"),
            (13, NUMBERS - {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}, "Neg"),
            (14, ANY, "Trilu"),
            (14, FLOATS, "Relu"),
            (14, HALF_TO_DOUBLE | LARGE_INTEGERS, "CumSum"),
            (14, NUMBERS, "Add Div Mul Sub"),
            (15, FLOATS | SIGNED, "Pow"),
            (15, HALF_TO_DOUBLE, "BatchNormalization"),
            (16, HALF_TO_DOUBLE, "LeakyRelu PRelu"),
            (16, HALF_TO_DOUBLE | LARGE_INTEGERS, "GreaterOrEqual LessOrEqual"),
            (17, FLOATS, "LayerNormalization"),
            (18, ANY, "ScatterElements ScatterND Split"),
            (18, HALF_TO_DOUBLE, "ReduceLogSum ReduceLogSumExp ReduceSumSquare"),
            (18, HALF_TO_DOUBLE | BOOL, "Pad"),
            (18, HALF_TO_DOUBLE | SIGNED, "ReduceMax"),
            (18, HALF_TO_DOUBLE | SIGNED | BYTES, "ReduceMin"),
            (18, HALF_TO_DOUBLE | {TensorProto.INT32, TensorProto.UINT8}, "Resize"),
            (18, REDUCED, "ReduceL1 ReduceL2 ReduceMean ReduceProd"),
            (20, FLOATS, "Gelu"),
        )
        for name in names.split()
    },
    **{name: _kernels(RESHAPING, ANY) for name in ("Cast", "Reshape", "Shape", "Squeeze", "Transpose", "Unsqueeze")},
    "AveragePool": [(22, None, FLOATS), (19, 21, HALF_TO_DOUBLE), (11, 18, HALF_TO_DOUBLE)],
    "Conv": [(22, None, FLOATS), (11, 21, HALF_TO_DOUBLE)],
    "DequantizeLinear": _kernels(((21, None), (19, 20), (13, 18)), BYTES),
    "GridSample": _kernels(((22, None), (20, 21), (16, 19)), frozenset((TensorProto.FLOAT,))),
    "HardSigmoid": [(22, None, FLOATS), (6, 21, HALF_TO_DOUBLE)],
    "Identity": _kernels(((19, None), (14, 18)), ANY),
    "IsInf": [(20, None, FLOATS), (10, 19, HALF_TO_DOUBLE - {TensorProto.FLOAT16})],
    "IsNaN": [(20, None, FLOATS), (13, 19, FLOATS)],
    "QuantizeLinear": _kernels(((21, None), (19, 20), (13, 18)), frozenset((TensorProto.FLOAT,))),
    "Where": [(16, None, FLOATS | SIGNED | {TensorProto.UINT8})],
}
TYPED_INPUT = {"Where": 1}
"""Index of the input whose type selects the kernel, for operators where this is not the first input."""


def nodes_on_cpu(proto: onnx.ModelProto) -> Counter[str]:
    """Return how many nodes of a graph have no CUDA kernel, by operator.

    The weights may be inside the graph or in a separate file. Nodes that depend on constants and shapes only are not
    counted: they always run on the CPU, and nothing is copied.
    """
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    graph = onnx.shape_inference.infer_shapes(proto).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    on_host = {tensor.name for tensor in graph.initializer} | {""}
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in ("Shape", "Size") or on_host.issuperset(node.input):
            on_host.update(node.output)
        elif not _has_kernel(node, opset, types):
            found[node.op_type] += 1
    return found


def _has_kernel(node: onnx.NodeProto, opset: int, types: dict[str, int]) -> bool:
    version = onnx.defs.get_schema(node.op_type, opset).since_version
    kind = types.get(node.input[TYPED_INPUT.get(node.op_type, 0)])
    return any(
        kind in taken and (first == version or (last is not None and first <= version <= last))
        for first, last, taken in KERNELS.get(node.op_type, ())
    )
