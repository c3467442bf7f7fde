"""CUDA kernels of this project, compiled for the GPU when they are first used.

`noise.cu` draws the base noise. `finite.cu` finds values that are not finite.
"""

import math
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.cuda_device import CudaDevice
from caflow_runtime.backends.device_array import DeviceArray
from caflow_runtime.flow.noise import NORMALS_PER_CALL, LevelNoise

THREADS, MOST_BLOCKS = 256, 1024
"""Threads per block, and the largest number of blocks of `are_finite`."""


def draw_rows(device: CudaDevice, z: LevelNoise) -> DeviceArray:
    """Draw noise on the device, as `noise.draw_rows` does: the same integers, and normals within one float32 step."""
    from cuda.core import LaunchConfig, launch

    rows = [(place.top, place.left, sample) for place in z.places for sample in place.samples]
    place, word = z.places[0], np.uint32
    where = device.upload(np.array(rows, word))
    drawn = device.empty((len(rows), sum(z.channels), place.height, place.width), np.float32)
    first = 0
    for i, (count, temperature) in enumerate(zip(z.channels, z.temperatures, strict=True), start=z.level):
        threads = len(rows) * -(-count // NORMALS_PER_CALL) * place.height * place.width
        sizes = (len(rows), sum(z.channels), place.height, place.width, first, count, (i << 16) + (z.level << 24))
        launch(
            device.stream,
            LaunchConfig(grid=-(-threads // THREADS), block=THREADS),
            _kernel("noise.cu", "draw_noise", device.compute_capability),
            drawn.buffer,
            where.buffer,
            *(word(size) for size in (*sizes, z.seed, z.frame)),
            np.float32(temperature),
        )
        first += count
    return drawn


def are_finite(device: CudaDevice, array: DeviceArray) -> NDArray[np.bool_]:
    """Return (rows,) bool: whether all values of a row are finite. `array` is a float32 array."""
    from cuda.core import LaunchConfig, launch

    rows, size = array.shape[0], math.prod(array.shape)
    flags = device.upload(np.zeros(rows, np.uint8))
    config = LaunchConfig(grid=min(MOST_BLOCKS, -(-size // THREADS)), block=THREADS)
    kernel = _kernel("finite.cu", "find_not_finite", device.compute_capability)
    launch(device.stream, config, kernel, array.buffer, flags.buffer, np.uint32(rows), np.uint64(size // rows))
    return np.asarray(device.download(flags) == 0)


@cache
def _kernel(source: str, name: str, compute_capability: str) -> Any:
    return compiled(source, compute_capability).get_kernel(name)


def compiled(source: str, compute_capability: str) -> Any:
    """Compile a source file of this folder for a compute capability such as "8.6". No such GPU has to be present."""
    from cuda.core import Program, ProgramOptions

    text = files("caflow_runtime.backends").joinpath(source).read_text()
    options = ProgramOptions(arch=f"sm_{compute_capability.replace('.', '')}")
    return Program(text, "c++", options).compile("cubin")
