"""Fakes of NVIDIA's libraries: they offer only what the libraries offer, and they detect misuse.

Only tests on a GPU can show that the libraries behave like the fakes.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import EnumType
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from fake_gpu import state
from fake_gpu.calls import CALLS, Misuse
from fake_gpu.install import fakes
from fake_gpu.memory import MEMORY
from fake_gpu.tensorrt import building, context, engine
from fake_gpu.tensorrt.objects import Object

MODULES = ("cuda.core", "cuda.core.utils", "cuda.bindings.driver", "pynvml", "tensorrt_rtx")
OF_THE_FAKES = ("Capsule", "CUDAError", "Handle")
MADE_BY_OTHERS = {
    "IBuilderConfig": building.Config,
    "ICudaEngine": engine.RtxEngine,
    "IExecutionContext": context.RtxContext,
    "INetworkDefinition": building.Network,
    "IOptimizationProfile": building.Profile,
    "IRuntimeCache": engine.IRuntimeCache,
    "IRuntimeConfig": engine.IRuntimeConfig,
    "ITimingCache": building.TimingCache,
    "ParserError": building.ParserError,
}
"""TensorRT's classes whose objects are created by other objects. The fake modules do not export their names."""


def offered(module: str) -> dict[str, Any]:
    """Return the public names of a fake module and their objects."""
    found = vars(import_module(module)).items()
    own = {n: one for n, one in found if getattr(one, "__module__", "").startswith((module, "fake_gpu.tensorrt"))}
    public = {name: one for name, one in own.items() if not name.startswith("_") and name not in OF_THE_FAKES}
    return public if module != "tensorrt_rtx" else public | MADE_BY_OTHERS


def parts(kind: type) -> dict[str, Any]:
    """Return the public methods and properties of a fake class, without those of the fakes' own base class."""
    return {
        name: one
        for base in kind.__mro__
        if base not in (object, Object)
        for name, one in vars(base).items()
        if not name.startswith("_") and (inspect.isroutine(one) or isinstance(one, property))
    }


def values(kind: Any) -> dict[str, int]:
    """Return the names and values of an enumeration."""
    return {name: int(value) for name, value in kind.__members__.items()}


def check_parameters(name: str, fake: Any, real: Any) -> None:
    """Assert that the fake has no parameter that the real function lacks, if the real function has a signature."""
    if isinstance(fake, property):
        return
    with suppress(ValueError):  # TensorRT's functions have no signature; the code passes their arguments by position
        known = set(inspect.signature(real).parameters)
        assert set(inspect.signature(getattr(fake, "__func__", fake)).parameters) - {"self", "cls"} <= known, name


def test_they_offer_nothing_that_the_libraries_do_not() -> None:
    with fakes():
        found = {module: offered(module) for module in MODULES}
    checked = 0
    for module, names in found.items():
        real_module = import_module(module)
        for name, fake in names.items():
            real = getattr(real_module, name)
            checked += 1
            if isinstance(fake, EnumType):
                assert values(fake).items() <= values(real).items(), name
            elif isinstance(fake, type):
                for part, one in parts(fake).items():
                    check_parameters(f"{name}.{part}", one, getattr(real, part))
            else:
                check_parameters(name, fake, real)
    assert checked > 40


@pytest.fixture
def cuda() -> Iterator[Any]:
    """The fake `cuda.core`, without a check that everything is freed."""
    with fakes():
        core = import_module("cuda.core")
        core.Device(0).set_current()
        yield core


def buffer(core: Any, stream: Any, size: int = 1024) -> Any:
    return core.DeviceMemoryResource(core.Device(0)).allocate(size, stream=stream)


def test_work_waits_for_its_stream(cuda: Any) -> None:
    stream, other = (cuda.Device(0).create_stream() for _ in range(2))
    pinned, there = cuda.LegacyPinnedMemoryResource().allocate(8), buffer(cuda, stream, 8)
    host = MEMORY.array(pinned.handle, (8,), np.uint8)
    host[:] = 7
    pinned.copy_to(there, stream=stream)
    host[:] = 9
    other.wait(stream)
    there.copy_to(pinned, stream=other)
    assert (host == 9).all()
    other.sync()
    assert (host == 9).all(), "a copy must read its source when the stream runs it, not when it is queued"
    assert (MEMORY.array(there.handle, (8,), np.uint8) == 9).all()


def use_unsynchronised(core: Any, stream: Any) -> None:
    other = core.Device(0).create_stream()
    made = buffer(core, stream)
    made.copy_to(buffer(core, other), stream=other)
    other.sync()


def use_freed(core: Any, stream: Any) -> None:
    made, other = buffer(core, stream), buffer(core, stream)
    made.copy_to(other, stream=stream)
    unowned = core.Buffer.from_handle(made.handle, 8)
    made.close()
    stream.sync()
    unowned.copy_to(core.Buffer.from_handle(other.handle, 8), stream=stream)


def use_beyond(core: Any, stream: Any) -> None:
    core.Buffer.from_handle(buffer(core, stream).handle + 1020, 8)


def use_pageable(core: Any, _: Any) -> None:
    core.Buffer.from_handle(np.zeros(8, np.uint8).ctypes.data, 8)


def sync_captured(_: Any, stream: Any) -> None:
    driver = import_module("cuda.bindings.driver")
    driver.cuStreamBeginCapture(stream.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    stream.sync()


def launch_with_wrong_types(core: Any, stream: Any) -> None:
    source = 'extern "C" __global__ void find_not_finite(const float* values, unsigned rows) {}'
    kernel = (
        core.Program(source, "c++", core.ProgramOptions(arch="sm_86")).compile("cubin").get_kernel("find_not_finite")
    )
    core.launch(stream, core.LaunchConfig(grid=1, block=1), kernel, buffer(core, stream), np.int64(1))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (use_unsynchronised, "before the stream that allocates it"),
        (use_freed, "used after it was freed"),
        (use_beyond, "not inside of any allocation"),
        (use_pageable, "not inside of any allocation"),
        (sync_captured, "synchronised while it is captured"),
        (launch_with_wrong_types, "is launched with"),
    ],
)
def test_misuse_is_noticed_and_kept(cuda: Any, work: Callable[[Any, Any], None], message: str) -> None:
    stream = cuda.Device(0).create_stream()
    with pytest.raises(Misuse, match=message):
        work(cuda, stream)
    assert len(CALLS.misuses) == 1


def test_what_is_left_is_named(cuda: Any) -> None:
    stream = cuda.Device(0).create_stream()
    kept = buffer(cuda, stream)
    assert state.left() == {"bytes of buffers": 1024, "streams": 1}
    del kept, stream
    assert state.left() == {}
