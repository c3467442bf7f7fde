"""Standard input and standard output, used in place of files."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import click

from caflow_cli.command_error import FAILED, CommandError
from caflow_deploy.images.image_headers import holds_several
from caflow_runtime.errors import InputError, format_error
from caflow_runtime.file_io.paths import as_text

PIPE = "-"
"""Name that stands for standard input or standard output."""
STANDARD_INPUT, STANDARD_OUTPUT = "standard input", "standard output"
CHUNK_BYTES = 2**20
_streams: dict[str, str] = {}
"""Names of the standard streams of this command, by the paths of the temporary files in place of them, as text."""


def shown(text: str) -> str:
    """Return text for people, such as a path or a message, with the names of standard streams for their files."""
    for path, stream in _streams.items():
        text = text.replace(path, stream)
    return text


def as_given(path: str) -> str:
    """Return a path as it was given to the command: `-` for the file of a standard stream."""
    return PIPE if path in _streams else path


def is_pipe(output: Path) -> bool:
    """Return whether an output is standard output."""
    return str(output) == PIPE


@contextmanager
def standard_output(output: Path) -> Iterator[BinaryIO | None]:
    """Reserve standard output for data if `output` is standard output. Yield its stream, or None for other outputs.

    In the block, everything that is printed, also by libraries, goes to standard error instead. If the reader of the
    pipe goes away, the command ends with one line.

    Raises:
        InputError: if standard output is a terminal or closed.
    """
    if not is_pipe(output):
        yield None
        return
    if sys.stdout is None or os.isatty(1):
        state = "closed" if sys.stdout is None else "a terminal"
        raise InputError(f"standard output is {state}; pipe it into a command or a file, or give a file name as -o")
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            yield out
    except BrokenPipeError as error:
        raise CommandError(f"{format_error(error)}: the rest was not written", FAILED) from None
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)


def standard_input(what: str) -> BinaryIO:
    """Return standard input, from which a command reads data.

    Arguments:
        what: the kind of data, such as "an image".

    Raises:
        InputError: if standard input is a terminal or closed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise InputError(f"standard input is {state}; pipe {what} into the command, or give a file name as IN")
    return sys.stdin.buffer


@contextmanager
def piped_images(
    inputs: tuple[str, ...], output: Path, suffix: str, max_bytes: int
) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield the inputs and the output of a command about images, with temporary files in place of `-`.

    Arguments:
        suffix: extension that chooses the format of the image written to standard output.
        max_bytes: largest size of the image read from standard input.

    Raises:
        InputError: if a standard stream is a terminal or closed, if the image is larger than `max_bytes`, or if there
            are several inputs or images.
    """
    if PIPE not in inputs and not is_pipe(output):
        yield inputs, output
        return
    if len(inputs) > 1:
        raise InputError("- stands for a single image: with IN - or -o -, give only one IN")
    with TemporaryDirectory(prefix="caflow-") as folder, ExitStack() as stack:
        out = stack.enter_context(standard_output(output))
        source = Path(folder) / STANDARD_INPUT if inputs == (PIPE,) else Path(inputs[0])
        if inputs == (PIPE,):
            _save_standard_input(source, max_bytes)
        result = output if out is None else Path(folder) / f"{STANDARD_OUTPUT}{suffix}"
        stack.callback(_streams.clear)
        _streams.update({as_text(path): path.stem for path in (source, result) if path.parent == Path(folder)})
        yield (str(source),), result
        if out is not None and result.is_file():
            try:
                out.write(result.read_bytes())
                out.flush()
            except OSError as error:
                raise CommandError(f"{STANDARD_OUTPUT}: {format_error(error)}", FAILED) from None


def _save_standard_input(path: Path, max_bytes: int) -> None:
    given, left = standard_input("an image"), max_bytes
    with path.open("wb") as file:
        while chunk := given.read(CHUNK_BYTES):
            left -= file.write(chunk)
            if left < 0:
                raise InputError(
                    f"standard input: the image has more than {max_bytes} bytes, the limit for --max-pixels; give a "
                    "larger --max-pixels, or a smaller image"
                )
    if holds_several(path.read_bytes()):
        raise InputError("standard input: - stands for a single image, but several were piped; give files as IN")


def refuse_beside(output: Path, options: dict[str, bool]) -> None:
    """End the command if the output is standard output and one of these options is given, which write further files."""
    for option, is_given in options.items():
        if is_given and is_pipe(output):
            raise click.UsageError(f"{option} writes further files beside the result; give a file name as -o")
