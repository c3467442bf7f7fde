"""Processes that a test interrupts as Ctrl-C does."""

import sys
from collections.abc import Iterable

RESTORED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def heeding_ctrl_c(command: Iterable[object]) -> list[str]:
    """A command that heeds SIGINT, which processes started from tests that run in the background of a script ignore.

    The command's first part is the path of an executable file. The process keeps its number.
    """
    return [sys.executable, "-c", RESTORED, *map(str, command)]
