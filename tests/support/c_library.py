"""The C library, called through ctypes, so that tests can check its ABI. This is no interface for applications.

The structs are those of `caflow.h`.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

LIBRARY = Path(__file__).parents[2] / "build" / "cpp" / "libcaflow.so"
"""The library that the fixture `built_cpp` builds."""
WITH_PIXELS, WITH_LIKELIHOOD_MAPS = 1, 2
RANKS = {"of the bundle": 0, "likelihood": 1, "consistency": 2, "typical": 3}
JUDGES = {"sample": 0, "image": 1}
OTHERWISE = {"keep": 0, "bicubic": 1, "drop": 2}
NO_REDRAWS = 2**32 - 1
WITHOUT_CALIBRATION = 1
OUTCOME = ("unjudged", "accepted", "rejected", "bicubic")
NOISES = {"fixed": 0, "fresh": 1}
DRIFTING = 2
NO_SAMPLE = 2**32 - 1
STATUS = ("ok", "input", "bundle", "backend", "not finite", "out of memory", "internal", "untypical", "stopped")


class CError(Exception):
    """Failed call of the C library: its status by name, and the library's error message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = STATUS[status]


@contextmanager
def refused(status: str, message: str) -> Iterator[None]:
    """Expect that a call of the block fails with this status, and with a message that the expression matches."""
    with pytest.raises(CError, match=message) as error:
        yield
    assert error.value.status == status


_PROGRESS = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)
_TYPES: dict[str, Any] = {
    "size": c_size_t,
    "u32": c_uint32,
    "u64": c_uint64,
    "i64": ctypes.c_int64,
    "double": c_double,
    "text": c_char_p,
    "pointer": c_void_p,
    "progress": _PROGRESS,
    "bytes": POINTER(ctypes.c_uint8),
    "u32s": POINTER(c_uint32),
    "floats": POINTER(ctypes.c_float),
    "doubles": POINTER(c_double),
}


