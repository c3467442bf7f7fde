"""Helpers that run `caflow`, `caflow-export` and `caflow-train`, in this process or in a new one."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from caflow_deploy.cli import main
from caflow_export.cli import main as export
from caflow_training.cli import main as train

LONGEST_S = 600
"""Time limit of a process, in seconds. It is more than any process of the tests takes, also on a busy machine."""
HEEDING_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)

PLAN_OR_PROGRESS = re.compile(
    r"(of memory( in \d+ processes)?(, about [\d.]+ \w+)?| left)$|are drawn already; the command "
)


@dataclass(frozen=True)
class Done:
    """Output and exit code of a finished command."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: object, package: str = "caflow_deploy") -> list[str]:
    """Return the command line that runs `caflow`, or the command of another package, with this Python."""
    return [sys.executable, "-m", f"{package}.cli", *map(str, arguments)]


def caflow(*arguments: object, given: bytes = b"", code: int | None = None) -> Done:
    """Run `caflow` in this process, which saves a second of imports.

    An exception that would end a process with a traceback is raised here. Output of libraries written in C is not
    captured; use `in_a_process` to capture it.

    Arguments:
        given: bytes on standard input.
        code: exit code with which the command must end; None accepts every one.
    """
    return _in_this_process(main, arguments, code, given)


def image_report(source: Path, output: Path, bundle: Path, *options: object) -> dict[str, Any]:
    """Run `caflow image` with two samples, unless the options say otherwise. Return its report of the last image."""
    done = caflow("image", source, "-o", output, "--model", bundle, "-n", 2, "--json", *options, code=0)
    return json_lines(done.stdout)[-1]


def score_report(target: Path, condition: Path, bundle: Path, *options: object) -> dict[str, Any]:
    """Run `caflow score` with one pair, and return its report."""
    (report,) = json_lines(caflow("score", target, condition, "--model", bundle, "--json", *options, code=0).stdout)
    return report


def caflow_export(*arguments: object, code: int | None = None) -> Done:
    """Run `caflow-export` in this process, in the same way as `caflow`."""
    return _in_this_process(export, arguments, code)


def caflow_train(*arguments: object, code: int | None = None) -> Done:
    """Run `caflow-train` in this process, in the same way as `caflow`."""
    return _in_this_process(train, arguments, code)


def _in_this_process(entry: click.Command, arguments: Iterable[object], code: int | None, given: bytes = b"") -> Done:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        result = CliRunner().invoke(entry, [*map(str, arguments)], given)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # commands install their own handler
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert code in (None, result.exit_code), result.stderr
    return Done(result.exit_code, result.stdout, result.stderr)


def messages(stderr: str) -> list[str]:
    """Return the lines of standard error, without those about the plan and the progress."""
    return [line for line in stderr.splitlines() if not PLAN_OR_PROGRESS.search(line)]


def in_a_process(line: Iterable[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line in a new process to its end, and return its output. Any exit code is accepted."""
    given = {"timeout": LONGEST_S, **options}
    return subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, **given)


@contextmanager
def started(line: Iterable[object], **options: Any) -> Iterator[Any]:
    """Start a command, yield its `Popen`, and kill it at the end of the block, or after `LONGEST_S`. Its output is text
    in pipes, unless `options` redirect it.

    The command reacts to SIGINT. Otherwise it would ignore SIGINT if the tests run in the background of a script.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(heeding_ctrl_c(line), text=True, **pipes) as process, killed_in_time(process):
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def killed_in_time(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that still runs after `LONGEST_S`, so that a test that waits for it fails instead of blocking."""
    timer = threading.Timer(LONGEST_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def heeding_ctrl_c(line: Iterable[object]) -> list[str]:
    """Return a command line that reacts to SIGINT even if its parent ignores it. The process ID stays the same."""
    return [sys.executable, "-c", HEEDING_CTRL_C, *map(str, line)]


def environment_with(**changes: str) -> dict[str, str]:
    """Return this process's environment with some values changed. An empty value removes its variable."""
    return {name: value for name, value in (os.environ | changes).items() if value}


def json_lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a text that contains one object per line."""
    return [json.loads(line) for line in text.splitlines()]


def json_lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file that contains one object per line. A missing file contains none."""
    return json_lines(path.read_text()) if path.exists() else []


def run_without(blocked: tuple[str, ...], code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a Python in which the import of some packages fails.

    Arguments:
        folder: working directory.
    """
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); {code}"
    return in_a_process([sys.executable, "-c", code], cwd=folder)
