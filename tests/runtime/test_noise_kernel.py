"""The GPU kernel of the noise, tested without a GPU: its source runs on the CPU.

Logarithms and cosines of a GPU may differ from the CPU's by one float32 step. Here, the threads of a kernel run one
after the other, so these tests can show neither race conditions nor speed. Writes outside an array are found only close
to its ends.
"""

import ctypes
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caflow_runtime.checks import LARGEST_WORD
from caflow_runtime.flow.noise import LevelNoise, NoiseWindow, draw_items

HOST = """
#include <math.h>
#define __device__
#define __global__
struct { unsigned x; } gridDim, blockDim, blockIdx, threadIdx;
#include NOISE
template <class Kernel> void for_each_thread(unsigned grid, unsigned block, Kernel kernel) {
    gridDim.x = grid;
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x) kernel();
}
extern "C" void run_draw_noise(unsigned grid, unsigned block, float* z, const word* places, const word* n, float t) {
    for_each_thread(grid, block, [&] {
        draw_noise(z, places, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], t);
    });
}
"""
BLOCKS = (1, 32, 96, 256, 1024)
GUARD = 64
"""Number of values on both sides of an array that must not be written."""
NOISE = [
    LevelNoise((5, 6, 12), 1, (NoiseWindow(3, 5, 7, 9, (0, 4)), NoiseWindow(1, 0, 7, 9, (2,))), (0.8, 0.5, 0.3), 7, 11),
    LevelNoise((1,), 0, (NoiseWindow(0, 0, 1, 1, (0,)),), (1.0,), 0, 0),
    LevelNoise((3,), 2, (NoiseWindow(0, 0, 1, 257, (1, 2)),), (0.0,), 1, 0),
    LevelNoise((4, 2), 7, (NoiseWindow(70_000, 1000, 16, 1, (LARGEST_WORD,)),), (0.7, 1.3), LARGEST_WORD, LARGEST_WORD),
    LevelNoise(
        (8, 7), 3, (NoiseWindow(LARGEST_WORD - 1, LARGEST_WORD - 2, 2, 3, (4_000_000_000, 0)),), (1e-30, 1e30), 5, 6
    ),
]
"""Levels with numbers of channels around multiples of four, sizes around those of blocks, and the largest words."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernel, compiled as a library for the CPU."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler is installed")
    folder, sources = tmp_path_factory.mktemp("kernels"), files("caflow_runtime.backends")
    (folder / "host.cpp").write_text(HOST)
    named = f'-DNOISE="{sources.joinpath("noise.cu")}"'
    # Fused multiply-add is disabled, because results must be equal bit for bit.
    options = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["c++", *options, named, folder / "host.cpp", "-o", folder / "host.so"], check=True)
    return ctypes.CDLL(str(folder / "host.so"))


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def draw_by_kernel(kernels: Any, z: LevelNoise, block: int, extra: int) -> NDArray[np.float32]:
    """Return the noise that the kernel draws. `extra` is the number of blocks beyond those that it requires."""
    places = np.array([(p.top, p.left, sample) for p in z.places for sample in p.samples], np.uint32)
    shape = (len(places), sum(z.channels), z.places[0].height, z.places[0].width)
    guarded, first = np.full(int(np.prod(shape)) + 2 * GUARD, np.nan, np.float32), 0
    drawn = guarded[GUARD:-GUARD]
    for i, (count, temperature) in enumerate(zip(z.channels, z.temperatures, strict=True), start=z.level):
        grid = -(-shape[0] * -(-count // 4) * shape[2] * shape[3] // block) + extra
        sizes = np.array([*shape, first, count, (i << 16) + (z.level << 24), z.seed, z.frame], np.uint32)
        given = (pointer(drawn), pointer(places), pointer(sizes), ctypes.c_float(temperature))
        kernels.run_draw_noise(grid, block, *given)
        first += count
    assert np.isnan(guarded[:GUARD]).all()
    assert np.isnan(guarded[-GUARD:]).all()
    return drawn.reshape(shape)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("z", NOISE)
def test_the_gpu_kernel_computes_the_noise_of_python(kernels: Any, z: LevelNoise, block: int) -> None:
    expected = draw_items(z)
    for extra in (0, 3):
        np.testing.assert_array_equal(draw_by_kernel(kernels, z, block, extra), expected)
