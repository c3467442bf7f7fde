"""`caflow batch` on clusters, and where processes and machines fail: every result is there, once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from batches import caflow, command, crops, drawn_alike, environment, lines_of
from ports import free_port
from ray_nodes import two_nodes
from tiny import DATA, photograph
from two_machines import Machine, kill, why_none

from caflow_runtime.jobs.image_folder import RESULTS
from caflow_runtime.pictures.image_files import write_image

__all__ = ["environment"]  # a fixture


@contextmanager
def started(run: list[str], environment: dict[str, str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
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


def wait_for_results(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    end = time.monotonic() + 120
    path = folder / "out" / RESULTS
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < end, (folder / "stderr").read_text()
        time.sleep(0.02)


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_changes_nothing(
    calibrated: Path, tmp_path: Path, environment: dict[str, str], how: signal.Signals
) -> None:
    """Of the process that was started; its workers end with it."""
    crops(tmp_path / "in", 120)
    out = tmp_path / "out"
    arguments = [tmp_path / "in", "--bundle", calibrated, "-n", 16, "--json"]
    spread = command("batch", *arguments, "-o", out, "--workers", 2)
    with started(spread, environment, tmp_path) as process:
        wait_for_results(process, tmp_path, 20)
        process.send_signal(how)
        process.wait(60)
    there = len(lines_of(out / RESULTS)) if how == signal.SIGTERM else 20
    if how == signal.SIGTERM:
        assert process.returncode == 1
        said = (tmp_path / "stderr").read_text()
        assert said == f"caflow: stopped after {there} of 120 images: run the same command again to resume\n"
    again = subprocess.run(spread, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert len(again.stdout.splitlines()) <= 120 - there
    alone = caflow("image", *arguments, "-o", tmp_path / "alone")
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)


DEADLY = """
import os, sys

if not hasattr(sys, "is_driver") and "at-start" in {mode!r}:
    os._exit(1)

def do(pipe, unit):
    if unit == 5:
        os._exit(1)
    return unit * unit
"""
DRIVER = """
import sys
sys.is_driver = True
import deadly
from caflow_deploy.cluster.batch import open_fleet
from caflow_runtime.errors import CaflowError
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.pipeline.pipeline import load

settings = settings_of_pipeline(load(sys.argv[1], "cpu"))
with open_fleet(None, sys.argv[1], settings, "cpu", 2, 1, {}) as fleet:
    try:
        print(sorted(fleet.run(deadly.do, list(range(12)))), file=sys.__stdout__)
    except CaflowError as error:
        print(error, file=sys.__stdout__)
"""


@pytest.mark.full
@pytest.mark.parametrize("mode", ["at-one", "at-start"])
def test_what_kills_its_worker_is_given_up(
    calibrated: Path, tmp_path: Path, environment: dict[str, str], mode: str
) -> None:
    """One unit, and the others are done; or the start, for all of them."""
    (tmp_path / "deadly.py").write_text(DEADLY.format(mode=mode))
    (tmp_path / "driver.py").write_text(DRIVER)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    run = [sys.executable, str(tmp_path / "driver.py"), str(calibrated)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=300)
    if mode == "at-one":
        assert done.stdout == f"{[(k, None if k == 5 else k * k) for k in range(12)]}\n"
    else:
        assert "8 workers in a row died while they opened" in done.stdout
    assert "Traceback" not in done.stderr


def actor_of(machine: Machine) -> int:
    """The process of an actor that does the work."""
    found = machine.processes("ray::MapWorker")
    assert found, "no worker on this machine"
    return found[0]


@pytest.mark.full
def test_machines_may_fail(calibrated: Path, tmp_path: Path) -> None:
    """A worker is killed, then the machine of another: every image is there, once, and is that of one process."""
    if reason := why_none():
        pytest.skip(reason)
    crops(tmp_path / "in", 500)
    out = tmp_path / "out"
    arguments = [tmp_path / "in", "--bundle", calibrated, "-n", 8, "--json"]
    with two_nodes(tmp_path, cpus=1) as nodes:
        first, second = nodes.machines
        spread = first.command(command("batch", *arguments, "-o", out, "--ray", nodes.address))
        with started(spread, nodes.environment, tmp_path) as process:
            wait_for_results(process, tmp_path, 150)
            kill(actor_of(first))
            wait_for_results(process, tmp_path, 300)
            actor_of(second)
            second.kill_all()
            process.wait(120)
    assert process.returncode == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "stdout").read_text() == (out / RESULTS).read_text()
    alone = caflow("image", *arguments, "-o", tmp_path / "alone")
    reports = [json.loads(line) for line in alone.stdout.splitlines()]
    assert drawn_alike(out, lines_of(out / RESULTS), tmp_path / "alone", reports)


@pytest.mark.full
def test_a_cluster_that_wants_a_token(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """`ray start` makes such a one where there is a token, as Ray leaves it once it has run on this machine alone."""
    environment = {**environment, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_MODE"]
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("1" * 64)
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    address = f"127.0.0.1:{free_port()}"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", "--num-cpus=1"]
    with started([*ray, *start, "--block"], environment, tmp_path) as head:
        until = time.monotonic() + 60
        while "Ray runtime started" not in (tmp_path / "stdout").read_text() and time.monotonic() < until:
            time.sleep(0.2)
        arguments = ["batch", tmp_path / "a.png", "--bundle", calibrated, "-n", 1, "--ray", address]
        done = caflow(*arguments, "-o", tmp_path / "out", env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        token.write_text("0" * 64)
        refused = caflow(*arguments, "-o", tmp_path / "refused", env=environment)
        assert refused.returncode == 2
        assert f"caflow: no Ray cluster at {address}: " in refused.stderr
        assert "have its ~/.ray/auth_token here, too" in refused.stderr
        head.terminate()  # it ends what it has started
        head.wait(60)
