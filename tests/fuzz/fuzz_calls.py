"""Fuzzing of arguments of the C library: refused with a documented error, or computed."""

import ctypes
import os
import random
from pathlib import Path
from typing import Any

import c_library
from fuzzing import REFUSED, Attempt
from tiny import TINY

SIZES = [
    *(0, 1, 2, 3, 5, 6, 7, 8, 2**20, 2**20 + 1, 2**31, 2**32, 2**60, 2**61, 2**62, 2**63 - 1, 2**63),
    *(2**64 - 6, 2**64 - 1),
]
WORDS = [0, 1, 2, 3, 2**16, 2**20 + 1, 2**31, 2**32 - 1]
ROOM = 4096
"""Bytes reserved for a struct. Applications compiled for another version may use larger structs."""
INTERNAL = "internal"


def c_calls(_: Path) -> Attempt:
    """Change sizes of structs, strides, counts and values. Pointers are NULL or point to enough memory."""
    opened = c_library.CModel(TINY, Path(os.environ["CAFLOW_LIBRARY"]))
    library, model = opened._library, opened._model
    pixels = (ctypes.c_uint8 * 2**16)()

    def attempt(source: random.Random) -> str:
        results = ctypes.POINTER(c_library._Results)()
        images = (c_library._Image * 4)(*[_image(source, pixels) for _ in range(4)])
        count = ctypes.c_size_t(source.choice([0, 1, 1, 1, 2, 2**20 + 1, 2**32, 2**60, 2**63, 2**64 - 1]))
        out = ctypes.byref(results) if source.random() < 0.95 else None
        handle = model if source.random() < 0.97 else None
        kind = source.randrange(5)
        if kind < 2:
            function = library.caflow_best_of if kind else library.caflow_sample
            status = function(handle, images if source.random() < 0.97 else None, count, _draw_options(source), out)
        elif kind == 2:
            targets = (c_library._Image * 4)(*[_image(source, pixels, 4) for _ in range(4)])
            status = library.caflow_score(handle, targets, images, count, ctypes.c_uint32(source.choice(WORDS)), out)
        elif kind == 3:
            info = _struct(source, c_library._ModelInfo)
            status = library.caflow_info(handle, info if source.random() < 0.95 else None)
        else:
            other = ctypes.c_void_p()
            name = source.choice([str(TINY).encode(), b"", b"nothing", b"x" * 5000, b"\xff", b"/dev/null", None])
            status = library.caflow_open(name, _open_options(source), ctypes.byref(other))
            library.caflow_close(other)
        assert bool(results) <= (status == 0)
        library.caflow_free_results(results)
        if not status:
            return "computed"
        said = library.caflow_last_error().decode(errors="replace")  # the message may contain a path that is not UTF-8
        assert said
        assert c_library.STATUS[status] != INTERNAL, said
        return REFUSED

    return attempt


def _image(source: random.Random, pixels: Any, scale: int = 1) -> c_library._Image:
    """Return a valid image with sides of 2 · `scale` pixels, or one whose size, stride or pointer must be refused."""
    side = 2 * scale
    height, width, stride = source.choice([(side, side, 3 * side), (side, side, 100), (side, side, 3 * side)])
    kind = source.randrange(8)
    if kind == 0:
        height = source.choice([0, *SIZES[9:]])
    elif kind == 1:
        width = source.choice([0, *SIZES[9:]])
    elif kind == 2:
        stride = source.choice([0, 1, 3 * side - 1, *SIZES[10:]])
    return c_library._Image(ctypes.addressof(pixels) if source.random() < 0.98 else None, height, width, stride)


def _struct(source: random.Random, kind: Any) -> Any:
    """Return a struct of zeros, in some cases with a wrong size or a nonzero byte after the fields of this version."""
    memory = (ctypes.c_uint8 * ROOM)()
    if source.random() < 0.2:
        memory[source.randrange(ctypes.sizeof(kind), ROOM)] = 1
    struct = kind.from_buffer(memory)
    sizes = [*range(0, 140), ROOM, 2**31, 2**63, 2**64 - 8, 2**64 - 1]
    struct.struct_size = source.choice(sizes) if source.random() < 0.4 else ctypes.sizeof(kind)
    return ctypes.byref(struct)


def _draw_options(source: random.Random) -> Any:
    if source.random() < 0.1:
        return None
    pointer = _struct(source, c_library._DrawOptions)
    options = pointer._obj
    options.n = source.choice([1, 1, 2, 2**20 + 1, 2**31, 2**32 - 1])
    for name in ("first_sample", "seed", "frame", "rank", "flags"):
        if source.random() < 0.2:
            setattr(options, name, source.choice(WORDS))
    if source.random() < 0.3:
        values = [source.choice([0.0, 0.8, -1.0, 1e300, float("nan"), float("inf"), 5e-324]) for _ in range(64)]
        options.temperature = (ctypes.c_double * 64)(*values) if source.random() < 0.9 else None
        options.temperatures = source.choice([0, 1, 2, 3, 4, 64, *SIZES[8:]])
    if source.random() < 0.2:
        options.keep = (ctypes.c_uint32 * 64)(*[source.choice([0, 1, 1, 2, 2**32 - 1]) for _ in range(64)])
        options.keeps = source.choice([0, 1, 2, 3, 4, 64, *SIZES[8:]])
    return pointer


def _open_options(source: random.Random) -> Any:
    pointer = _struct(source, c_library._OpenOptions)
    options = pointer._obj
    if source.random() < 0.5:
        options.backend = source.choice([None, b"cpu", b"", b"nothing", b"\xff", b"x" * 5000, b"auto"])
    if source.random() < 0.3:
        options.pixel_budget = source.choice([0, 1, 2**20, 2**40, 2**40 + 1, 2**63, 2**64 - 1])
    if source.random() < 0.3:
        options.overlap = source.choice([0, -1, -2, 1, 2**20, 2**20 + 1, 2**63 - 1, -(2**63)])
    if source.random() < 0.3:
        options.threads = source.choice([0, 1, 2, 1025, 2**31, 2**32 - 1])
    options.flags = source.choice([0, 0, 0, 1, 2**31])
    return pointer
