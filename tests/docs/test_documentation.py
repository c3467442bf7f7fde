"""Pages of the documentation: their commands, figures and links; and the Dockerfiles, whose commands they name."""

import re
import shlex
import tomllib

import click
import pytest
from documentation import PAGES, ROOT, blocks, commands
from figures import outdated
from torch.distributed.run import parse_args

from caflow_deploy.cli import main as caflow
from caflow_export.cli import main as caflow_export
from caflow_training.cli import main as caflow_train

PROGRAMS = {"caflow": caflow, "caflow-export": caflow_export, "caflow-train": caflow_train}
OPERATORS = set("|<>&;")


def called(line: str) -> list[list[str]]:
    """Return the calls of our programs in a line of shell code, each with its arguments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for token in lexer:
        if set(token) <= OPERATORS:
            calls.append([])
        else:
            calls[-1].append(token)
    return [call for call in calls if call and call[0] in PROGRAMS]


def check_options(call: list[str]) -> None:
    """Check that the command and the options of a call exist, and that each option has its number of values.

    Raises:
        click.UsageError: if an option or a value is wrong.
    """
    program, *arguments = call
    command: click.Command | None = PROGRAMS[program]
    assert command is not None
    context = click.Context(command, info_name=program)
    if isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, f"caflow {name}: there is no such command"
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_options_in_commands_exist(page: str) -> None:
    for line in commands(page):
        for call in called(line):
            try:
                check_options(call)
            except click.UsageError as error:
                pytest.fail(f"{page}: {line}: {error.format_message()}")


def test_torchrun_leaves_our_options_alone() -> None:
    """torchrun reads abbreviated options: without `--` it takes `--start` for its `--start-method`."""
    lines = [line for line in commands("docs/guides/training.md") if "torchrun " in line]
    assert len(lines) == 2
    for line in lines:
        arguments = shlex.split(line.partition("torchrun ")[2].partition(";")[0])
        parsed = parse_args([*arguments, "--start", "x4-photo"])
        assert parsed.training_script == "caflow_training.cli"
        assert parsed.training_script_args[-2:] == ["--start", "x4-photo"]


def test_figures_are_those_of_the_benchmarks() -> None:
    assert outdated(ROOT) == []


def test_the_recipe_of_the_reference_is_the_built_in_one() -> None:
    (block,) = blocks("toml", ("docs/reference/recipes.md",))
    assert block.code == (ROOT / "training" / "caflow_training" / "recipes" / "tiny.toml").read_text(encoding="utf-8")


def test_links_lead_to_existing_files() -> None:
    for page in ROOT.glob("**/*.md"):
        if {".venv", "build"} & set(page.relative_to(ROOT).parts):
            continue
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)  # code has no links
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])
def test_a_dockerfile_names_files_extras_and_commands_that_exist(name: str) -> None:
    """No image is built."""
    path = ROOT / "docker" / name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hatch = project["tool"]["hatch"]["build"]["targets"]
    text = path.read_text()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied), copied
    assert copied == {"pyproject.toml", "README.md", "LICENSE", *hatch["sdist"]["only-include"]}
    (extras,) = re.findall(r"\.whl\)\[(.*)\]", text)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    assert f"--file {path.relative_to(ROOT)} " in text
    (entry,) = re.findall(r'^ENTRYPOINT \["(.*)"\]$', text, re.MULTILINE)
    assert entry in project["project"]["scripts"]
