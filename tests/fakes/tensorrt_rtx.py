"""Imitates TensorRT-RTX 1.x for Python, as far as it is used; its engines are computed by ONNX Runtime on the CPU."""

from fake_gpu.tensorrt.building import (
    Builder,
    BuilderFlag,
    ComputeCapability,
    IProgressMonitor,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)
from fake_gpu.tensorrt.engine import (
    DataType,
    DynamicShapesKernelSpecializationStrategy,
    ExecutionContextAllocationStrategy,
    TensorIOMode,
)
from fake_gpu.tensorrt.engine import (
    RtxRuntime as Runtime,
)
from fake_gpu.tensorrt.objects import IErrorRecorder, Logger

__all__ = [
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "ExecutionContextAllocationStrategy",
    "IErrorRecorder",
    "IProgressMonitor",
    "Logger",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
]