def _fields(*declared: str) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a struct, each declared by a type of `_TYPES` and the names that have it."""
    return tuple((name, _TYPES[kind]) for kind, *names in map(str.split, declared) for name in names)


class _Image(ctypes.Structure):
    _fields_ = _fields("pointer rgb", "size height width stride channels")


class _OpenOptions(ctypes.Structure):
    _fields_ = _fields(
        *("size struct_size", "text backend engine_cache", "u64 pixel_budget", "i64 overlap", "u32 threads flags"),
        "text plugin_library",
    )


class _DrawOptions(ctypes.Structure):
    _fields_ = _fields(
        *("size struct_size", "u32 n first_sample seed frame", "doubles temperature", "size temperatures"),
        *("u32s keep", "size keeps", "u32 rank flags", "double min_typicality"),
        *("u32 judge otherwise redraws consistent", "progress progress", "pointer user"),
    )


class _StreamOptions(ctypes.Structure):
    _fields_ = _fields("size struct_size", "double persistence", "u32 noise flags")


class _ModelInfo(ctypes.Structure):
    _fields_ = _fields(
        *("size struct_size", "text task description precision backend", "u32 scale size_multiple levels channels"),
        "u64 pixel_budget",
    )


class _Result(ctypes.Structure):
    _fields_ = _fields(
        *("size image", "u32 sample levels", "size height width", "bytes rgb", "double log_likelihood"),
        *("doubles per_level", "double bits_per_dim consistency", "floats pixels log_likelihood_map"),
        *("u32 starts_scene outcome rejected", "text reason", "double sample_typicality image_typicality"),
        "doubles level_typicality level_residuals",
    )


class _Results(ctypes.Structure):
    _fields_ = (("count", c_size_t), ("result", POINTER(POINTER(_Result))))


Result = SimpleNamespace
"""Copy of one result. It stays valid after the library has freed its own result. NULL is None."""


class CModel:
    """Handle of a model. Options are those of `Pipeline`, or fields of the C structs. `progress` is a function of the
    finished and of all windows, which returns whether to stop."""

    def __init__(self, folder: Path, library: Path = LIBRARY, backend: bytes = b"cpu", **options: Any) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.caflow_last_error.restype = c_char_p
        self._library.caflow_version.restype = c_char_p
        for name in ("close", "close_stream", "free_results", "set_stopped"):
            getattr(self._library, f"caflow_{name}").restype = None
        self._model = c_void_p()
        known = _OpenOptions(struct_size=ctypes.sizeof(_OpenOptions), backend=backend, **options)
        self._check(self._library.caflow_open(os.fsencode(folder), byref(known), byref(self._model)))

    @property
    def info(self) -> dict[str, Any]:
        """Fields of `caflow_model_info`, by name."""
        info = _ModelInfo(struct_size=ctypes.sizeof(_ModelInfo))
        self._check(self._library.caflow_info(self._model, byref(info)))
        return {name: getattr(info, name) for name, _ in _ModelInfo._fields_}

    def best_of(self, conditions: list[NDArray[np.uint8]], **options: Any) -> list[Result]:
        """Return the best sample of each condition."""
        return self._draw(self._library.caflow_best_of, conditions, options)

    def sample(self, conditions: list[NDArray[np.uint8]], **options: Any) -> list[Result]:
        """Return all samples of all conditions."""
        return self._draw(self._library.caflow_sample, conditions, options)

    def score(
        self, targets: list[NDArray[np.uint8]], conditions: list[NDArray[np.uint8]], alpha: float | None = None
    ) -> list[Result]:
        """Return one result for each pair of a target and a condition; with `alpha`, by `caflow_judge`."""
        results, verdict = POINTER(_Results)(), () if alpha is None else (c_double(alpha),)
        function = self._library.caflow_score if alpha is None else self._library.caflow_judge
        given = (_images(targets), _images(conditions), c_size_t(len(targets)), *verdict, c_uint32(0))
        self._check(function(self._model, *given, byref(results)))
        return self._take(results)

    def stream(
        self, frames: Iterable[NDArray[np.uint8]], noise: str | float = "fixed", **options: Any
    ) -> Iterator[Result]:
        """Yield one result for each frame."""
        stream, known = c_void_p(), _draw_options(options)
        kind, persistence = (NOISES[noise], 0.0) if isinstance(noise, str) else (DRIFTING, noise)
        settings = _StreamOptions(ctypes.sizeof(_StreamOptions), persistence, kind)
        self._check(self._library.caflow_open_stream(self._model, byref(known), byref(settings), byref(stream)))
        try:
            for frame in frames:
                results = POINTER(_Results)()
                self._check(self._library.caflow_draw_frame(stream, _images([frame]), byref(results)))
                yield from self._take(results)
        finally:
            self._library.caflow_close_stream(stream)

    def set_stopped(self, stopped: bool) -> None:
        """Stop the calls that run and later ones, or let calls work again."""
        self._library.caflow_set_stopped(self._model, int(stopped))

    def close(self) -> None:
        """Free the handle."""
        self._library.caflow_close(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self, function: Any, conditions: list[NDArray[np.uint8]], options: dict[str, Any]) -> list[Result]:
        known, results = _draw_options(options), POINTER(_Results)()
        given = (_images(conditions), c_size_t(len(conditions)), byref(known))
        self._check(function(self._model, *given, byref(results)))
        return self._take(results)

    def _take(self, results: Any) -> list[Result]:
        try:
            return [_copy(results.contents.result[k].contents) for k in range(results.contents.count)]
        finally:
            self._library.caflow_free_results(results)

    def _check(self, status: int) -> None:
        if status:
            raise CError(status, self._library.caflow_last_error().decode())


def _draw_options(options: dict[str, Any]) -> _DrawOptions:
    known = _DrawOptions(struct_size=ctypes.sizeof(_DrawOptions))
    words: dict[str, dict[Any, int]] = {
        "rank": RANKS,
        "otherwise": OTHERWISE,
        "judge": JUDGES,
        "redraws": {0: NO_REDRAWS},
    }
    for name, value in options.items():
        if name in words:
            value = words[name].get(value, value)
        elif name in ("temperature", "keep"):
            kind = c_double if name == "temperature" else c_uint32
            values = list(np.atleast_1d(value))
            setattr(known, f"{name}s", len(values))
            value = (kind * len(values))(*values)
        elif name == "progress":
            value = _progress(value)
        setattr(known, name, value)
    return known


def _progress(show: Callable[[int, int], object]) -> Any:
    return _PROGRESS(lambda _, done, count: bool(show(done, count)))


def _images(images: list[NDArray[np.uint8]]) -> Any:
    """Return the library's descriptions of images, without a copy. Rows may be apart in memory, as in a crop."""
    return (_Image * len(images))(
        *[_Image(one.ctypes.data, one.shape[0], one.shape[1], one.strides[0], one.shape[2]) for one in images]
    )


def _copy(result: _Result) -> Result:
    sides, levels = (result.height, result.width), (result.levels,)
    shapes = {"rgb": (*sides, 3), "pixels": (*sides, 3), "log_likelihood_map": sides, "per_level": levels}
    shapes |= {"level_typicality": levels, "level_residuals": levels}
    fields = {name: getattr(result, name) for name, _ in _Result._fields_}
    for name, shape in shapes.items():
        fields[name] = np.ctypeslib.as_array(fields[name], shape).copy() if fields[name] else None
    fields["starts_scene"], fields["outcome"] = bool(result.starts_scene), OUTCOME[result.outcome]
    fields["reason"] = None if result.reason is None else result.reason.decode()
    return Result(**fields)
