"""Pages of the documentation: their commands, programs, figures, links and wording."""

import re
import shlex
from pathlib import Path

import click
import pytest
from documentation import PAGES, ROOT, blocks, commands
from figures import figure, outdated
from torch.distributed.run import parse_args
from wording import found_in

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
    assert len(lines) == 3
    for line in lines:
        arguments = shlex.split(line.partition("torchrun ")[2].partition(";")[0])
        parsed = parse_args([*arguments, "--start", "x4-photo"])
        assert parsed.training_script == "caflow_training.cli"
        assert parsed.training_script_args[-2:] == ["--start", "x4-photo"]


def test_a_wrong_option_is_noticed() -> None:
    ((program, *_), *rest) = called("caflow image a.png -o b --no-such 2 | caflow image - -o -")
    assert program == "caflow"
    assert len(rest) == 1
    with pytest.raises(click.UsageError, match="no-such"):
        check_options(called("caflow image a.png -o b --no-such 2")[0])


def test_figures_are_those_of_the_benchmarks() -> None:
    assert outdated(ROOT) == []


def test_the_recipe_of_the_reference_is_the_built_in_one() -> None:
    (block,) = blocks("toml", ("docs/reference/recipes.md",))
    assert block.code == (ROOT / "training" / "caflow_training" / "recipes" / "tiny.toml").read_text(encoding="utf-8")


def test_an_outdated_figure_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    (tmp_path / "README.md").write_text(
        '<span data-figure="rejected-at-0.05">4.3 %</span> <!-- figures: rejected-at-0.05 -->4.3 %<!-- end -->'
    )
    assert outdated(tmp_path) == [
        "README.md: a figure has no end, or a table of figures no empty lines",
        "README.md: rejected-at-0.05 is outdated: run python docs/generate/figures.py",
    ]
    current = figure("rejected-at-0.05", ROOT)
    (tmp_path / "README.md").write_text(f'<span data-figure="rejected-at-0.05">{current}</span>')
    assert outdated(tmp_path) == []


def test_phrases_that_readers_stumble_over_are_found_outside_of_code() -> None:
    text = "It goes\non.\n\n```sh\nit goes on\n```\n`lets go of` is code.\nIt lets go of memory.\n"
    assert [(line, phrase) for line, phrase, _ in found_in(text)] == [(1, "goes on"), (8, "lets go of")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_pages_say_at_their_start_who_they_are_for(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.match(r"# .+\n\nFor (everybody|programmers|users|readers) .*?\bAfterwards\b", text, re.DOTALL), page


def test_links_lead_to_existing_files() -> None:
    for page in ROOT.glob("**/*.md"):
        if {".venv", "build"} & set(page.relative_to(ROOT).parts):
            continue
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)  # code has no links
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"
