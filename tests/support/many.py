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

import numpy as np
import pytest
from tiny import DATA

from caflow_runtime.file_io.line_checksum import fields_have_valid_checksum
from caflow_runtime.image_io.image_files import read_image, write_image
from caflow_runtime.jobs.image_folder import RESULTS


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Environment variables for Ray, with a separate temporary folder.

    The name of the folder is short, because the length of a Unix socket's path is limited.
    """
    folder = mkdtemp(prefix="ray")
    yield {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(
    run: list[str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that is killed at the end of the block. Its output is written to files in `folder`."""
    with (
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(run, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def workers_of(parent: int) -> list[int]:
    """Return the ids of the worker processes of a process."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and "spawn_main" in args]


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


def drawn_alike(one: Path, results: list[dict[str, Any]], other: Path, reports: list[dict[str, Any]]) -> bool:
    """Assert that two folders contain equal files and equal reports, each exactly once; return True.

    Files are compared byte for byte, except `job.json` and the results. Reports may differ in output folder and
    checksum.
    """
    files = {str(path.relative_to(other)): path.read_bytes() for path in other.rglob("*") if path.is_file()}
    found = {str(path.relative_to(one)): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    own = {"job.json", RESULTS}
    assert {name: found[name] == files.get(name) for name in found.keys() - own} == dict.fromkeys(
        files.keys() - own, True
    )
    expected = {report["input"]: {**report, "output": "", "sha256": ""} for report in reports}
    assert len(results) == len(reports) == len(expected)
    assert all(fields_have_valid_checksum(result) for result in results)
    assert {result["input"]: {**result, "output": "", "sha256": ""} for result in results} == expected
    return True
