"""Journal of a job: a file with lines of JSON that record the finished units. The same command resumes from it.

There is one rule for all jobs. A line counts if it is undamaged, and if its unit still belongs to the job and is
unchanged. A job that resumes removes all other lines, and processes the units without a line. The line of a unit is
appended when the unit is finished. A unit that fails gets no line that counts, so that the next run tries it again.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import atomic_file
from caflow_runtime.file_io.line_checksum import (
    fields_have_valid_checksum,
    fields_with_checksum,
    has_valid_checksum,
    with_checksum,
)
from caflow_runtime.file_io.strict_json import WrongJson, parse_json

Line = TypeVar("Line")
Unit = TypeVar("Unit", bound=Hashable)


class Journal(Generic[Line]):
    """Lines about the finished units of a job. Only the process that holds the job's lock may change the file."""

    def __init__(self, path: Path, kind: type[Line]) -> None:
        """Describe a file, which need not exist.

        Arguments:
            kind: type of the lines: a struct with a field `sha256`, or `dict`.
        """
        self.path, self.kind = path, kind

    def lines(self) -> Iterator[tuple[bytes, Line | None]]:
        """Yield each line as bytes and decoded; None if it is cut off, damaged or edited.

        Raises:
            InputError: if the path leads to a folder, a pipe or a device.
            OSError: if the file cannot be read.
        """
        return ((text, self._decoded(text)) for text in self._texts())

    def find(self, unit_of: Callable[[Line], Unit | None]) -> dict[Unit, Line]:
        """Return the lines that count, by their units. Nothing is changed.

        Arguments:
            unit_of: returns the unit of an undamaged line; None if the line does not count, because its unit does not
                belong to the job or has changed. Of several lines about one unit, the last one counts.
        """
        return {unit: line for unit, (_, line) in self._find(unit_of).items()}

    def resume(self, unit_of: Callable[[Line], Unit | None]) -> dict[Unit, Line]:
        """Return the lines that count, as `find` does, and remove all others from the file."""
        found = self._find(unit_of)
        if len(found) < sum(1 for _ in self._texts()):
            self.rewrite(text for text, _ in found.values())
        return {unit: line for unit, (_, line) in found.items()}

    def rewrite(self, texts: Iterable[bytes]) -> None:
        """Replace the file by other lines, atomically."""
        with atomic_file(self.path) as partial, partial.open("wb") as file:
            file.writelines(texts)

    def append(self, *lines: Line) -> list[Line]:
        """Append the lines of a unit, and return them with their checksums.

        Raises:
            OSError: if a line cannot be written. Earlier lines are kept.
        """
        finished = [_with_checksum(line) for line in lines]
        try:
            with self.path.open("ab") as file:
                file.writelines(_encoded(line) for line in finished)
        except OSError as error:
            error.filename = error.filename or str(self.path)  # the error of a full disk names no file
            raise
        return finished

    def _texts(self) -> Iterator[bytes]:
        if self.path.exists():
            if not self.path.is_file():  # a pipe would never end
                raise InputError(f"{self.path} must be a file; remove what has its name")
            with self.path.open("rb") as file:
                yield from file

    def _find(self, unit_of: Callable[[Line], Unit | None]) -> dict[Unit, tuple[bytes, Line]]:
        found = {}
        for text, line in self.lines():
            if line is not None and (unit := unit_of(line)) is not None:
                found[unit] = text, line
        return found

    def _decoded(self, text: bytes) -> Line | None:
        try:
            line: Any = parse_json(text, self.kind)
        except WrongJson:
            return None
        is_intact = fields_have_valid_checksum(line) if isinstance(line, dict) else has_valid_checksum(line)
        return cast("Line", line) if is_intact and text.endswith(b"\n") else None


def _with_checksum(line: Any) -> Any:
    return fields_with_checksum(line) if isinstance(line, dict) else with_checksum(line)


def _encoded(line: Any) -> bytes:
    text = json.dumps(line, allow_nan=False).encode() if isinstance(line, dict) else msgspec.json.encode(line)
    return text + b"\n"
