"""Helpers for commands that process many files: start and kill them, and compare their results."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import commands
import numpy as np
import pytest
from commands import json_lines_of
from tiny import DATA

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.jobs.image_folder import RESULTS
from caflow_runtime.file_io.line_checksum import fields_have_valid_checksum


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Environment variables for Ray, with a separate temporary folder.

    The name of the folder is short, because the length of a Unix socket's path is limited.
    """
    folder = mkdtemp(prefix="ray")
    yield {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(run: list[str], folder: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Any]:
    """Start a process that is killed at the end of the block. Its output is written to files in `folder`."""
    with (
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
        commands.started(run, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        yield process


def processes_of(first: int) -> dict[int, str]:
    """Return the command lines of a process and of all its descendants, by process id."""
    listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [(int(pid), int(parent), " ".join(args)) for pid, parent, *args in map(str.split, listed.splitlines())]
    parents = {pid: parent for pid, parent, _ in rows}

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != first:
            pid = parents.get(pid, 0)
        return pid == first

    return {pid: args for pid, _, args in rows if is_ours(pid)}


def workers_of(parent: int) -> list[int]:
    """Return the ids of the worker processes of a process, in ascending order."""
    return sorted(pid for pid, args in processes_of(parent).items() if "spawn_main" in args)


def is_running(process: int) -> bool:
    """Return whether a process exists and is no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def cpu_seconds(processes: list[int]) -> float:
    """Return the CPU time of some processes together, in seconds."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes]
    return sum(int(ticks) for stat in stats for ticks in stat[11:13]) / os.sysconf("SC_CLK_TCK")


def wait_for(process: "subprocess.Popen[bytes]", folder: Path, count: int, found: Callable[[], int]) -> None:
    """Wait until `found` returns at least `count`. Fail if the process ends before, or after 300 s."""
    end = time.monotonic() + 300
    while found() < count:
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < end, (folder / "stderr").read_text()
        time.sleep(0.02)


def wait_for_lines(process: "subprocess.Popen[bytes]", folder: Path, path: Path, count: int) -> None:
    """Wait until the file at `path` has at least `count` lines."""
    wait_for(process, folder, count, lambda: path.read_bytes().count(b"\n") if path.exists() else 0)


def crops(folder: Path, count: int, side: int = 16) -> None:
    """Write `count` crops of random position from the repository's photographs, with `side`×`side` pixels."""
    folder.mkdir()
    places = np.random.default_rng(0)
    pictures = [read_image(path).rgb for path in sorted((DATA / "photographs").glob("*.jpg"))]
    for k in range(count):
        picture = pictures[k % len(pictures)]
        y, x = (int(places.integers(0, length - side)) for length in picture.shape[:2])
        write_image(folder / f"{k:03}.png", np.ascontiguousarray(picture[y : y + side, x : x + side]))


def drawn_alike(one: Path, other: Path) -> bool:
    """Assert that two folders contain equal results and equal other files; return True.

    Files are compared byte for byte, except `job.json`. Results may differ in order, output folder and checksum.
    """
    own = {"job.json", RESULTS}
    files = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    assert files[0].keys() == files[1].keys()
    assert not [name for name in files[0].keys() - own if files[0][name] != files[1][name]]
    results = [json_lines_of(folder / RESULTS) for folder in (one, other)]
    assert all(fields_have_valid_checksum(result) for result in results[0])
    found, expected = (
        {result["input"]: {**result, "output": "", "sha256": ""} for result in lines} for lines in results
    )
    assert len(results[0]) == len(results[1]) == len(expected)
    assert found == expected
    return True
