"""The script of the Python guide with images of every kind: it writes what the commands write."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import caflow
from documentation import ROOT, blocks
from PIL import Image

COMMANDS = {
    "large-turned.jpg": ["turned.jpg"],
    "large-clear.png": ["clear.png"],
    "large-deep.png": ["deep.png"],
    "large-photo.png": ["photo.png", "--sheet"],
    "mended.png": ["docs/images/scratched.jpg", "--mask", "docs/images/scratched-mask.png"],
    "coloured.png": ["docs/images/grey.jpg", "--hints", "docs/images/grey-hints.png"],
}


@pytest.mark.full
def test_the_script_writes_the_bytes_of_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    pages = ("docs/guides/python.md",)
    (script,) = [block.code for block in blocks("python", pages) if "turned.jpg" in block.code]
    subprocess.run([sys.executable, "-c", f"{script}\nphoto.save('photo.png')\n"], check=True)
    for name, (given, *options) in COMMANDS.items():
        caflow("image", given, "-o", Path("commands") / name, *options, code=0)
        assert Path(name).read_bytes() == (Path("commands") / name).read_bytes(), name
    sheets = [np.asarray(Image.open(folder / "large-photo-sheet.png")) for folder in (Path(), Path("commands"))]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert Path("large-array.png").read_bytes() == Path("large-photo.png").read_bytes()
