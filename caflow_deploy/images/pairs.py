"""Lists of file pairs, each a target and its condition, read from a CSV table, JSON lines or two folders."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from caflow_deploy.images.file_search import READABLE, images_below, partners
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.paths import as_path
from caflow_runtime.file_io.strict_json import WrongJson, parse_json, read_lines

TABLE, JSON_LINES = {".csv"}, {".jsonl", ".ndjson"}
COLUMNS = ("target", "condition")
CONDITIONS, TARGETS = "A", "B"


class FilePair(NamedTuple):
    """Paths of a target and its condition, as text: a list of 100,000 pairs requires about 20 MB."""

    target: str
    condition: str


class Line(msgspec.Struct):
    """Required fields of a line of JSON. Further fields are ignored."""

    target: str
    condition: str


def holds_pairs(folder: Path) -> bool:
    """Return whether a folder has the subfolders of conditions and targets."""
    return all((folder / name).is_dir() for name in (CONDITIONS, TARGETS))


def list_pairs(source: Path) -> list[FilePair]:
    """Return all pairs of a list or folder.

    Arguments:
        source: a .csv file with the columns `target` and `condition`; a .jsonl or .ndjson file of objects with these
            fields; or a folder with the subfolders `A` (conditions) and `B` (targets), as in training. Paths in a list
            are relative to the list's folder. In JSON, they are written as by `as_text`.

    Raises:
        InputError: if `source` is none of these, a line is malformed, or there are no pairs.
        OSError: if `source` cannot be read.
    """
    suffix = source.suffix.lower()
    wanted = f"expected a list of pairs ({', '.join(sorted(TABLE | JSON_LINES))}), or a folder with subfolders A and B"
    if not source.exists():
        raise InputError(f"{source}: {wanted}; this path does not exist")
    if source.is_dir():
        pairs = list(_in_folders(source))
    elif suffix in TABLE | JSON_LINES:
        pairs = list(_in_table(source) if suffix in TABLE else _in_json_lines(source))
    else:
        raise InputError(f"{source}: {wanted}")
    if not pairs:
        raise InputError(f"{source}: expected pairs of a target and a condition; found none")
    return pairs


def _in_table(path: Path) -> Iterator[FilePair]:
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        columns = reader.fieldnames or []
        if missing := [name for name in COLUMNS if name not in columns]:
            got = ", ".join(map(repr, columns)) or "nothing"
            raise InputError(
                f"{path}: line 1: expected the columns target and condition, {missing[0]} is missing; got {got}"
            )
        if twice := [name for name in COLUMNS if columns.count(name) > 1]:
            raise InputError(f"{path}: line 1: the column {twice[0]} occurs twice; remove or rename one of them")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}: line {reader.line_num}: expected {len(columns)} values, as in line 1")
            yield _pair(path, reader.line_num, row["target"], row["condition"])
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.reader.line_num}: {error}") from None


def _in_json_lines(path: Path) -> Iterator[FilePair]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            found = parse_json(line.encode(), Line)
        except WrongJson as error:
            wanted = '{"target": "…", "condition": "…"}'
            raise InputError(f"{path}: line {number}: expected {wanted}; {error}") from None
        yield _pair(path, number, as_path(found.target), as_path(found.condition))


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, with or without a byte order mark."""
    number = 0
    try:
        for line in read_lines(path):
            number += 1
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number}: expected UTF-8 text; {error.reason}") from None
    except WrongJson as error:
        raise InputError(f"{path}: line {number + 1}: {error}") from None


def _pair(path: Path, number: int, *names: str) -> FilePair:
    if not all(names) or any("\0" in name for name in names):
        raise InputError(f"{path}: line {number}: expected the paths of a target and a condition; got {names}")
    return FilePair(*(str(path.parent / name) for name in names))


def _in_folders(folder: Path) -> Iterator[FilePair]:
    """Yield pairs of files with the same name. Without such a pair, a different suffix is accepted.

    A target without a condition is paired with the path of the missing file, so that reading the pair fails and the gap
    is reported. The same holds for a condition without a target.
    """
    conditions, targets = folder / CONDITIONS, folder / TARGETS
    if not holds_pairs(folder):
        raise InputError(f"{folder}: expected a folder with the subfolders A (conditions) and B (targets)")
    names, wanted = ({str(path.relative_to(at)) for path in images_below(at, READABLE)} for at in (conditions, targets))
    used: set[str] = set()
    for name, alike in partners(sorted(wanted), names).items():
        if len(alike) > 1:
            raise InputError(f"{targets / name}: expected one condition in {conditions}; found {' and '.join(alike)}")
        condition = alike[0] if alike else name
        used.add(condition)
        yield FilePair(str(targets / name), str(conditions / condition))
    for name in sorted(names - used):
        yield FilePair(str(targets / name), str(conditions / name))
