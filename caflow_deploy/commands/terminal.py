"""What commands show on the terminal: one line for an error, a progress bar, tables; and their exit codes."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from caflow_runtime.errors import CaflowError

FAILED, WRONG_USE = 1, 2
WIDTH_IN_FILES = 160


@contextmanager
def ending_on_errors() -> Iterator[None]:
    """Wrong input ends the command with one line and exit code 2, too little memory with one and exit code 1."""

    try:
        yield
    except (CaflowError, OSError) as error:
        end(str(error))
    except MemoryError as error:
        end(f"memory ran out: {error}", FAILED)


def end(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and stop."""
    click.echo(f"caflow: {message}", err=True)
    sys.exit(code)


def progress_bar(hidden: bool = False) -> Progress:
    """On a terminal, and gone when it is done."""

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table on standard output."""

    table = Table(*map(escape, columns), box=box.SIMPLE)
    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_FILES
    console.print(table)
