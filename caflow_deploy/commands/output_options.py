"""Options about what a command prints, and what it serves to Prometheus, while it runs."""

import warnings

import click

from caflow_cli.console import CommandConsole


def _print_json(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    console = context.ensure_object(CommandConsole)
    console.as_json = is_given
    if is_given:
        console.require_stdout()


def _list_only(context: click.Context, _: click.Parameter, is_given: bool) -> bool:
    if is_given:
        context.ensure_object(CommandConsole).require_stdout()
    return is_given


def _be_quiet(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given:
        console = context.ensure_object(CommandConsole)
        console.shows_messages = console.shows_warnings = False
        context.with_resource(warnings.catch_warnings(action="ignore"))


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_print_json,
    help='Print one JSON object per line, for programs. The page "Job folders" of the reference lists the fields.',
)
quiet_option = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_be_quiet,
    help="Print no messages on standard error except errors.",
)
dry_run_option = click.option(
    "--dry-run",
    is_flag=True,
    callback=_list_only,
    help="List on standard output what would be done, with the memory and the time that it requires, and stop. An "
    "input that the command would refuse gives the exit code of the command itself.",
)
metrics_option = click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics while the command runs. Requires the extra "
    "metrics.",
)
