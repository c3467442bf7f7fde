"""Lists of pairs of files, a target and its condition each: from a table, from JSON lines, or from two folders."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from caflow_runtime.errors import InputError
from caflow_runtime.image_formats import images_below
from caflow_runtime.path_text import as_path
from caflow_runtime.strict_json import WrongJson, parse_json, read_lines

TABLE, JSON_LINES = {".csv"}, {".jsonl", ".ndjson"}
COLUMNS = ("target", "condition")
CONDITIONS, TARGETS = "A", "B"


class FilePair(NamedTuple):
    """Paths, as text: a list of 100,000 takes some 20 MB."""

    target: str
    condition: str


class Line(msgspec.Struct):
    """What a line of JSON must hold; it may hold more."""

    target: str
    condition: str


def is_list(source: Path) -> bool:
    """Whether it looks like what `list_pairs` takes."""
    is_file = source.suffix.lower() in TABLE | JSON_LINES and not source.is_dir()
    return is_file or all((source / name).is_dir() for name in (CONDITIONS, TARGETS))


def list_pairs(source: Path) -> list[FilePair]:
    """All pairs of a list, or of a folder.

    Arguments:
        source: a .csv with the columns `target` and `condition`; a .jsonl or .ndjson of objects with these fields; or a
            folder with `A` (conditions) and `B` (targets) in it, as in training. Paths in a list are relative to the
            list's folder. In JSON they are written as by `as_text`.

    Raises:
        InputError: if it is none of these, a line is broken, or there is no pair.
        OSError: if it cannot be read.
    """
    suffix = source.suffix.lower()
    wanted = f"wanted a list of pairs ({', '.join(sorted(TABLE | JSON_LINES))}), or a folder with A and B in it"
    if not source.exists():
        raise InputError(f"{source}: {wanted}: there is nothing of that name")
    if source.is_dir():
        pairs = list(_in_folders(source))
    elif suffix in TABLE | JSON_LINES:
        pairs = list(_in_table(source) if suffix in TABLE else _in_json_lines(source))
    else:
        raise InputError(f"{source}: {wanted}")
    if not pairs:
        raise InputError(f"{source}: wanted pairs of a target and a condition, found none")
    return pairs


def _in_table(path: Path) -> Iterator[FilePair]:
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        columns = reader.fieldnames or []
        if missing := [name for name in COLUMNS if name not in columns]:
            got = ", ".join(map(repr, columns)) or "nothing"
            raise InputError(f"{path}: wanted the columns target and condition, {missing[0]} is not in line 1: {got}")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}: line {reader.line_num}: wanted {len(columns)} values, as in line 1")
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
            raise InputError(f"{path}: line {number}: wanted {wanted}: {error}") from None
        yield _pair(path, number, as_path(found.target), as_path(found.condition))


def _lines(path: Path) -> Iterator[str]:
    """Of UTF-8 text, with or without a byte order mark."""
    number = 0
    try:
        for line in read_lines(path):
            number += 1
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number}: wanted UTF-8: {error.reason}") from None
    except WrongJson as error:
        raise InputError(f"{path}: line {number + 1}: {error}") from None


def _pair(path: Path, number: int, *names: str) -> FilePair:
    if not all(names) or any("\0" in name for name in names):
        raise InputError(f"{path}: line {number}: wanted paths of a target and a condition, got {names}")
    return FilePair(*(str(path.parent / name) for name in names))


def _in_folders(folder: Path) -> Iterator[FilePair]:
    """Files of one name, or else of names that differ by their suffix only.

    A target without a condition is paired with the one that is not there, so that it is not passed over in silence;
    and a condition without a target likewise.
    """
    conditions, targets = folder / CONDITIONS, folder / TARGETS
    if not (conditions.is_dir() and targets.is_dir()):
        raise InputError(f"{folder}: wanted a folder with A (conditions) and B (targets) in it")
    names, wanted = ({str(path.relative_to(at)) for path in images_below(at)} for at in (conditions, targets))
    by_stem = defaultdict(list)
    for name in sorted(names):
        by_stem[Path(name).with_suffix("")].append(name)
    used: set[str] = set()
    for name in sorted(wanted):
        alike = [name] if name in names else by_stem.get(Path(name).with_suffix(""), [name])
        if len(alike) > 1:
            raise InputError(f"{targets / name}: wanted one condition, found {' and '.join(alike)} in {conditions}")
        used.add(alike[0])
        yield FilePair(str(targets / name), str(conditions / alike[0]))
    for name in sorted(names - used):
        yield FilePair(str(targets / name), str(conditions / name))
