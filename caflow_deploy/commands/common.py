"""What the commands share: options, how a bundle is opened, how errors are said."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.text import Text

    from caflow_runtime.pipeline import Pipeline

Command = TypeVar("Command", bound=Callable[..., Any])

FAILED, WRONG_USE = 1, 2
WIDTH_IN_FILES = 160


BACKENDS = click.Choice(["auto", "cpu", "cuda"])
threads_option = click.option(
    "--threads", type=click.IntRange(0), default=0, show_default="one per core", help="On the CPU."
)


def running_options(command: Command) -> Command:
    """Where and how a bundle runs."""
    for option in (
        click.option("--overlap", type=click.IntRange(0), help="Of tiles, in pixels of the result."),
        click.option("--pixel-budget", type=click.IntRange(1), help="Pixels in one run: bounds memory."),
        threads_option,
        click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="What runs it."),
    ):
        command = option(command)
    return command


def bundle_option(command: Command) -> Command:
    """The bundle of a command about images."""
    path = click.Path(path_type=Path)
    return click.option("--bundle", type=path, required=True, help="A folder that caflow-export wrote.")(command)


def json_option(command: Command) -> Command:
    """Output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")(command)


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> list[int] | None:
    """The callback of an option that takes positive numbers, separated by commas."""
    try:
        found = None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if found is not None and (not found or min(found) < 1):
        raise click.BadParameter(f"wanted positive numbers such as 10,5,3, got {text!r}", context, parameter)
    return found


def open_pipeline(
    bundle: Path, backend: str, threads: int, pixel_budget: int | None = None, overlap: int | None = None
) -> "Pipeline":
    """The pipeline of a bundle; ends the command where it cannot be opened."""
    # OpenCV reports what it cannot read on its own as well.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    with ending_on_errors():
        from caflow_runtime.pipeline import load

        given = {"pixel_budget": pixel_budget, "overlap": overlap}
        settings = {name: value for name, value in given.items() if value is not None}
        return load(bundle, backend=backend, threads=threads, **settings)  # type: ignore[arg-type]


@contextmanager
def ending_on_errors() -> Iterator[None]:
    """Wrong input ends the command with one line and exit code 2."""
    from caflow_runtime.errors import CaflowError

    try:
        yield
    except (CaflowError, OSError) as error:
        end(str(error))


def end(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and stop."""
    click.echo(f"caflow: {message}", err=True)
    sys.exit(code)


def progress_bar(hidden: bool = False) -> "Progress":
    """On a terminal, and gone when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal)


def print_table(columns: Sequence[str], rows: "Sequence[Sequence[str | Text]]") -> None:
    """A table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, columns), box=box.SIMPLE)
    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_FILES
    console.print(table)
