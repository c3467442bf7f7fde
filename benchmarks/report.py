"""Functions that all benchmarks share.

They define the common options, time functions in turns, print Markdown tables, and write a JSON file with the figures,
the machine and the versions.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options `--json` and `--threads` to a command."""
    command = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")(
        command
    )
    return click.option("--threads", default=1, show_default=True, help="Number of CPU threads.")(command)


def side_by_side(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each run, by name.

    The runs take turns, so that a slow moment of the machine affects all of them. Each run is called once before, to
    warm up.

    Arguments:
        clock: function that returns seconds. `time.process_time` counts the CPU time of this process, which depends
            less on other work on the machine.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows, which all have the same keys, as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


def write(
    json_file: Path | None,
    rows: Sequence[Mapping[str, Any]],
    packages: Sequence[str],
    figures: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write the figures with the machine, the versions of `packages` and the settings, unless `json_file` is None.

    Arguments:
        figures: further figures by name, which are written beside the rows.
    """
    if json_file is None:
        return
    contents = {
        "machine": {"cpu": _cpu(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {package: version(package) for package in packages},
        "settings": settings,
        **(figures or {}),
        "rows": list(rows),
    }
    json_file.write_text(json.dumps(contents, indent=2) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
