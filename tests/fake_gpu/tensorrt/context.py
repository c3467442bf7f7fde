"""What runs an engine: shapes and addresses first, then work for a stream."""

from math import prod
from typing import Any

import numpy as np

from fake_gpu.calls import LOCK, misuse
from fake_gpu.memory import MEMORY, POISON
from fake_gpu.plans import Plan, Shape
from fake_gpu.queues import QUEUES
from fake_gpu.tensorrt.objects import INTERNAL, Object

SIZE, ALIGNMENT = 4096, 256


class IExecutionContext(Object):
    """Has a profile, shapes, addresses, and memory to work in."""

    is_capturable = True

    def __init__(self, maker: Object, plan: Plan) -> None:
        self.life = {"is_alive": True, "has_profile": False}
        """Shared with work that is queued."""
        super().__init__(maker, SIZE)
        self._plan = plan
        self._profile: int | None = None
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._needs = -1
        """Bytes to work in; −1 after the shapes have changed."""
        self._ran: Any = None
        """Shapes of the last run that was not captured."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        with LOCK:
            queue, life = QUEUES.find(stream_handle), self.life
            if self.fails():
                return False
            if queue.captured is not None:
                misuse("the profile of a context is set while the stream is captured")
            self._profile, self._shapes, self._needs, self._ran = profile_index, {}, -1, None
            queue.push(lambda: life.update(has_profile=True))
            return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        if self.fails():
            return False
        if self._profile is None:
            misuse(f"{name}: the shape is set before the profile")
        fixed = self._plan.inputs[name]
        ranges = self._plan.profiles[self._profile][name] if -1 in fixed else [fixed] * 3
        fits = len(shape) == len(fixed) and all(
            low <= size <= high for low, size, high in zip(ranges[0], shape, ranges[2], strict=True)
        )
        if not fits:
            self.report(INTERNAL, f"{name}: {shape} is not from {ranges[0]} to {ranges[2]}")
            return False
        if self._shapes.get(name) != shape:
            self._shapes[name], self._needs = shape, -1
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        with LOCK:
            if self.fails():
                return False
            MEMORY.check(memory, 0)
            if memory % ALIGNMENT:
                misuse(f"{name}: the address {memory:#x} is not aligned to {ALIGNMENT} bytes")
            self._addresses[name] = memory
            return True

    def get_tensor_shape(self, name: str) -> Shape:
        self._check_shapes()
        return {**self._shapes, **self._plan.output_shapes(self._shapes)}[name]

    def update_device_memory_size_for_shapes(self) -> int:
        """As many bytes as the inputs have; none for graphs of one input, as for the simplest ones."""
        self._check_shapes()
        if self.fails():
            return 0
        self._needs = sum(map(prod, self._shapes.values())) if len(self._shapes) > 1 else 0
        return self._needs

    def set_device_memory(self, memory: int, size: int) -> None:
        with LOCK:
            MEMORY.check(memory, size)
            if memory % ALIGNMENT:
                misuse(f"the memory to work in at {memory:#x} is not aligned to {ALIGNMENT} bytes")
            self._memory = memory, size

    def execute_async_v3(self, stream_handle: int) -> bool:
        with LOCK:
            queue = QUEUES.find(stream_handle)
            if self.fails():
                return False
            self._check_shapes()
            if set(self._addresses) != {*self._plan.inputs, *self._plan.outputs}:
                misuse("not all inputs and outputs have addresses")
            if self._memory is None or self._needs < 0 or self._memory[1] < self._needs:
                self.report(INTERNAL, f"the memory to work in, {self._memory}, is not enough for these shapes")
                return False
            if queue.captured is not None:
                if not self.is_capturable:
                    misuse("a context is captured that cannot be")
                if self._ran != self._shapes:
                    misuse("a context is captured that has not run with these shapes before")
            else:
                self._ran = dict(self._shapes)
            queue.push(self._work())
            return True

    def _work(self) -> Any:
        """With the shapes and addresses of now."""
        plan, life, memory = self._plan, self.life, self._memory
        shapes = {**self._shapes, **plan.output_shapes(self._shapes)}
        addresses = dict(self._addresses)

        def run() -> None:
            if not life["is_alive"]:
                misuse("a context is freed before its work is done")
            if not life["has_profile"]:
                misuse("an engine runs before the stream that sets its profile has come to that")
            arrays = {name: MEMORY.array(addresses[name], shapes[name], plan.dtype(name)) for name in shapes}
            assert memory is not None
            room = MEMORY.check(*memory, is_live=True)
            room[:] = POISON
            others = [room, *(arrays[name] for name in plan.inputs)]
            if any(np.shares_memory(arrays[name], other) for name in plan.outputs for other in others):
                misuse("an output lies in an input, or in the memory that the engines work in")
            results = plan.run({name: arrays[name] for name in plan.inputs})
            for name, result in results.items():
                arrays[name][:] = result

        return run

    def _check_shapes(self) -> None:
        if set(self._shapes) != set(self._plan.inputs):
            misuse(f"not all inputs have shapes: {sorted(self._shapes)}")

    def __del__(self) -> None:
        self.life["is_alive"] = False
        super().__del__()


class RtxContext(IExecutionContext):
    """Of TensorRT-RTX: what it compiles goes into a cache."""

    def __init__(self, maker: Object, plan: Plan, is_capturable: bool, cache: Any) -> None:
        super().__init__(maker, plan)
        self.is_capturable = is_capturable
        self._cache = cache

    def is_stream_capturable(self, stream: int) -> bool:
        QUEUES.find(stream)
        return self.is_capturable and not self.fails()

    def execute_async_v3(self, stream_handle: int) -> bool:
        is_done = super().execute_async_v3(stream_handle)
        self._cache.kernels += is_done
        return is_done
