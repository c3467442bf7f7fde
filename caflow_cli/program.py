"""What `caflow`, `caflow-export` and `caflow-train` have in common as programs: their streams and wrong arguments."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.standard_streams import flush, naming_stdout, print_message, replace_closed_streams
from caflow_cli.stops import STOPPED
from caflow_runtime.errors import format_error
from caflow_runtime.file_io.paths import printable
from caflow_runtime.interruptible import is_call_left


class Program(click.Command):
    """Command line program that works with closed standard streams, and fails if its output cannot be written."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program, and exit. If a part of standard output is lost, report that in one line and exit with 1."""
        replace_closed_streams()
        try:
            super().main(*args, **options)
        except SystemExit as end:
            lost = flush(sys.stdout)
            if is_call_left(end.code in STOPPED):  # the process would wait until the call ends
                flush(sys.stderr)
                os._exit(end.code if isinstance(end.code, int) else FAILED)
            if end.code or lost is None:
                raise
            ending = CommandError(f"standard output: {format_error(lost)}", FAILED)
        except OSError as error:
            flush(sys.stdout)
            ending = CommandError.of(error, FAILED)
        print_message(f"{self.name}: {ending}")
        sys.exit(ending.code)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the arguments. Print the help or the version if they ask for it."""
        with _printable_errors(), naming_stdout():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and parse the arguments of a subcommand."""
        with _printable_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Escape control characters in errors about arguments, which may be names of files."""
    try:
        yield
    except click.ClickException as error:
        error.message = printable(error.message)  # type: ignore[misc]
        raise
