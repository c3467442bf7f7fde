"""The base noise, drawn on the GPU: `noise.cu`, compiled for it where it is first needed."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from caflow_runtime.backends.cuda_device import CudaDevice, DeviceArray
from caflow_runtime.noise import NORMALS_PER_CALL, Place

THREADS = 256


def draw_rows(
    device: CudaDevice,
    channels: Sequence[int],
    level: int,
    places: Sequence[Place],
    temperatures: Sequence[float],
    seed: int,
    frame: int,
) -> DeviceArray:
    """`noise.draw_rows` on the device: the same integers, the normals within one float32 step."""
    from cuda.core import LaunchConfig, launch

    rows = [(place.top, place.left, sample) for place in places for sample in place.samples]
    place, word = places[0], np.uint32
    where = device.upload(np.array(rows, word))
    drawn = device.empty((len(rows), sum(channels), place.height, place.width), np.float32)
    first = 0
    for i, (count, temperature) in enumerate(zip(channels, temperatures, strict=True), start=level):
        threads = len(rows) * -(-count // NORMALS_PER_CALL) * place.height * place.width
        sizes = (len(rows), sum(channels), place.height, place.width, first, count, (i << 16) + (level << 24))
        launch(
            device.stream,
            LaunchConfig(grid=-(-threads // THREADS), block=THREADS),
            _kernel(device.compute_capability),
            drawn.buffer,
            where.buffer,
            *(word(size) for size in (*sizes, seed, frame)),
            np.float32(temperature),
        )
        first += count
    return drawn


@cache
def _kernel(compute_capability: str) -> Any:
    return compiled(compute_capability).get_kernel("draw_noise")


def compiled(compute_capability: str) -> Any:
    """The kernel's code for a GPU such as "8.6"; a GPU need not be there."""
    from cuda.core import Program, ProgramOptions

    source = files("caflow_runtime.backends").joinpath("noise.cu").read_text()
    options = ProgramOptions(arch=f"sm_{compute_capability.replace('.', '')}")
    return Program(source, "c++", options).compile("cubin")
