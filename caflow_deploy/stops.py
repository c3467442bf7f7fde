"""How commands are stopped: by Ctrl-C, or by SIGTERM as services are, which differ in the exit code alone."""

import signal
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what ends well after Ctrl-C ends well after it."""


def heed_sigterm() -> None:
    """Let SIGTERM raise `Terminated` in this process's main thread from now on."""
    signal.signal(signal.SIGTERM, _terminate)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped: 128 and the signal's number, so 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated
