"""Standard input and output in place of files."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import click

from caflow_deploy.commands.terminal import FAILED, end
from caflow_runtime.errors import InputError

PIPE = "-"
"""Stands for standard input, or for standard output."""
STANDARD_INPUT, STANDARD_OUTPUT = "standard input", "standard output"
CHUNK_BYTES = 2**20


def is_pipe(output: Path | None) -> bool:
    """Whether an output is standard output."""
    return str(output) == PIPE


@contextmanager
def standard_output(output: Path | None) -> Iterator[BinaryIO | None]:
    """Standard output for data alone, where an output is that: what is printed in the block, also by libraries, goes to
    standard error then. None where it is a file.

    Where nobody reads it any more, the command ends with one line.

    Raises:
        InputError: if it is a terminal.
    """
    if not is_pipe(output):
        yield None
        return
    if os.isatty(1):
        raise InputError("-o - writes to standard output, which is a terminal: pipe it, or give the name of a file")
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            yield out
    except BrokenPipeError:
        end("nobody reads standard output any more: the rest is not written", FAILED)
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)


@contextmanager
def piped_images(
    inputs: tuple[str, ...], output: Path, suffix: str, max_bytes: int
) -> Iterator[tuple[tuple[str, ...], Path]]:
    """The inputs and the output of a command about images, with temporary files in place of `-`.

    Arguments:
        suffix: of the image that is written to standard output.
        max_bytes: of the image that is read from standard input.

    Raises:
        InputError: if nothing, or too much, comes.
    """
    if PIPE not in inputs and not is_pipe(output):
        yield inputs, output
        return
    if len(inputs) > 1:
        raise InputError("- is one image: give no other IN with it, and no other IN for -o -")
    with TemporaryDirectory(prefix="caflow-") as folder, ExitStack() as stack:
        out = stack.enter_context(standard_output(output))
        source = Path(folder) / STANDARD_INPUT if inputs == (PIPE,) else Path(inputs[0])
        if inputs == (PIPE,):
            _save_standard_input(source, max_bytes)
        result = output if out is None else Path(folder) / f"{STANDARD_OUTPUT}{suffix}"
        yield (str(source),), result
        if out is not None and result.is_file():
            out.write(result.read_bytes())


def _save_standard_input(path: Path, max_bytes: int) -> None:
    if sys.stdin.isatty():
        raise InputError("wanted an image on standard input, which is a terminal: pipe one, or give its name")
    left = max_bytes
    with path.open("wb") as file:
        while chunk := sys.stdin.buffer.read(CHUNK_BYTES):
            left -= file.write(chunk)
            if left < 0:
                raise InputError(f"standard input: more than {max_bytes} bytes came, more than an image may have")


def refuse_beside(output: Path, options: dict[str, bool]) -> None:
    """End the command if one of these options is given, which writes further files, and the output is a pipe."""
    for option, is_given in options.items():
        if is_given and is_pipe(output):
            raise click.UsageError(f"{option} writes further files beside the result: give -o a file's name for that")
