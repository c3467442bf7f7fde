"""`caflow batch`: deprecated name of `caflow image`, `caflow filter` and `caflow video` with `--workers`."""

import os
from collections.abc import Iterable
from pathlib import Path

import click

from caflow_deploy.commands import filter as filtering
from caflow_deploy.commands import image, video
from caflow_deploy.commands.jobs import names_a_video
from caflow_deploy.console import CommandConsole, pass_console
from caflow_runtime.backends.gpu import has_gpu
from caflow_runtime.backends.select import may_use_gpu
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.pairs import is_list

REPLACED = (image.command, filtering.command, video.command)
ANY_OPTION = click.Command(
    "batch",
    params=[
        click.Argument(["inputs"], nargs=-1, required=True, metavar="IN..."),
        *{
            option.name: option for one in REPLACED for option in one.params if isinstance(option, click.Option)
        }.values(),
    ],
    help="Deprecated, and removed in the next release; use caflow image, caflow filter or caflow video with --workers "
    "or --ray. This command calls one of them: IN are images, or one list of pairs, or one video.",
)
"""Command with all options of the replaced commands. It is used only to separate inputs from values of options."""


@click.command("batch", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="IN...")
@pass_console
def command(console: CommandConsole, arguments: tuple[str, ...]) -> None:
    """Deprecated: call caflow image, caflow filter or caflow video with workers.

    Use one of these commands with --workers or --ray instead. IN are images, or one list of pairs, or one video. The
    options are those of the command that is called.
    """
    with ANY_OPTION.make_context("caflow batch", list(arguments)) as parsed:
        given = parsed.params
    replaced = command_for(given["inputs"])
    name = f"caflow {replaced.name}"
    workers = [] if given["workers"] or given["ray"] else ["--workers", str(workers_here(given["backend"]))]
    console.warning(f"caflow batch is deprecated; use {name} with --workers or --ray")
    context = replaced.make_context(name, [*workers, *arguments])
    with context:
        replaced.invoke(context)


def command_for(inputs: Iterable[str]) -> click.Command:
    """Return the command that processes these inputs.

    Raises:
        InputError: if a video or a list of pairs is not the only input.
    """
    inputs = tuple(inputs)
    for text in inputs:
        if names_a_video(Path(text)) or is_list(Path(text)):
            if len(inputs) > 1:
                raise InputError(f"{text}: a video or a list of pairs must be the only input")
            return video.command if names_a_video(Path(text)) else filtering.command
    return image.command


def workers_here(backend: str) -> int:
    """Return the default number of workers: one for a GPU, or one for each core."""
    return 1 if may_use_gpu(backend) and has_gpu() else os.cpu_count() or 1
