"""Options that several commands have: the model, where it runs, and what a command prints."""

import warnings
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from caflow_cli.console import CommandConsole
from caflow_cli.field_options import field_option
from caflow_cli.option_values import Command, FilePath, options
from caflow_deploy.images.open_models import RunOptions
from caflow_runtime.backends.providers import PREFIX
from caflow_runtime.backends.select import BACKENDS, split_device
from caflow_runtime.bundle.builtin import DEFAULT, DESCRIBED, matching
from caflow_runtime.errors import BackendError

MAX_PIXELS_LIMIT = 2**30
"""Largest value of --max-pixels: OpenCV does not read larger images."""


class BackendType(click.types.StringParamType):
    """Name of a backend."""

    name = "backend"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or end the command if there is no such backend. ONNX Runtime checks execution providers."""
        try:
            base, _ = split_device(value)
        except BackendError as error:
            self.fail(str(error), param, ctx)
        if base not in BACKENDS and not base.startswith(PREFIX):
            self.fail(f"{value!r} is not one of {', '.join(BACKENDS)} and {PREFIX}PROVIDER.", param, ctx)
        return super().convert(value, param, ctx)


BACKEND_METAVAR = f"[{'|'.join(BACKENDS)}|{PREFIX}PROVIDER]"
threads_option = field_option(RunOptions, "threads")
backend_option = field_option(RunOptions, "backend", type=BackendType(), metavar=BACKEND_METAVAR)
max_pixels_option = field_option(RunOptions, "max_pixels", type=click.IntRange(1, MAX_PIXELS_LIMIT))


running_options = options(backend_option, threads_option)
"""Options that say where and how a bundle runs."""
BUNDLES = f"a folder that caflow-export wrote, or the name of a built-in model: {', '.join(DESCRIBED)}"


class BundlePath(FilePath):
    """Folder of a bundle, or name of a built-in model. Shells complete both."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the models and bundles that begin with the incomplete text. If there are none, complete folders."""
        found = [CompletionItem(name) for name in matching(incomplete)]
        return found or [CompletionItem(incomplete, type="dir")]


def bundle_option(command: Command, default: str = DEFAULT) -> Command:
    """Add the bundle as an option, for commands whose arguments are images or videos."""
    text = f"Model to use: {BUNDLES}."
    return click.option("--model", "bundle", type=BundlePath(), default=default, show_default=True, help=text)(command)


def bundle_argument(command: Command) -> Command:
    """Add the bundle as an argument, for commands about bundles. Append its meaning to the help text."""
    command.__doc__ = f"{command.__doc__}\n    BUNDLE is {BUNDLES}. The default is {DEFAULT}."
    return click.argument("bundle", type=BundlePath(), default=DEFAULT)(command)


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


def _be_verbose(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    context.ensure_object(CommandConsole).is_verbose = is_given


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_print_json,
    help='Print one JSON object per line, for programs. The page "Job folders" of the reference lists the fields.',
)
verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_be_verbose,
    help="Print all figures. Without it, lines have the most important one.",
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
