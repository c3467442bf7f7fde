"""Ctrl-C and SIGTERM during export, training, and commands that do not handle these signals themselves."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from commands import caflow, command, started
from many import workers_of

from caflow_deploy.commands import doctor
from caflow_runtime.interruptible import deferring_stops
from caflow_training.cli import stoppable


@pytest.mark.usefixtures("heeding_ctrl_c")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_any_command_says_by_its_exit_code_what_stopped_it(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def stop(*_: object, **__: object) -> NoReturn:
        os.kill(os.getpid(), number)
        time.sleep(60)
        raise AssertionError("the signal did nothing")

    monkeypatch.setattr(doctor, "check_environment", stop)
    done = caflow("doctor")
    assert (done.returncode, done.stderr) == (code, "caflow: stopped\n")


@pytest.mark.parametrize("interrupted", ["time.sleep(60)", "exec('time.sleep(60)')"], ids=["code", "string"])
def test_the_exit_code_is_the_same_wherever_ctrl_c_interrupts(interrupted: str, tmp_path: Path) -> None:
    """Many imports execute strings. CPython treats an interrupt of such a string differently under `python -m`."""
    (tmp_path / "program.py").write_text(
        f"""
import time
from caflow_cli.stops import ending_when_stopped
with ending_when_stopped("program"):
    print("ready", flush=True)
    {interrupted}
"""
    )
    with started([sys.executable, "-m", "program"], cwd=tmp_path) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "program: stopped\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_deferred_stop_comes_at_the_end_of_the_block(number: signal.Signals) -> None:
    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def stop_and_go_on() -> None:
        with deferring_stops():
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            reached.append(number)

    before, reached = signal.signal(number, stop), list[signal.Signals]()
    try:
        with pytest.raises(KeyboardInterrupt):
            stop_and_go_on()
    finally:
        signal.signal(number, before)
    assert reached


@pytest.mark.full
@pytest.mark.parametrize(
    ("send", "number", "code"), [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_an_export_that_is_stopped_leaves_no_half_of_a_bundle(
    ours: Path, tmp_path: Path, send: Callable[[int, int], None], number: signal.Signals, code: int
) -> None:
    """As on a terminal, SIGINT also reaches the processes that trace graphs; SIGTERM does not, as from `kill`."""
    exporting = command(ours, "-o", tmp_path / "new.caflow", package="caflow_export")
    tracing = 2 if (os.cpu_count() or 1) > 1 else 0
    with started(exporting, start_new_session=True) as process:
        while not list(tmp_path.glob(".*.partial")) or len(workers_of(process.pid)) < tracing:
            assert process.poll() is None
            time.sleep(0.01)
        send(process.pid, number)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (code, "caflow-export: cancelled: no bundle was written\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("processes", "is_handled"), [("1", True), ("2", False)])
def test_sigterm_ends_one_of_several_processes(
    processes: str, is_handled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler in Python would not run while the process waits for another one inside PyTorch."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another test may have left a handler
    monkeypatch.setenv("WORLD_SIZE", processes)
    during = []
    try:
        with stoppable():
            during.append(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (during[0] != signal.SIG_DFL) is is_handled
