"""Workers on a Ray cluster whose processes and machines fail: every result is written exactly once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from commands import command, in_a_process, json_lines_of, messages
from many import crops, drawn_alike, environment, started, wait_for, wait_for_lines
from ports import free_port
from tiny import DATA, photograph
from two_machines import Machine, kill, two_machines, why_none

from caflow_deploy.images.image_files import write_image
from caflow_deploy.jobs.image_folder import RESULTS

__all__ = ["environment"]  # a fixture

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000"}
"""Settings with which Ray gives up an unreachable node after seconds."""


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[list[Machine], str, dict[str, str]]]:
    """Run a cluster with a CPU for actors on each machine, until the block ends. The output goes to `folder`.

    Yield the machines (the head node runs on the first one), the cluster's address, and its processes' environment.
    """
    environment = {**os.environ, **QUICK_TO_NOTICE, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as sockets, two_machines(folder) as machines:
        address = f"{machines[0].address}:{PORT}"
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={sockets}"]
        for machine, options in zip(machines, (head, [f"--address={address}"]), strict=True):
            own = [f"--node-ip-address={machine.address}", "--num-cpus=1", "--disable-usage-stats"]
            command = machine.command([RAY, "start", *options, *own])
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=600)
        yield machines, address, environment


DRIVER = """
import sys
from deadly import square
from caflow_deploy.jobs.executor import WorkerConfig, WorkerLost, versions_here
from caflow_deploy.jobs.ray_executor import open_ray_executor
from caflow_deploy.jobs.folder import flat, settings_of_pipeline
from caflow_runtime.pipeline.pipeline import load

settings = flat(settings_of_pipeline(load(sys.argv[1], "cpu")))
config = WorkerConfig(sys.argv[1], settings, versions_here(), "cpu", 1, {})
with open_ray_executor(None, config, 2) as executor:
    found = executor.run(square, list(range(12)))
    results = [(k, None if isinstance(result, WorkerLost) else result) for k, result in found]
    print(sorted(results), file=sys.__stdout__)
"""


@pytest.mark.full
def test_work_that_kills_its_worker_fails_alone(calibrated: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    environment["PYTHONPATH"] = f"{Path(__file__).parent}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    run = [sys.executable, str(tmp_path / "driver.py"), str(calibrated)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=1200)
    assert done.stdout == f"{[(k, None if k == 5 else k * k) for k in range(12)]}\n"
    assert "Traceback" not in done.stderr


def actor_of(machine: Machine) -> int:
    """Return the process id of a Ray actor on a machine."""
    found = machine.processes("ray::Actor")
    assert found, "no Ray worker runs on this machine"
    return found[0]


@pytest.mark.full
def test_after_a_worker_and_a_machine_failed_each_image_is_written_once(calibrated: Path, tmp_path: Path) -> None:
    """The results equal those of one process."""
    if reason := why_none():
        pytest.skip(reason)
    crops(tmp_path / "in", 150)
    out = tmp_path / "out"
    arguments = [tmp_path / "in", "--model", calibrated, "-n", 4, "--json"]
    with two_nodes(tmp_path) as ((first, second), address, environment):
        spread = first.command(command("image", *arguments, "-o", out, "--ray", address))
        with started(spread, tmp_path, environment) as process:
            wait_for_lines(process, tmp_path, out / RESULTS, 40)
            kill(actor_of(first))
            wait_for_lines(process, tmp_path, out / RESULTS, 80)
            actor_of(second)
            second.kill_all()
            process.wait(600)
    assert process.returncode == 0, (tmp_path / "stderr").read_text()
    assert "starting 2 workers on the cluster" in (tmp_path / "stderr").read_text()
    assert len(json_lines_of(tmp_path / "stdout")) == 150
    in_a_process(command("image", *arguments, "-o", tmp_path / "alone"))
    assert drawn_alike(out, tmp_path / "alone")


@pytest.mark.full
def test_a_cluster_with_a_token_is_joined_only_with_the_right_one(
    calibrated: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """`ray start` requires a token if `~/.ray/auth_token` exists. Ray leaves that file after a run on one machine."""
    environment = {**environment, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_MODE"]
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("1" * 64)
    write_image(tmp_path / "a.png", photograph(DATA / "photographs", 0, 8, 8))
    address = f"127.0.0.1:{free_port()}"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", "--num-cpus=1"]
    with started([*ray, *start, "--block"], tmp_path, environment) as head:
        wait_for(head, tmp_path, 1, lambda: (tmp_path / "stdout").read_text().count("Ray runtime started"))
        arguments = ["image", tmp_path / "a.png", "--model", calibrated, "-n", 1, "--ray", address]
        done = in_a_process(command(*arguments, "-o", tmp_path / "out"), env=environment)
        starts = "starting 1 worker on the cluster; each opens the bundle before its first image"
        assert (done.returncode, messages(done.stderr)) == (0, [starts])
        token.write_text("0" * 64)
        refused = in_a_process(command(*arguments, "-o", tmp_path / "refused"), env=environment)
        assert refused.returncode == 2
        assert f"caflow: no Ray cluster at {address}: " in refused.stderr
        assert "copy its ~/.ray/auth_token" in refused.stderr
        head.terminate()  # it then ends the processes that it has started
        head.wait(600)
