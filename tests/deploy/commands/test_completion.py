"""Shell completion of commands and options, of bundles, and of the names of built-in models."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete
from commands import environment_with, in_a_process

from caflow_deploy.cli import COMMANDS, main
from caflow_runtime.bundle import builtin

PROGRAMS = Path(sys.executable).parent


def completed(*words: str) -> list[CompletionItem]:
    """Return the completions of the last word."""
    return ShellComplete(main, {}, "caflow", "_CAFLOW_COMPLETE").get_completions([*words[:-1]], words[-1])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uncalibrated: Path) -> None:
    """Working directory with a bundle, another bundle in a subfolder, and a folder that is not a bundle."""
    (tmp_path / "runs" / "none.caflow").mkdir(parents=True)
    for name in ("x4-own.caflow", "runs/tiny.caflow"):
        (tmp_path / name).symlink_to(uncalibrated)
    monkeypatch.chdir(tmp_path)


def test_commands_options_and_choices_are_completed() -> None:
    assert [item.value for item in completed("")] == list(COMMANDS)
    assert [(item.value, item.help) for item in completed("inf")] == [("info", COMMANDS["info"])]
    assert [item.value for item in completed("image", "--temp")] == ["--temperature"]
    assert [item.value for item in completed("image", "--rank", "c")] == ["consistency"]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("words", [("info",), ("image", "--model")])
def test_bundles_and_built_in_models_are_completed(words: tuple[str, ...]) -> None:
    assert [item.value for item in completed(*words, "x4")] == ["x4-own.caflow", "x4-photo", "x4-real"]
    assert [item.value for item in completed(*words, "")] == sorted(["x4-own.caflow", *builtin.names()])
    assert [item.value for item in completed(*words, "runs/")] == ["runs/tiny.caflow"]
    (folders,) = completed(*words, "r")
    assert (folders.type, folders.value) == ("dir", "r")


def test_files_to_work_on_are_completed_by_the_shell() -> None:
    for words in (("image",), ("video",), ("image", "--mask")):
        (files,) = completed(*words, "phot")
        assert files.type == "file"


@pytest.mark.usefixtures("runs")
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_the_line_of_the_guide() -> None:
    script = (
        'eval "$(_CAFLOW_COMPLETE=bash_source caflow)"; COMP_WORDS=(caflow info x4-p); COMP_CWORD=2; '
        '_caflow_completion caflow; echo "${COMPREPLY[@]}"'
    )
    path = environment_with(PATH=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    done = in_a_process(["bash", "-c", script], env=path)
    assert (done.stdout, done.stderr) == ("x4-photo\n", "")
