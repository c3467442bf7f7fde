"""Functions that all benchmarks share.

They define the common options, time functions in turns, print Markdown tables, and write a JSON file with the figures,
the machine and the versions.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, TypeVar

import click

Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)
PACKAGES = (
    *("av", "lpips", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "openvino", "pillow"),
    *("pypatchmatch", "ray", "scipy", "torch", "tritonclient"),
)
"""Packages whose versions are written beside the figures, if they are installed."""


BUNDLES = click.argument(
    "bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
BUNDLE = click.argument("bundle", type=click.Path(path_type=Path, exists=True))
CPU_TIME = click.option(
    "--cpu-time", is_flag=True, help="Count CPU seconds, for a machine that is busy with other work."
)
ROUNDS = click.option("--rounds", default=9, show_default=True, help="Number of timed rounds; the median is reported.")


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options `--json` and `--threads` to a command."""
    command = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")(
        command
    )
    return click.option("--threads", default=1, show_default=True, help="Number of CPU threads.")(command)


def side_by_side(runs: Mapping[Key, Callable[[], object]], rounds: int, *, cpu_time: bool = False) -> dict[Key, float]:
    """Return the median seconds of each run, by name.

    The runs take turns, so that a slow moment of the machine affects all of them. Each run is called once before, to
    warm up.

    Arguments:
        cpu_time: count the CPU time of this process, which depends less on other work on the machine.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    for run in runs.values():
        run()
    seconds: dict[Key, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(rows: Sequence[Row]) -> None:
    """Print rows as a Markdown table. Cells of values that a row does not have, or that are None, are empty."""
    keys = dict.fromkeys(key for row in rows for key in row)
    print("\n| " + " | ".join(keys) + " |")
    print("|" + " --- |" * len(keys))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(key)) for key in keys) + " |")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def write(
    json_file: Path | None,
    rows: Sequence[Row],
    figures: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Write the figures with the machine, the versions of `PACKAGES` and the settings, unless `json_file` is None.

    Arguments:
        figures: further figures by name, which are written beside the rows.
    """
    if json_file is None:
        return
    contents = {
        "machine": {"cpu": _cpu(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in PACKAGES if any(distributions(name=name))},
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
