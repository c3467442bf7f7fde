"""Plans to engines, and what engines know of themselves."""

from enum import IntEnum
from typing import Any

from fake_gpu.calls import misuse
from fake_gpu.plans import TYPES, Plan, Shape
from fake_gpu.tensorrt.context import IExecutionContext, RtxContext
from fake_gpu.tensorrt.objects import INTERNAL, Logger, Object

HERE = ("CURRENT", "SM86")


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    UINT8 = 5
    INT64 = 8


class TensorIOMode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 2


class DynamicShapesKernelSpecializationStrategy(IntEnum):
    LAZY = 0
    EAGER = 1


class ICudaEngine(Object):
    """A graph."""

    def __init__(self, maker: Object, plan: Plan, size: int) -> None:
        super().__init__(maker, size)
        self.plan = plan
        self._names: list[str] = [*plan.inputs, *plan.outputs]
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = max(1, len(plan.profiles))

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.plan.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[TYPES[self.plan.types[name]][0]]

    def get_tensor_shape(self, name: str) -> Shape:
        return {**self.plan.inputs, **self.plan.outputs}[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        return self.plan.profiles[profile_index][name]

    def create_execution_context(self, config: Any) -> IExecutionContext | None:
        """`config`: a strategy."""
        _check(config)
        made: IExecutionContext | None = self.make(IExecutionContext, self.plan)
        return made


def _check(strategy: ExecutionContextAllocationStrategy) -> None:
    if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
        misuse("a context takes memory of its own")


class RtxEngine(ICudaEngine):
    """Of TensorRT-RTX."""

    def create_runtime_config(self) -> "IRuntimeConfig":
        return IRuntimeConfig(self)

    def create_execution_context(self, config: "IRuntimeConfig") -> RtxContext | None:
        _check(config.strategy)
        specialization = config.dynamic_shapes_kernel_specialization_strategy
        is_eager = specialization == DynamicShapesKernelSpecializationStrategy.EAGER
        is_capturable = is_eager and self.plan.has_user_allocation
        made: RtxContext | None = self.make(RtxContext, self.plan, is_capturable, config.cache)
        return made


class Runtime(Object):
    """Loads engines."""

    engine = ICudaEngine

    def __init__(self, logger: Logger) -> None:
        super().__init__(None)

    def deserialize_cuda_engine(self, serialized: bytes) -> ICudaEngine | None:
        plan = Plan.from_bytes(serialized)
        if plan.compute_capability not in HERE:
            self.report(INTERNAL, f"the plan is for {plan.compute_capability}")
            return None
        made: ICudaEngine | None = self.make(self.engine, plan, len(serialized))
        return made


class RtxRuntime(Runtime):
    """Of TensorRT-RTX."""

    engine = RtxEngine


class IRuntimeCache(Object):
    """Compiled kernels: how many there are."""

    has_recorder = False
    kernels = 0

    def deserialize(self, data: bytes) -> bool:
        self.kernels = int(data)
        return True

    def serialize(self) -> bytes:
        return b"%d" % self.kernels


class IRuntimeConfig(Object):
    """How contexts are made."""

    has_recorder = False
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def __init__(self, maker: Object) -> None:
        super().__init__(maker)
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cache: IRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(None)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True
