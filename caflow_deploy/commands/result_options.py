"""Options about the files that results are written to."""

import click

from caflow_deploy.commands.options import Command
from caflow_runtime.jobs.result_files import FORMATS, SOURCE

MOST_SUFFIX_CHARACTERS = 64


def result_options(command: Command) -> Command:
    """In which files results are written."""
    for option in (
        click.option(
            "--no-metadata",
            is_flag=True,
            help="Leave out EXIF, XMP, IPTC and the resolution. The colour profile stays, as colours would change.",
        ),
        click.option(
            "--suffix",
            default="",
            callback=_suffix,
            metavar="TEXT",
            help="In a folder: what the names of results have before their ending, such as -x4.",
        ),
        click.option(
            "--quality",
            type=click.IntRange(1, 100),
            help="Of JPEG and WebP; higher values give better and larger files.  [default: 95 for JPEG; WebP without "
            "loss]",
        ),
        click.option(
            "--format",
            type=click.Choice([SOURCE, *FORMATS]),
            default=SOURCE,
            show_default=True,
            help="In a folder: the format of results, or that of each source; PNG for what can only be read. Of -o -, "
            "which is PNG by default, too.",
        ),
    ):
        command = option(command)
    return command


def _suffix(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if len(text) > MOST_SUFFIX_CHARACTERS or not text.isprintable() or {"/", "\\"} & set(text):
        raise click.BadParameter(
            f"wanted at most {MOST_SUFFIX_CHARACTERS} characters of a file's name such as -x4, got {text!r}",
            context,
            parameter,
        )
    return text
