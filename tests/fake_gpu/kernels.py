"""The kernels of `noise.cu` and `finite.cu` in NumPy, for as many threads as are launched.

Types and number of the arguments are checked against the CUDA source that is compiled.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from caflow_runtime.flow.noise import _box_muller, philox
from fake_gpu.calls import misuse
from fake_gpu.memory import MEMORY

TYPES = {
    "word": np.uint32,
    "unsigned": np.uint32,
    "unsigned long long": np.uint64,
    "float": np.float32,
}
ENTRY = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


def entries(source: str) -> dict[str, list[Any]]:
    """The kernels of a CUDA source, each with the types of its parameters; that of pointers is None."""
    found = {}
    for name, parameters in ENTRY.findall(source):
        found[name] = [_type(parameter) for parameter in parameters.split(",")]
    return found


def _type(parameter: str) -> Any:
    declared = " ".join(parameter.split()).rpartition(" ")[0]
    return None if declared.endswith("*") else TYPES[declared]


def draw_noise(
    threads: int,
    z: int,
    places: int,
    rows: int,
    channels: int,
    height: int,
    width: int,
    first: int,
    count: int,
    block: int,
    seed: int,
    frame: int,
    temperature: np.float32,
) -> None:
    """Some channels of a level's z; `z` and `places` are addresses."""
    groups, positions = -(-count // 4), height * width
    thread = np.arange(min(threads, rows * groups * positions))
    position, row, group = thread % positions, thread // positions // groups, thread // positions % groups
    place = MEMORY.array(places, (rows, 3), np.uint32)[row].T.astype(np.int64)
    counter = (place[1] + position % width, place[0] + position // width, block + group, place[2])
    words = philox([word.astype(np.uint32) for word in counter], key=(seed, frame))
    normals = [*_box_muller(*words[:2]), *_box_muller(*words[2:])]
    target = MEMORY.array(z, (rows, channels, positions), np.float32)
    for k, values in enumerate(normals):
        is_used = 4 * group + k < count
        into = row[is_used], first + 4 * group[is_used] + k, position[is_used]
        target[into] = values[is_used] * temperature


def find_not_finite(threads: int, values: int, flags: int, rows: int, row_size: int) -> None:
    """`values` and `flags` are addresses. Any number of threads does all of it."""
    if threads:
        found = ~np.isfinite(MEMORY.array(values, (rows, row_size), np.float32)).all(1)
        MEMORY.array(flags, (rows,), np.uint8)[found] = 1


KERNELS: dict[str, Callable[..., None]] = {"draw_noise": draw_noise, "find_not_finite": find_not_finite}


def check_arguments(name: str, types: list[Any], arguments: tuple[Any, ...]) -> None:
    """Of a launch, where addresses are int.

    Raises:
        Misuse: if they are not what the kernel takes.
    """
    wanted = [int if kind is None else kind for kind in types]
    if [type(argument) for argument in arguments] != wanted:
        misuse(f"{name} is launched with {[type(argument).__name__ for argument in arguments]}, wanted {wanted}")
