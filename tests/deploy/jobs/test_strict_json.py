"""Broken JSON in each file of a bundle or a job: it raises the error of that file, or counts as damaged."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from caflow_deploy.filtering.report_summary import read_job, read_lines
from caflow_deploy.images.pairs import list_pairs
from caflow_deploy.jobs.folder import State, read_state
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.strict_json import DEEPEST, MAX_BYTES, MAX_BYTES_OF_A_LINE, WrongJson, parse_json, read_json
from caflow_runtime.ood.calibration import WrongCalibration, read_calibration
from caflow_training.progress import TrainingLog

BROKEN: list[tuple[bytes, str]] = [
    (b"[" * 3000 + b"]" * 3000, "32 levels of nesting"),
    (b'{"a":' * 3000 + b"1" + b"}" * 3000, "32 levels of nesting"),
    (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "32 levels of nesting"),
    (b'{"a": 9223372036854775808}', "integers must fit in 64 bits; got 9223372036854775808"),
    (b'{"a": -9223372036854775809}', "integers must fit in 64 bits"),
    (b'{"a": ' + b"9" * 5000 + b"}", "integers must fit in 64 bits; got 999"),
    (b'{"a": NaN}', "numbers must be finite; got NaN"),
    (b'{"a": [-Infinity]}', "numbers must be finite; got -Infinity"),
    (b'{"a": 1e999}', "numbers must be finite; got 1e999"),
    (b'{"a": 1, "b": {"c": 2, "c": 3}}', "the field 'c' occurs twice"),
    (b'{"a": 1, "\\u0061": 2}', "the field 'a' occurs twice"),
    (b'{"a": 1}\0', "not valid JSON"),
    (b'{"a": 1} {}', "not valid JSON"),
    (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
    (b'{"a": "\xff"}', "not valid JSON"),
    (b'{"a": "\\ud800"}', "half of a surrogate pair"),
    (b"\xff\xfe{\0}\0", "not valid JSON"),
    (b"", "not valid JSON"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_ambiguous_deep_and_large_json_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(WrongJson, match=message):
        parse_json(text, dict[str, Any])


def bundle_with(folder: Path, name: str, text: bytes) -> Path:
    folder.mkdir()
    shutil.copy(TINY / MANIFEST, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text)
    return folder


def read_engines(folder: Path) -> None:
    (found,) = engines.find(folder)
    assert found.engines is None
    raise WrongJson(found.stale)


READERS: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "manifest.json": (read_manifest, BundleError),
    "calibration.json": (read_calibration, WrongCalibration),
    "engines/one/engines.json": (read_engines, WrongJson),
    "job.json": (lambda folder: read_state(folder, State, "caflow image"), InputError),
    "list.jsonl": (lambda folder: list_pairs(folder / "list.jsonl"), InputError),
    "scores.jsonl": (lambda folder: list(read_lines(folder / "scores.jsonl", 3)), InputError),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", [text for text, _ in BROKEN if text] + [b" " * MAX_BYTES + b"1"])
def test_broken_json_raises_the_error_of_its_file(tmp_path: Path, name: str, text: bytes) -> None:
    read, error = READERS[name]
    folder = bundle_with(tmp_path / "folder", name, text)
    with pytest.raises(error):
        read(folder)
    with pytest.raises(InputError):
        read_job(bundle_with(tmp_path / "job", "job.json", text) / "scores.jsonl")


def test_lines_longer_than_the_limit_are_refused(tmp_path: Path) -> None:
    for name in ("list.jsonl", "list.csv"):
        (tmp_path / name).write_bytes(b"target,condition\n" + b"x" * (MAX_BYTES_OF_A_LINE + 1))
    with pytest.raises(InputError, match="line 2: a line must have at most 1048576 bytes"):
        list_pairs(tmp_path / "list.csv")
    with pytest.raises(InputError, match="line 1: expected"):
        list_pairs(tmp_path / "list.jsonl")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Reading a pipe would wait for a writer forever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WrongJson, match="expected a file, got a pipe"):
        read_json(tmp_path / "pipe", dict)


@pytest.mark.parametrize("text", [*(text for text, _ in BROKEN), b"[1]", b'{"step": "x"}', b'{"step": null}', b"1"])
def test_damaged_lines_of_a_log_are_dropped(tmp_path: Path, text: bytes) -> None:
    whole = b'{"step": 0, "loss": NaN}\n'
    later = b'{"step": 5, "loss": 1.0}\n{"step"'  # of a step that the checkpoint does not have
    (tmp_path / "log.jsonl").write_bytes(whole + text + b"\n" + whole + later)
    with TrainingLog(tmp_path, 5, writes=True):
        pass
    assert (tmp_path / "log.jsonl").read_bytes() == 2 * whole
