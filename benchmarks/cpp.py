"""Benchmark of the C++ runtime against the Python runtime: cold start, memory of the process, and time of a call.

One process per runtime opens the bundle and draws the best of N, then draws it again for each line of input. The
processes take turns, call by call, so that other work on the machine affects both equally.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import report

from caflow_runtime.available_memory import peak_memory
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.pipeline.pipeline import load

CASES = ((64, 1), (64, 10), (256, 10))
"""Side of the square target in pixels, and number of samples, of each case."""
SECONDS, MIN_CALLS = 15, 15
"""Calls are repeated for at least this time, in seconds, and at least this number of times."""


class Process:
    """One of the two processes. `runtime/cpp/tests/measure.c` describes what a process reads and prints."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first_s = self._read()

    def call_s(self) -> float:
        """Make one more call, and return its duration in seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> float:
        """End the process, and return its peak memory in MB (2^20 bytes)."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = self._read()
        assert self._process.wait() == 0
        return peak

    def _read(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def measure_python(folder: str, height: str, width: str, rgb: str, samples: str, threads: str) -> None:
    """Do in Python what `runtime/cpp/tests/measure.c` does in C: draw, then draw again for each line of input."""
    condition, n = np.fromfile(rgb, np.uint8).reshape(int(height), int(width), 3), int(samples)
    start = time.perf_counter()
    with load(folder, backend="cpu", threads=int(threads)) as pipe:
        pipe.best_of(condition, n=n)
        print(time.perf_counter() - start, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            pipe.best_of(condition, n=n)
            print(time.perf_counter() - start, flush=True)
    print((peak_memory() or 0) / 2**20)


def interpreter_mb() -> float:
    """Return the peak memory of a Python process that does nothing, in MB (2^20 bytes)."""
    code = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) / 1024


def start_cold(command: list[str]) -> float:
    """Run a new process that opens the bundle, draws once and ends. Return its seconds."""
    start = time.perf_counter()
    Process(command).end()
    return time.perf_counter() - start


def measure(folder: Path, program: Path, threads: int, rounds: int, scratch: Path) -> list[dict[str, Any]]:
    """Return a row of the table for each case."""
    interpreter, rows = interpreter_mb(), []
    for side, samples in CASES:
        (condition,) = smooth_conditions(1, side // 4, side // 4)
        condition.tofile(scratch / "rgb")
        given = [str(part) for part in (folder, side // 4, side // 4, scratch / "rgb", samples, threads)]
        commands = [[str(program), *given], [sys.executable, __file__, *given]]
        starts = [[start_cold(command) for command in commands] for _ in range(rounds)]
        cold, colds = ([start[k] for start in starts] for k in (0, 1))
        ours, python = (Process(command) for command in commands)
        end = time.monotonic() + SECONDS
        calls: list[tuple[float, float]] = []
        while len(calls) < MIN_CALLS or time.monotonic() < end:
            calls.append((ours.call_s(), python.call_s()))
        call, calls_python = (statistics.median(pair[k] for pair in calls) for k in (0, 1))
        peak, peak_python = ours.end(), python.end()
        rows.append(
            {
                "side": side,
                "n": samples,
                "threads": threads,
                "cold start s": statistics.median(cold),
                "Python's s": statistics.median(colds),
                "call ms": 1e3 * call,
                "Python's ms": 1e3 * calls_python,
                "throughput / Python's": statistics.median(theirs / mine for mine, theirs in calls),
                "peak MB": peak,
                "Python's MB": peak_python,
                "peak / Python's": peak / (peak_python - interpreter),
            }
        )
    return rows


@click.command("cpp")
@report.BUNDLE
@click.argument("build", metavar="BUILD", type=click.Path(path_type=Path, exists=True))
@report.options
@report.ROUNDS
def measure_cpp(bundle: Path, build: Path, threads: int, json_file: Path | None, rounds: int) -> None:
    """Compare the C++ runtime with Python's for BUNDLE, a ×4 model, with 1 to --threads threads.

    BUILD is the folder in which CMake built runtime/cpp.
    """
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in range(1, threads + 1):
            rows += measure(bundle, build / "tests" / "measure", count, rounds, Path(scratch))
    report.show(rows)
    report.write(json_file, rows, rounds=rounds, interpreter_mb=interpreter_mb())


if __name__ == "__main__":
    measure_python(*sys.argv[1:])
