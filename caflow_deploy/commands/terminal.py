"""Output of commands on the terminal: error lines, progress bars, tables; and exit codes."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from caflow_runtime.errors import NO_SPACE, CaflowError, told

FAILED, WRONG_USE = 1, 2
"""Exit codes: some of the work failed; wrong use, before any work was done."""
WIDTH_IN_FILES = 160
"""Width of tables that are not printed to a terminal, in characters."""


@dataclass
class Ending:
    """How a command ends if its work raises an error."""

    code: int = WRONG_USE
    """Exit code. Commands whose results cannot be resumed set it to `FAILED` once some of the work is done."""


@contextmanager
def ending_on_errors() -> Iterator[Ending]:
    """End the command with one line if the block raises an error: exit code 2, or 1 if memory ran out.

    The block may change the exit code 2.
    """
    ending = Ending()
    try:
        yield ending
    except (CaflowError, OSError) as error:
        is_full = isinstance(error, OSError) and error.errno in NO_SPACE
        remedy = ": free space, then run the same command again" if is_full else ""
        end(f"{told(error)}{remedy}", ending.code)
    except MemoryError as error:
        end(f"memory ran out: {error}", FAILED)


def end(message: str, code: int = WRONG_USE) -> NoReturn:
    """Print a message to standard error and exit."""
    click.echo(f"caflow: {message}", err=True)
    sys.exit(code)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "2 images"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def progress_bar(hidden: bool = False) -> Progress:
    """Return a progress bar on standard error. It is shown only on a terminal, and erased at the end."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table to standard output."""
    table = Table(*map(escape, columns), box=box.SIMPLE)
    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_FILES
    console.print(table)
