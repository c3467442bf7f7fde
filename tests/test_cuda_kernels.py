"""Kernels for GPUs, without one: compiled for them, and the source of the one that draws noise run by the host."""

import ctypes
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from caflow_runtime.backends.cuda_kernels import compiled
from caflow_runtime.noise import LevelNoise, Place, draw_rows

HOST = """
#include <cmath>
using std::cos; using std::log; using std::sin; using std::sqrt;
#define __device__
#define __global__
struct Place { unsigned x; } blockIdx, blockDim{32}, threadIdx;
#include SOURCE
extern "C" void run(unsigned grid, float* z, const word* places, const word* n, float temperature) {
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
            draw_noise(z, places, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], temperature);
}
"""
CHANNELS, LEVEL, SEED, FRAME = (5, 6, 12), 1, 7, 11
PLACES = [Place(3, 5, 7, 9, (0, 4)), Place(1, 0, 7, 9, (2,))]
TEMPERATURES = (0.8, 0.5, 0.3)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_source_draws_what_python_draws(tmp_path: Path) -> None:
    (tmp_path / "host.cpp").write_text(HOST)
    source = files("caflow_runtime.backends").joinpath("noise.cu")
    library = tmp_path / "host.so"
    command = ["c++", "-O2", "-shared", "-fPIC", f'-DSOURCE="{source}"', str(tmp_path / "host.cpp")]
    subprocess.run([*command, "-o", str(library)], check=True)
    places = np.array([(p.top, p.left, sample) for p in PLACES for sample in p.samples], np.uint32)
    z, first = np.full((3, sum(CHANNELS), 7, 9), np.nan, np.float32), 0
    for i, (count, temperature) in enumerate(zip(CHANNELS, TEMPERATURES, strict=True), start=LEVEL):
        sizes = [3, sum(CHANNELS), 7, 9, first, count, (i << 16) + (LEVEL << 24), SEED, FRAME]
        given = [array.ctypes.data_as(ctypes.c_void_p) for array in (z, places, np.array(sizes, np.uint32))]
        ctypes.CDLL(str(library)).run(100, *given, ctypes.c_float(temperature))
        first += count
    expected = draw_rows(LevelNoise(CHANNELS, LEVEL, PLACES, TEMPERATURES, SEED, FRAME))
    np.testing.assert_array_max_ulp(z, expected, maxulp=1)


@pytest.mark.parametrize("source", ["noise.cu", "finite.cu"])
@pytest.mark.parametrize("compute_capability", ["7.5", "8.6", "9.0", "12.0"])
def test_they_compile_for_gpus_that_are_not_here(source: str, compute_capability: str) -> None:
    assert bytes(compiled(source, compute_capability).code).startswith(b"\x7fELF")
