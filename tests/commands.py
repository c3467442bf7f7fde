"""How tests run `caflow`, `caflow-export` and `caflow-train`: in this process, or in one of their own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from caflow_deploy.cli import main
from caflow_export.cli import main as export

HEEDING_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)

PLAN_OR_PROGRESS = re.compile(r"(of memory( in \d+ processes)?| left)$")


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: object, package: str = "caflow_deploy") -> list[str]:
    """The command line of `caflow`, or of another package's command, with this Python."""
    return [sys.executable, "-m", f"{package}.cli", *map(str, arguments)]


def caflow(*arguments: object, given: bytes = b"") -> Done:
    """Run `caflow` in this process, which saves a second of imports; `given` is on its standard input.

    An exception that would end a process with a traceback is raised here. What libraries written in C print is not
    seen: `in_a_process` sees it.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        return _in_this_process(main, arguments, given)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # commands set their own


def caflow_export(*arguments: object) -> Done:
    """Run `caflow-export` in this process, as `caflow` does."""
    return _in_this_process(export, arguments)


def _in_this_process(entry: click.Command, arguments: Iterable[object], given: bytes = b"") -> Done:
    result = CliRunner().invoke(entry, [*map(str, arguments)], given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def messages(stderr: str) -> list[str]:
    """Lines of standard error, but for those that say what is to be done, and how far it is."""
    return [line for line in stderr.splitlines() if not PLAN_OR_PROGRESS.search(line)]


def in_a_process(line: Iterable[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, whatever its exit code, and keep what it prints."""
    return subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, **options)


@contextmanager
def started(line: Iterable[object], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs until the block ends; what it prints can be read as text, unless `options` send it elsewhere.

    It heeds SIGINT, which processes started from tests that run in the background of a script ignore otherwise.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(heeding_ctrl_c(line), text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def heeding_ctrl_c(line: Iterable[object]) -> list[str]:
    """A command line that heeds SIGINT also where its parent ignores it; the process keeps its number.

    The first part is the path of an executable file.
    """
    return [sys.executable, "-c", HEEDING_CTRL_C, *map(str, line)]


def environment_with(**changes: str) -> dict[str, str]:
    """This process's environment with other values; an empty one unsets its variable."""
    return {name: value for name, value in (os.environ | changes).items() if value}


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of a text that holds one per line."""
    return [json.loads(line) for line in text.splitlines()]


def json_lines_of(path: Path) -> list[dict[str, Any]]:
    """Those of a file; none if it is not there yet."""
    return json_lines(path.read_text()) if path.exists() else []
