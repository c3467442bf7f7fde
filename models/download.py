"""Commands that download, and the error for what they cannot get."""

import subprocess
from pathlib import Path


class Missing(RuntimeError):
    """Error for a file that cannot be downloaded, or that differs from the listing."""


def run(*command: str, cwd: Path, given: str = "") -> bytes:
    """Run a command and return its output.

    Arguments:
        given: text that the command reads from its standard input.

    Raises:
        Missing: if the command is not installed or fails; the message contains the end of its error output.
    """
    try:
        done = subprocess.run(command, cwd=cwd, input=given.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise Missing(
            f"{command[0]} is not installed: run this script on Debian with npm and git, or copy the files from "
            "another machine"
        ) from None
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip()[-500:]
        raise Missing(f"{' '.join(command[:2])} failed: {error}")
    return done.stdout
