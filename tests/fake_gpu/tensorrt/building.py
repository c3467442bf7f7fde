"""Networks to plans."""

from enum import IntEnum
from typing import Any

import onnx

from fake_gpu.calls import LOCK, misuse
from fake_gpu.plans import TYPES, plan_bytes
from fake_gpu.tensorrt.objects import Logger, Object


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 0


class BuilderFlag(IntEnum):
    TF32 = 6
    REQUIRE_USER_ALLOCATION = 28


class ComputeCapability(IntEnum):
    CURRENT = 1
    SM75 = 75
    SM86 = 86
    SM120 = 120


class IProgressMonitor:
    """Base of the monitors of others."""


class Network(Object):
    """An ONNX model, parsed."""

    model = b""


class OnnxParser:
    """Reads ONNX models whose inputs and outputs the fakes can compute."""

    def __init__(self, network: Network, logger: Logger) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        if self._network.fails():
            return False
        graph = onnx.load_model_from_string(model).graph
        assert all(value.type.tensor_type.elem_type in TYPES for value in [*graph.input, *graph.output])
        self._network.model = model
        return True

    def get_error(self, index: int) -> "ParserError":
        return ParserError()


class ParserError:
    """The only one."""

    def desc(self) -> str:
        return "a call of the fake TensorRT failed, as it was told to"

    def node_operator(self) -> str:
        return "Conv"

    def node_name(self) -> str:
        return "first"


class TimingCache:
    """Holds nothing."""

    def serialize(self) -> bytes:
        return b"timings"


class Profile:
    """Shapes of the inputs."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, least: tuple[int, ...], best: tuple[int, ...], most: tuple[int, ...]) -> None:
        if any(not 1 <= a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
            misuse(f"{name}: {least}, {best} and {most} are not in order")
        self.shapes[name] = [least, best, most]


class Config(Object):
    """What to build for."""

    has_recorder = False
    progress_monitor: Any = None
    num_compute_capabilities = 0

    def __init__(self, maker: Object) -> None:
        super().__init__(maker)
        self.flags = {BuilderFlag.TF32}
        self.compute_capability: ComputeCapability | None = None
        self.profiles: list[Profile] = []
        self._timings = TimingCache()

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        assert index < self.num_compute_capabilities
        self.compute_capability = compute_capability
        return True

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: bytes) -> TimingCache:
        return TimingCache()

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> TimingCache:
        return self._timings


class Builder(Object):
    """Makes plans."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(None)

    def create_network(self, flags: int) -> Network:
        if not flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED:
            misuse("the network is not strongly typed, so its types are not those of the graph")
        return Network(self)

    def create_builder_config(self) -> Config:
        return Config(self)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        with LOCK:
            if self.fails():
                return None
            if BuilderFlag.TF32 in config.flags:
                misuse("TF32 is on")
            return plan_bytes(network.model, _about(network, config))


def _about(network: Network, config: Config) -> dict[str, Any]:
    dynamic = {
        value.name
        for value in onnx.load_model_from_string(network.model).graph.input
        if any(size.dim_param for size in value.type.tensor_type.shape.dim)
    }
    if any(set(profile.shapes) != dynamic for profile in config.profiles) or (dynamic and not config.profiles):
        misuse(f"the profiles do not give the shapes of exactly {sorted(dynamic)}")
    named = config.compute_capability or ComputeCapability.CURRENT
    return {
        "compute_capability": named.name,
        "has_user_allocation": BuilderFlag.REQUIRE_USER_ALLOCATION in config.flags,
        "profiles": [profile.shapes for profile in config.profiles],
    }
