"""Plans of the fake TensorRT: an ONNX model with the shapes that it takes, which ONNX Runtime computes on the CPU."""

import json
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

MAGIC = b"ftrt"
TYPES = {
    TensorProto.FLOAT: ("FLOAT", np.float32),
    TensorProto.FLOAT16: ("HALF", np.float16),
    TensorProto.INT64: ("INT64", np.int64),
    TensorProto.UINT8: ("UINT8", np.uint8),
}

Shape = tuple[int, ...]
Range = list[Shape]
"""Smallest, typical and largest shape."""


class Plan:
    """What an engine is made from."""

    def __init__(self, model: bytes, about: dict[str, Any]) -> None:
        """`about`: compute capability, whether the user gives all memory, and each profile's shapes of the inputs."""
        self.model = model
        self.compute_capability: str = about["compute_capability"]
        self.has_user_allocation: bool = about["has_user_allocation"]
        self.profiles: list[dict[str, Range]] = [
            {name: [tuple(shape) for shape in shapes] for name, shapes in profile.items()}
            for profile in about["profiles"]
        ]
        graph = onnx.load_model_from_string(model).graph
        self.inputs = {value.name: _shape(value) for value in graph.input}
        self.outputs = {value.name: _shape(value) for value in graph.output}
        self.types = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
        self._shapes: dict[Any, dict[str, Shape]] = {}

    @classmethod
    def from_bytes(cls, contents: bytes) -> "Plan":
        """Raises:
        ValueError: if they are not a plan.
        """
        if contents[: len(MAGIC)] != MAGIC:
            raise ValueError("the plan is not one")
        about, _, model = contents[len(MAGIC) :].partition(b"\n")
        return cls(model, json.loads(about))

    def dtype(self, name: str) -> Any:
        """Of an input or output, as numpy's."""
        return np.dtype(TYPES[self.types[name]][1])

    def output_shapes(self, inputs: dict[str, Shape]) -> dict[str, Shape]:
        """As ONNX Runtime finds them, since the graphs name them without saying how they follow from the inputs."""
        key = tuple(inputs.items())
        if key not in self._shapes:
            zeros = {name: np.zeros(shape, self.dtype(name)) for name, shape in inputs.items()}
            self._shapes[key] = {name: array.shape for name, array in self.run(zeros).items()}
        return self._shapes[key]

    def run(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute."""
        return dict(zip(self.outputs, _session(self.model).run(list(self.outputs), arrays), strict=True))


def plan_bytes(model: bytes, about: dict[str, Any]) -> bytes:
    """A plan as it is stored."""
    return MAGIC + json.dumps(about).encode() + b"\n" + model


@cache
def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _shape(value: onnx.ValueInfoProto) -> Shape:
    """−1 where it is dynamic."""
    return tuple(-1 if size.dim_param else size.dim_value for size in value.type.tensor_type.shape.dim)
