"""Help of a command with many options: those that most people need come first, each with its first sentence."""

import re
from collections.abc import Sequence
from copy import copy
from typing import Any

import click

END_OF_SENTENCE = re.compile(r"(?<=[a-z0-9)])\.\s+(?=[A-Z0-9-]|\w+: )")


class ShortHelp(click.Command):
    """Command whose --help is short, and whose --help-all has the whole text of each option."""

    def __init__(self, *args: Any, first: Sequence[str] = (), **kwargs: Any) -> None:
        """Describe the command.

        Arguments:
            first: names of the parameters that come first.
        """
        super().__init__(*args, **kwargs)
        self.first = first
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show this message with the whole text of each option.",
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two groups."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        first = [one for name in self.first for one in options if one.name == name]
        for heading, group in (("Options", first), ("More options", [one for one in options if one not in first])):
            rows = [_shortened(one).get_help_record(ctx) for one in group]
            with formatter.section(heading):
                formatter.write_dl([row for row in rows if row is not None])


def _shortened(option: click.Option) -> click.Option:
    """Return an option with the first sentence of its help."""
    short = copy(option)
    if short.help is not None:
        sentence, *others = END_OF_SENTENCE.split(short.help, maxsplit=1)
        short.help = sentence + "." * bool(others)
    return short


def _show_all(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        formatter = context.make_formatter()
        command = context.command
        command.format_usage(context, formatter)
        command.format_help_text(context, formatter)
        click.Command.format_options(command, context, formatter)
        click.echo(formatter.getvalue().rstrip())
        context.exit()
