"""Writing whole files and folders: they are complete or missing, even after a killed process."""

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from caflow_runtime.file_io.atomic_files import (
    LEFTOVER,
    atomic_file,
    atomic_folder,
    leftover_of,
    partial_path,
    remove_leftovers,
    write_atomically,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writing_replaces_the_old_file_or_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        write_atomically(tmp_path / "file", name.encode())
        assert (tmp_path / "file").read_text() == name
        with atomic_folder(tmp_path / "folder") as partial:
            (partial / name).touch()
        assert names_in(tmp_path / "folder") == [name]
    assert names_in(tmp_path) == ["file", "folder"]


def fail(writing: AbstractContextManager[Path], name: str) -> None:
    with writing as partial:
        (partial / name).write_bytes(b"half")
        raise ZeroDivisionError


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    for writing, name in ((atomic_file(tmp_path / "file"), ""), (atomic_folder(tmp_path / "folder"), "inner")):
        with pytest.raises(ZeroDivisionError):
            fail(writing, name)
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        pass  # no partial file was written
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as one, atomic_file(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"


KILLED = """
import os, signal, sys
from pathlib import Path
from caflow_runtime.file_io.atomic_files import atomic_file, atomic_folder
with atomic_file(Path(sys.argv[1])) as file, atomic_folder(Path(sys.argv[2])) as folder:
    file.write_text("half")
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_temporary_files_of_a_killed_process_are_recognized_and_removed(tmp_path: Path) -> None:
    """Leftovers of the named files are removed if they are old enough. Other files and similar names stay."""
    own = [tmp_path / "file", tmp_path / "folder"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, own)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = names_in(tmp_path)
    assert [LEFTOVER.fullmatch(name)[1] for name in left] == ["file", "folder"]  # type: ignore[index]
    others = [".other.0123abcd.partial", ".file.partial", "file.0123abcd.partial", ".file.0123abcd.partial.png"]
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(own)
    assert names_in(tmp_path) == sorted(others)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real, path = os.fsync, tmp_path / "file"

    def fsync(descriptor: int) -> None:
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")  # noqa: PTH112 - a link of the system
        done.append(f"{'folder' if is_folder else 'file'}, {'named' if path.exists() else 'not named'}")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"content")
    assert done == ["file, not named", "folder, named"]


@pytest.mark.parametrize("length", [1, 237, 238, 255])
def test_names_of_any_length_are_written(length: int, tmp_path: Path) -> None:
    path, other = (tmp_path / (letter * length) for letter in "ab")
    write_atomically(path, b"contents")
    assert path.read_bytes() == b"contents"
    for place in (path, other):
        partial_path(place).touch()
    remove_leftovers([path])
    left = [leftover_of(found) for found in tmp_path.iterdir()]
    assert left.count(None) == 1
    assert len(left) == 2


def test_links_with_temporary_names_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    partial_path(tmp_path / "name").symlink_to(tmp_path / "own", target_is_directory=True)
    remove_leftovers([tmp_path / "name"])
    assert names_in(tmp_path) == ["own"]
    assert names_in(tmp_path / "own") == ["file"]
