"""Commands that do many files, as users start and kill them, and what is compared of their results."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from tiny import DATA

from caflow_runtime.jobs.image_folder import RESULTS
from caflow_runtime.pictures.image_files import read_image, write_image
from caflow_runtime.seal import are_sealed


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """For Ray: a folder of its own, whose name is short as it holds Unix sockets."""
    folder = mkdtemp(prefix="ray")
    yield {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(
    run: list[str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the block; what it says is in `folder`."""
    with (
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(run, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: "subprocess.Popen[bytes]", folder: Path, count: int, found: Callable[[], int]) -> None:
    """Until so many are found, while the process runs."""
    end = time.monotonic() + 300
    while found() < count:
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < end, (folder / "stderr").read_text()
        time.sleep(0.02)


def wait_for_lines(process: "subprocess.Popen[bytes]", folder: Path, path: Path, count: int) -> None:
    """Until a file has so many."""
    wait_for(process, folder, count, lambda: path.read_bytes().count(b"\n") if path.exists() else 0)


def crops(folder: Path, count: int, side: int = 16) -> None:
    """So many windows of the repository's photographs, each another one."""
    folder.mkdir()
    places = np.random.default_rng(0)
    pictures = [read_image(path).rgb for path in sorted((DATA / "photographs").glob("*.jpg"))]
    for k in range(count):
        picture = pictures[k % len(pictures)]
        y, x = (int(places.integers(0, length - side)) for length in picture.shape[:2])
        write_image(folder / f"{k:03}.png", np.ascontiguousarray(picture[y : y + side, x : x + side]))


def drawn_alike(one: Path, results: list[dict[str, Any]], other: Path, reports: list[dict[str, Any]]) -> bool:
    """The same files, to the byte, and the same reports, but for the folder and the seal; each once, nothing else."""
    files = {str(path.relative_to(other)): path.read_bytes() for path in other.rglob("*") if path.is_file()}
    found = {str(path.relative_to(one)): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    own = {"job.json", RESULTS}
    assert {name: found[name] == files.get(name) for name in found.keys() - own} == dict.fromkeys(
        files.keys() - own, True
    )
    expected = {report["input"]: {**report, "output": "", "sha256": ""} for report in reports}
    assert len(results) == len(reports) == len(expected)
    assert all(are_sealed(result) for result in results)
    assert {result["input"]: {**result, "output": "", "sha256": ""} for result in results} == expected
    return True
