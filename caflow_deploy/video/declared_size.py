"""How many bytes a video file should have by its own headers.

A file that was cut off, for example by a broken download, is shorter. The times of its frames do not always show that:
a file stores some frames after others that are shown later. So the last frame may be there although others are missing.
"""

from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT = bytes.fromhex("1A45DFA3"), bytes.fromhex("18538067")
"""Identifiers of the two elements of a Matroska or WebM file (RFC 8794, RFC 9559)."""
BOXES = (b"mdat", b"moov", b"moof")
"""Boxes of an MP4 or MOV file (ISO/IEC 14496-12) without which frames are missing."""
MAX_BOXES = 100_000
"""Largest number of boxes that are read, so that a malformed file ends the search. A recording of some seconds has one
box."""
OPEN_RIFF = (0, 0xFFFFFFFF)
"""Sizes in the header of an AVI whose writer could not go back to fill it in."""


def declared_size(path: Path) -> int | None:
    """Return the number of bytes that a Matroska, WebM, MP4, MOV or AVI file should at least have.

    None if its headers do not say, as those of a recording that was written to a pipe, or for another format.

    Raises:
        OSError
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(EBML):
            return _matroska(file)
        if head.startswith(b"RIFF"):
            size = int.from_bytes(head[4:8], "little")
            return None if size in OPEN_RIFF else 8 + size
        return _mp4(file, path.stat().st_size) if head[4:8] in (b"ftyp", *BOXES) else None


def _matroska(file: BinaryIO) -> int | None:
    file.seek(len(EBML))
    header = _ebml_size(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(len(SEGMENT)) != SEGMENT:
        return None
    size = _ebml_size(file)
    return None if size is None else file.tell() + size


def _ebml_size(file: BinaryIO) -> int | None:
    """Read a size of one to eight bytes; None if the file says that the size is unknown.

    The number of leading zero bits of the first byte is the number of bytes that follow.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    size = int.from_bytes(first + file.read(more)) & ((1 << bits) - 1)
    return None if size == (1 << bits) - 1 else size


def _mp4(file: BinaryIO, length: int) -> int | None:
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > length:
            return at or None
        file.seek(at)
        size, kind = int.from_bytes(file.read(4)), file.read(4)
        if size == 1:
            size = int.from_bytes(file.read(8))
        if at + size > length:
            return at + size if kind in BOXES else None
        if size < 8:  # 0: the last box, of any size
            return None
        at += size
    return None
