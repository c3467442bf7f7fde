"""Reference of the commands in Markdown, generated from the click commands that also print `--help`."""

import inspect
import re

import click
from tables import cell_text

from caflow_deploy.cli import COMMANDS
from caflow_deploy.cli import main as caflow
from caflow_export.cli import main as caflow_export
from caflow_training.cli import main as caflow_train


def command_line() -> str:
    """Return a section for each command, with its usage, its help text and a table of its options."""
    group = click.Context(caflow, info_name="caflow", **caflow.context_settings)
    sections = [_section(caflow, group)]
    for name in COMMANDS:
        command = caflow.get_command(group, name)
        if command is not None:
            context = click.Context(command, info_name=name, parent=group)
            sections.append(_section(command, context))
    for command, name in ((caflow_train, "caflow-train"), (caflow_export, "caflow-export")):
        sections.append(_section(command, click.Context(command, info_name=name, **command.context_settings)))
    return "\n\n".join(sections)


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"```text\n{usage}\n```", _paragraphs(command.help or "")]
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    rows = [f"| {_names(option)} | {_meaning(option, context)} |" for option in options if not option.hidden]
    return "\n\n".join([*parts, "\n".join(["| option | meaning |", "| --- | --- |", *rows])])


def _paragraphs(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


def _names(option: click.Option) -> str:
    return " ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _meaning(option: click.Option, context: click.Context) -> str:
    """Return the option's values, its help text, and in brackets the default, range and "required" as in `--help`."""
    extra = option.get_help_extra(context)
    notes = [f"default: {extra['default']}"] if "default" in extra else []
    notes += [extra["range"]] if "range" in extra else []
    notes += ["required"] if "required" in extra else []
    names = option.make_metavar(context).replace(" RANGE", "").strip("[]").split("|")
    values = "" if option.is_flag else f"{', '.join(f'`{name}`' for name in names)}. "
    brackets = f"[{'; '.join(notes)}]" if notes else ""
    return cell_text(f"{values}{option.help or ''} {brackets}")
