"""Table of options in Markdown: the name of each, and where it can be given, from the classes and the commands."""

import re
from pathlib import Path

import click
from tables import cell_text

from caflow_deploy.cli import COMMANDS
from caflow_deploy.cli import main as caflow
from caflow_deploy.filtering.calibrate_model import CalibrateOptions
from caflow_deploy.images.open_models import RunOptions
from caflow_deploy.images.tasks import OutputOptions
from caflow_deploy.jobs.result_naming import ResultFiles
from caflow_deploy.serving.served_models import Sampler
from caflow_deploy.video.video_options import VideoOptions
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.option_fields import fields_of
from caflow_runtime.sizes import Size

CLASSES = (DrawOptions, Size, OutputOptions, ResultFiles, RunOptions, VideoOptions, CalibrateOptions)


def option_names(c_header: Path) -> str:
    """Return a table with a row for each field of the options objects."""
    commands, in_c = _commands(), _fields_in_c(c_header.read_text(encoding="utf-8"))
    rows = ["| name | in Python | elsewhere |", "| --- | --- | --- |"]
    for kind in CLASSES:
        for name in fields_of(kind):
            given = [command for command, names in commands.items() if name in names]
            places = [*given, *["requests"] * (kind is Sampler.parameters), *["C"] * (name in in_c)]
            if places:
                rows.append(f"| `{name}` | `{kind.__name__}` | {cell_text(', '.join(places))} |")
    return "\n".join(rows)


def _commands() -> dict[str, set[str]]:
    """Return the names of the options of each command."""
    group = click.Context(caflow)
    found = {name: caflow.get_command(group, name) for name in COMMANDS}
    return {name: {one.name or "" for one in command.params} for name, command in found.items() if command}


def _fields_in_c(header: str) -> set[str]:
    """Return the names of the fields of the options of the C API."""
    structs = re.findall(r"typedef struct caflow_\w*options \{(.*?)\} caflow_\w+;", header, re.DOTALL)
    code = re.sub(r"/\*.*?\*/", "", "".join(structs), flags=re.DOTALL)
    return set(re.findall(r"(\w+)(?:\[\w+\])?;", code))
