"""The Dockerfiles: the files, extras and commands that they name exist. No image is built."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])
def test_a_dockerfile_names_files_extras_and_commands_that_exist(name: str) -> None:
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
