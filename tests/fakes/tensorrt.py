"""Imitates TensorRT 10 for Python: without the runtime configurations and the compute capabilities of TensorRT-RTX."""

from fake_gpu.tensorrt.building import (
    Builder,
    BuilderFlag,
    IProgressMonitor,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)
from fake_gpu.tensorrt.engine import DataType, ExecutionContextAllocationStrategy, Runtime, TensorIOMode
from fake_gpu.tensorrt.objects import IErrorRecorder, Logger

__all__ = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "ExecutionContextAllocationStrategy",
    "IErrorRecorder",
    "IProgressMonitor",
    "Logger",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
]
