"""Imports: packages that each part must not require, and the errors of commands if a package is missing."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from caflow_deploy.cli import COMMANDS, main

HEAVY = ("torch", "onnx", "onnxruntime", "cv2", "ray", "tensorrt", "tensorrt_rtx")


def run_without(blocked: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    block = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))"
    return subprocess.run([sys.executable, "-c", f"{block}; {code}"], capture_output=True, text=True, check=False)


MODULES = (
    "caflow_deploy",
    "caflow_deploy.cli",
    "caflow_runtime.bundle.manifest",
    "caflow_runtime.flow.scan",
    "caflow_export",
    "caflow_export.cli",
    "caflow_training.cli",
)


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_heavy_packages(module: str) -> None:
    result = run_without(HEAVY, f"import {module}")
    assert result.returncode == 0, result.stderr


def test_what_the_package_gives_is_loaded_when_it_is_asked_for() -> None:
    code = "import sys, caflow_deploy; assert not {'numpy', 'cv2'} & {*sys.modules}; print(caflow_deploy.Reject(0.01))"
    result = run_without((), code)
    assert result.stdout.startswith("Reject(alpha=0.01"), result.stderr


def test_the_block_blocks() -> None:
    assert run_without(HEAVY, "import caflow_training.model").returncode != 0


@pytest.mark.parametrize(
    "forbidden",
    [
        *("caflow_training", "caflow_export", "caflow_deploy", "caflow_cli", "click", "rich", "torch", "onnxruntime"),
        *("gradio", "jinja2", "matplotlib", "prometheus_client"),
    ],
)
def test_the_runtime_loads_without(forbidden: str) -> None:
    result = run_without(
        (forbidden,),
        "import pkgutil, caflow_runtime; "
        "[__import__(m.name) for m in pkgutil.walk_packages(caflow_runtime.__path__, 'caflow_runtime.')]",
    )
    assert result.returncode == 0, result.stderr


def test_training_without_torch_names_the_extra() -> None:
    command = "from caflow_training.cli import main; main(['tiny', '--data', '.', '--out', 'nowhere'])"
    result = run_without(("torch",), command)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["caflow-train needs torch: pip install 'caflow-deploy[train]'"]
    help_text = run_without(("torch",), "from caflow_training.cli import main; main(['--help'])")
    assert help_text.returncode == 0
    assert "RECIPE" in help_text.stdout


def test_exporting_without_torch_names_the_extra() -> None:
    result = run_without(("torch",), "from caflow_export.cli import main; main(['model.pt'])")
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["caflow-export requires torch: pip install 'caflow-deploy[export]'"]
    help_text = run_without(HEAVY, "from caflow_export.cli import main; main(['--help'])")
    assert help_text.returncode == 0
    assert "--precision" in help_text.stdout


def test_metrics_without_prometheus_name_the_extra(tmp_path: Path, photographs: Path) -> None:
    arguments = [str(photographs / "canyon-wren.jpg"), "-o", str(tmp_path / "large.png"), "--metrics", "9100"]
    result = run_without(("prometheus_client",), f"from caflow_deploy.cli import main; main(['image', *{arguments}])")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "caflow: metrics require prometheus_client; install it with pip install 'caflow-deploy[metrics]'"
    ]


def test_many_machines_without_ray_name_the_extra(photographs: Path, tmp_path: Path) -> None:
    arguments = ["image", str(photographs), "-o", str(tmp_path / "out"), "--ray", "auto"]
    result = run_without(("ray",), f"from caflow_deploy.cli import main; main({arguments})")
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["caflow: this requires Ray; install it with pip install 'caflow-deploy[ray]'"]


@pytest.mark.parametrize("package", ["grpc", "h11", "starlette", "tritonclient", "uvicorn"])
def test_a_server_without_its_packages_names_the_extra(package: str) -> None:
    result = run_without((package,), "from caflow_deploy.cli import main; main(['serve'])")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"caflow: caflow serve requires {package}; install it with pip install 'caflow-deploy[serve]'"
    ]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_reports_without_their_packages_name_the_extra(package: str, tmp_path: Path) -> None:
    code = f"from caflow_runtime.report.html import write_report; write_report(None, None, {str(tmp_path)!r})"
    result = run_without((package,), code)
    assert f"InputError: reports need {package}: pip install 'caflow-deploy[report]'" in result.stderr


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = f"from caflow_training.cli import main; main(['tyni', '--data', {str(tmp_path)!r}, '--out', 'nowhere'])"
    result = run_without((), command)
    assert result.returncode == 2
    assert result.stderr.startswith("caflow-train: tyni is neither a recipe file nor")
    arguments = ["tiny", "--data", str(tmp_path), "--out", str(tmp_path.with_name("run"))]
    command = f"from caflow_training.cli import main; main({arguments!r})"
    result = run_without((), command)
    assert result.returncode == 2
    assert "expected photographs; neither this folder nor its subfolders contain a file" in result.stderr


def test_the_list_of_commands_is_shown_without_loading_any() -> None:
    result = run_without(
        ("caflow_deploy.commands", "numpy", "cv2"), "from caflow_deploy.cli import main; main(['--help'])"
    )
    assert result.returncode == 0, result.stderr
    assert all(f"  {name}" in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_by_its_name(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
