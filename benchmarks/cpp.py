"""The C++ runtime beside the Python one: a cold start, the memory of a process, the seconds of a call.

Each figure is of fresh processes that do the same: open the bundle, draw the best of N again and again. They take
turns, so that a slow moment of the machine is everybody's.
"""

import json
import resource
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

from caflow_runtime.doctor import smooth_conditions

CASES = ((64, 1), (64, 10), (256, 10))
"""Sides of the target, and samples."""
PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")
CALLS = 5


def measure_python(folder: str, height: int, width: int, rgb: str, samples: int, threads: int, calls: int) -> None:
    """The Python process: what `measure.c` does, as the same line of JSON."""
    start = time.perf_counter()
    from caflow_runtime.pipeline import load

    condition = np.fromfile(rgb, np.uint8).reshape(height, width, 3)
    with load(folder, backend="cpu", threads=threads) as pipe:
        pipe.best_of(condition, n=samples)
        first = time.perf_counter() - start
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            pipe.best_of(condition, n=samples)
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"first_s": first, "call_s": statistics.median(seconds or [0.0]), "peak_mb": peak}))


def interpreter_mb() -> float:
    """Peak memory of a Python process that does nothing."""
    code = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) / 1024


def run(command: list[str]) -> dict[str, float]:
    """What a process prints, its seconds from start to end, and those that processors worked for it."""
    start, used = time.perf_counter(), processor_s()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures | {"process_s": time.perf_counter() - start, "processor_s": processor_s() - used}


def processor_s() -> float:
    """Of all child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def side_by_side(arguments: list[str], program: Path, calls: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of both runtimes' figures over `rounds` processes of each."""
    commands = {
        "C++": [str(program), *arguments, str(calls)],
        "Python": [sys.executable, __file__, "measure", *arguments, str(calls)],
    }
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(run(command))
    return {
        name: {key: statistics.median(one[key] for one in values) for key in values[0]}
        for name, values in figures.items()
    }


def measure(folder: Path, program: Path, threads: int, rounds: int, scratch: Path) -> list[dict[str, Any]]:
    """A row for each case."""
    interpreter = interpreter_mb()
    rows = []
    for side, samples in CASES:
        (condition,) = smooth_conditions(1, side // 4, side // 4)
        condition.tofile(scratch / "rgb")
        given = [folder, side // 4, side // 4, scratch / "rgb", samples, threads]
        arguments = [str(argument) for argument in given]
        cold = side_by_side(arguments, program, 0, rounds)
        warm = side_by_side(arguments, program, CALLS, rounds)
        ours, python = warm["C++"], warm["Python"]
        rows.append(
            {
                "side": side,
                "n": samples,
                "threads": threads,
                "cold start s": cold["C++"]["process_s"],
                "Python's s": cold["Python"]["process_s"],
                "processor s": cold["C++"]["processor_s"],
                "call ms": 1e3 * ours["call_s"],
                "Python's ms": 1e3 * python["call_s"],
                "throughput / Python's": python["call_s"] / ours["call_s"],
                "peak MB": ours["peak_mb"],
                "Python's MB": python["peak_mb"],
                "peak / Python's": ours["peak_mb"] / (python["peak_mb"] - interpreter),
            }
        )
    return rows


@click.group()
def main() -> None:
    """Measure the C++ runtime beside the Python one."""


@main.command("run")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.argument("build", metavar="BUILD", type=click.Path(path_type=Path, exists=True))
@report.options
@click.option("--rounds", default=7, show_default=True, help="Rounds of which the median counts.")
def run_all(folder: Path, build: Path, threads: int, json_file: Path | None, rounds: int) -> None:
    """Measure BUNDLE, of a ×4 model, with one thread up to --threads; BUILD is where CMake built runtime/cpp."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in range(1, threads + 1):
            rows += measure(folder, build / "tests" / "measure", count, rounds, Path(scratch))
    report.show(rows)
    report.write(json_file, rows, PACKAGES, rounds=rounds, calls=CALLS, interpreter_mb=interpreter_mb())


@main.command("measure", hidden=True)
@click.argument("folder")
@click.argument("height", type=int)
@click.argument("width", type=int)
@click.argument("rgb")
@click.argument("samples", type=int)
@click.argument("threads", type=int)
@click.argument("calls", type=int)
def measure_one(folder: str, height: int, width: int, rgb: str, samples: int, threads: int, calls: int) -> None:
    """The Python process of a round."""
    measure_python(folder, height, width, rgb, samples, threads, calls)


if __name__ == "__main__":
    main()
