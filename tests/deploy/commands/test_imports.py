"""Imports: packages that each part must not require, and the errors of commands if a package is missing."""

from pathlib import Path

import pytest
from commands import run_without
from tiny import DATA

from caflow_deploy.cli import COMMANDS

HEAVY = ("torch", "onnx", "onnxruntime", "cv2", "ray", "tensorrt", "tensorrt_rtx")
PHOTOGRAPHS = str(DATA / "photographs")


def test_all_modules_of_the_light_runtime_are_imported_without_image_files_consoles_and_pytorch() -> None:
    others = ("caflow_training", "caflow_export", "caflow_deploy", "caflow_cli")
    result = run_without(
        (*others, "PIL", "av", "click", "rich", "torch", "onnxruntime"),
        "import pkgutil, caflow_runtime; "
        "[__import__(m.name) for m in pkgutil.walk_packages(caflow_runtime.__path__, 'caflow_runtime.')]",
    )
    assert result.returncode == 0, result.stderr


MISSING: list[tuple[str, str, list[str], str]] = [
    ("torch", "caflow_training", ["tiny", "--data", ".", "--out", "out"], "caflow-deploy[train]"),
    ("torch", "caflow_export", ["model.pt"], "caflow-deploy[export]"),
    ("ray", "caflow_deploy", ["image", PHOTOGRAPHS, "-o", "out", "--ray", "auto"], "ray>=2.54"),
    ("gradio", "caflow_deploy", ["page", "--port", "1"], "caflow-deploy[page]"),
    *((name, "caflow_deploy", ["serve"], "caflow-deploy[serve]") for name in ("starlette", "uvicorn")),
    *(
        (name, "caflow_deploy", ["report", "scores.jsonl"], "caflow-deploy[report]")
        for name in ("jinja2", "matplotlib")
    ),
]


@pytest.mark.parametrize(("package", "program", "arguments", "install"), MISSING)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, package: str, program: str, arguments: list[str], install: str
) -> None:
    result = run_without((package,), f"from {program}.cli import main; main({arguments})", tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert package in result.stderr.lower()
    assert f"pip install '{install}'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("program", "blocked", "shown"),
    [
        ("caflow_training", HEAVY, ["RECIPE"]),
        ("caflow_export", HEAVY, ["--precision"]),
        ("caflow_deploy", (*HEAVY, "caflow_deploy.commands", "numpy"), [f"  {name}" for name in COMMANDS]),
    ],
)
def test_help_is_shown_without_loading_what_the_commands_require(
    program: str, blocked: tuple[str, ...], shown: list[str]
) -> None:
    result = run_without(blocked, f"from {program}.cli import main; main(['--help'])")
    assert result.returncode == 0, result.stderr
    assert all(text in result.stdout for text in shown)
