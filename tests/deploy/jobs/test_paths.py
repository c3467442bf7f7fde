"""Paths as text, which is valid in JSON and becomes the same path again; and links that lead to themselves."""

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from commands import Done, caflow, caflow_train, command
from filter_data import write_list
from hypothesis import given
from hypothesis import strategies as st
from tiny import DATA, TINY, photograph

from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.pairs import FilePair
from caflow_runtime.file_io.paths import as_path, as_text, real_path

NAMES = {
    b"plain name.png": "plain name.png",
    "é ☃ \N{GRINNING FACE}".encode(): "é ☃ \N{GRINNING FACE}",
    b"caf\xe9": r"caf\xe9",
    rb"caf\xe9": r"caf\x5cxe9",
    rb"C:\x41\n": r"C:\x41\n",
    b"\xed\xb3\xa9": r"\xed\xb3\xa9",  # the bytes of a surrogate
}


@pytest.mark.parametrize(("name", "text"), NAMES.items())
def test_names_of_any_bytes_have_a_valid_text(name: bytes, text: str) -> None:
    assert as_text(os.fsdecode(name)) == text
    assert os.fsencode(as_path(text)) == name


@given(st.lists(st.sampled_from([b"\\", b"x", b"5", b"c", b"e", b"9", b"\xe9", b"\xc3", b"\xa9", b"a"])).map(b"".join))
def test_every_name_comes_back(name: bytes) -> None:
    text = as_text(os.fsdecode(name))
    assert msgspec.json.decode(msgspec.json.encode(text)) == text
    assert os.fsencode(as_path(text)) == name


def test_commands_write_valid_json(calibrated: Path, photographs: Path, tmp_path: Path) -> None:
    """The names of inputs and results are not UTF-8 here."""
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    small, large = folder / "small\udce9.png", folder / "large\udce9.png"
    write_image(tmp_path / "small.png", photograph(photographs, 0, 8, 8))
    (tmp_path / "small.png").rename(small)

    def lines(*arguments: object) -> list[dict[str, str]]:
        done = subprocess.run(command(*arguments, "--json"), capture_output=True, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        found = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
        assert found, done.stderr.decode(errors="replace")
        assert json.loads(done.stdout.splitlines()[0]) == found[0]
        return found

    (image,) = lines("image", small, "-o", large, "-n", 1, "--model", calibrated)
    assert (as_path(image["input"]), as_path(image["output"])) == (str(small), str(large))
    (score,) = lines("score", large, small, "--model", calibrated)
    assert (as_path(score["target"]), as_path(score["condition"])) == (str(large), str(small))
    pairs = write_list(tmp_path / "pairs.jsonl", [FilePair(as_text(large), as_text(small))])
    (verdict,) = lines("filter", pairs, "-o", folder / "out", "--model", calibrated)
    assert (as_path(verdict["target"]), as_path(verdict["condition"])) == (str(large), str(small))
    assert any(check["state"] == "failed" for check in lines("doctor", folder))


def test_a_link_that_leads_to_itself_is_refused_in_one_line(tmp_path: Path, completing: dict[str, Path]) -> None:
    loop, image, out = tmp_path / "loop", tmp_path / "image.png", tmp_path / "out"
    loop.symlink_to(loop)
    write_image(image, photograph(DATA / "photographs", 0, 16, 16))
    pairs = write_list(tmp_path / "list.jsonl", [FilePair("a", "b")])
    assert real_path(loop / "below" / ".." / "x") == real_path(tmp_path) / "loop" / "x"
    refused: list[Done] = [
        *(caflow("image", image, "-o", loop / below, "--model", TINY, code=2) for below in ("", "x", "x.png")),
        caflow("filter", pairs, "-o", loop, code=2),
        caflow_train("tiny", "--data", DATA / "photographs", "--out", loop),
        caflow("image", loop, "-o", out, "--model", TINY, code=2),
        caflow("image", image, "-o", out, "--model", loop, code=2),
        caflow("image", image, "-o", out, "--mask", loop, "--model", completing["masked-inpainting"], code=1),
    ]
    assert all(done.returncode in (1, 2) and str(loop) in done.stderr for done in refused)
