"""Noise: the published generator, the normal numbers of the specification, independent windows, and the GPU kernel.

The source of the kernel runs on the CPU. Logarithms and cosines of a GPU may differ from the CPU's by one float32 step.
Here, the threads of a kernel run one after the other, so these tests can show neither race conditions nor speed. Writes
outside an array are found only close to its ends.
"""

import ctypes
import math
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caflow_runtime.checks import LARGEST_WORD
from caflow_runtime.flow.noise import LevelNoise, NoiseWindow, draw_items, draw_window_noise, philox

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_the_generator_is_philox4x32_10(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """The generator gives the test values that its authors published."""
    words = philox([np.array([word], np.uint32) for word in counter], key)
    assert tuple(int(word[0]) for word in words) == expected


def test_a_normal_number_equals_the_formula_of_the_specification() -> None:
    """Computed by hand: channel 5 of z[2, 1] at row 3 and column 7, for sample 9, seed 11 and frame 13."""
    z = draw_window_noise([4, 8], 1, NoiseWindow(0, 0, 4, 8, (9,)), seed=11, frame=13)
    counter = (7, 3, 1 + (2 << 16) + (1 << 24), 9)
    a, b, _, _ = (int(w[0]) for w in philox([np.array([c], np.uint32) for c in counter], (11, 13)))
    radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
    assert z[0, 4 + 5, 3, 7] == np.float32(radius * math.sin(2 * math.pi * b / 2**32))
    assert z[0, 4 + 4, 3, 7] == np.float32(radius * math.cos(2 * math.pi * b / 2**32))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9))
def test_the_noise_of_a_window_is_a_part_of_that_of_the_image(top: int, left: int, height: int, width: int) -> None:
    whole = draw_window_noise([6, 3], 0, NoiseWindow(0, 0, 50, 50, (0, 1, 2, 3)), seed=5)
    part = draw_window_noise([6, 3], 0, NoiseWindow(top, left, height, width, (3, 1)), seed=5)
    np.testing.assert_array_equal(part, whole[[3, 1], :, top : top + height, left : left + width])


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    z = draw_window_noise([16], 0, NoiseWindow(0, 0, 128, 128, (0, 1, 2, 3)), seed=0).astype(np.float64)
    count = z.size
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert np.abs(z).max() < 6.8
    neighbours = [(z[:, :, 1:], z[:, :, :-1]), (z[..., 1:], z[..., :-1]), (z[:, 1:], z[:, :-1]), (z[1:], z[:-1])]
    for a, b in neighbours:
        assert abs((a * b).mean()) < 5 / math.sqrt(a.size)


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
