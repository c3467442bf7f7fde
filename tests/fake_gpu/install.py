"""The fakes in place of NVIDIA's libraries, in this process and in those that it starts."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fake_gpu import state

TESTS = Path(__file__).parents[1]
FAKES = TESTS / "fakes"
REPLACED = ("cuda", "pynvml", "tensorrt", "tensorrt_rtx")


@contextmanager
def fakes() -> Iterator[None]:
    """`import cuda.core` and the others find the fakes inside, with a new GPU."""
    path = os.environ.get("PYTHONPATH")
    real = _take_out()
    sys.path.insert(0, str(FAKES))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FAKES), str(TESTS), *([path] if path else [])])
    state.reset()
    try:
        yield
    finally:
        sys.path.remove(str(FAKES))
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
        state.reset()
        _take_out()
        sys.modules.update(real)


def _take_out() -> dict[str, ModuleType]:
    """Forget the modules that are replaced; return them."""
    importlib.invalidate_caches()
    names = [name for name in sys.modules if name.partition(".")[0] in REPLACED]
    return {name: sys.modules.pop(name) for name in names}
