"""Journal of a job: a file with a line of JSON for each finished unit. Each line contains its own checksum."""

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from caflow_runtime.seal import Sealable, is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, parse_json
from caflow_runtime.whole_files import write_whole

Line = TypeVar("Line", bound=Sealable)


class Journal(Generic[Line]):
    """Lines of finished units, of one struct type."""

    def __init__(self, path: Path, kind: type[Line]) -> None:
        self.path, self.kind = path, kind

    def read(self) -> list[Line]:
        """Return all lines that are undamaged. Nothing is changed."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        return [found for line in lines if (found := self._parsed(line)) is not None]

    def keep(self, lines: Iterable[Line]) -> None:
        """Replace the file's contents by these lines."""
        write_whole(self.path, b"".join(map(_encoded, lines)))

    def append(self, line: Line) -> Line:
        """Add the line of a finished unit. Return it with its checksum."""
        with self.path.open("ab") as file:
            file.write(_encoded(line))
        return line

    def _parsed(self, line: bytes) -> Line | None:
        try:
            found = parse_json(line, self.kind)
        except WrongJson:
            return None
        return found if line.endswith(b"\n") and is_sealed(found) else None


def _encoded(line: Sealable) -> bytes:
    return msgspec.json.encode(sealed(line)) + b"\n"
