"""What do servers and workers add to one process?

`servers` sends the same requests to a plain loop in one process and to `caflow serve`.

The loop runs in one process with two threads. The server has two workers with one thread each. Both, and the clients,
run on the same cores.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
from many_files import measure_files
from servers import Asked, Server, ask_all, caflow_server

from caflow_runtime.bundle.builtin import DEFAULT, find_bundle
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.pipeline.pipeline import Pipeline, load

CLIENTS, WORKERS, THREADS = 16, 2, 2
SIDES, SAMPLES = (12, 16, 24), (1, 4, 10)


def requests(count: int) -> list[Asked]:
    """Return requests with images of mixed sizes and mixed numbers of samples."""
    asked = []
    for k in range(count):
        (image,) = smooth_conditions(1, SIDES[k % len(SIDES)], SIDES[k // 3 % len(SIDES)])
        asked.append(Asked({"image": image[None]}, {"n": SAMPLES[k % len(SAMPLES)]}))
    return asked


def plain_loop(pipe: Pipeline, asked: Sequence[Asked]) -> list[float]:
    """Return the seconds of each request. The requests run one after the other."""
    seconds = []
    for request in asked:
        began = time.perf_counter()
        pipe.best_of(request.tensors["image"], **request.parameters)
        seconds.append(time.perf_counter() - began)
    return seconds


def served(server: Server, model: str, clients: int, asked: Sequence[Asked]) -> list[float]:
    """Return the seconds of each request, as its client measures them.

    Raises:
        RuntimeError: if a request failed.
    """
    replies = ask_all(server, model, asked, clients)
    if errors := [reply.error for reply in replies if reply.error]:
        raise RuntimeError(f"{len(errors)} of {len(replies)} requests failed: {errors[0]}")
    return [reply.seconds for reply in replies]


def measure(ways: dict[str, Callable[[Sequence[Asked]], list[float]]], count: int, rounds: int) -> list[dict[str, Any]]:
    """Measure all ways in turns. Return a row for each way with the medians over its rounds."""
    asked = requests(count)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            seconds = way(asked if number else asked[: 4 * CLIENTS])  # the first round is a warm-up
            wall = time.perf_counter() - began
            if number:
                found[name].append((count / wall, *np.quantile(seconds, [0.5, 0.95])))
    columns = ("requests/s", "p50 s", "p95 s")
    return [
        {"way": name, **dict(zip(columns, np.median(rows, 0).tolist(), strict=True))} for name, rows in found.items()
    ]


@click.group()
def main() -> None:
    """Measure servers and workers."""


@main.command("servers")
@click.argument("bundle", type=click.Path(path_type=Path), default=DEFAULT)
@click.option("--count", default=150, show_default=True, help="Number of requests in a round.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures to this file.")
def measure_servers(bundle: Path, count: int, rounds: int, json_file: Path | None) -> None:
    """Measure requests per second and the latency of a request with BUNDLE."""
    folder = find_bundle(bundle).resolve()
    model = folder.stem
    with load(folder, backend="cpu", threads=THREADS) as pipe, caflow_server(folder, WORKERS) as server:
        ways: dict[str, Callable[[Sequence[Asked]], list[float]]] = {"plain loop": partial(plain_loop, pipe)}
        for clients in (1, CLIENTS):
            name = f"caflow serve, {clients} client{'s' if clients > 1 else ''}"
            ways[name] = partial(served, server, model, clients)
        rows = measure(ways, count, rounds)
    report.show(rows)
    report.write(json_file, rows, count=count, rounds=rounds, clients=CLIENTS, workers=WORKERS)


main.add_command(measure_files)

if __name__ == "__main__":
    main()
