"""Records that show whether they are still what was written: `sha256` is the hash of all their other fields.

Numbers in a JSON file may change without making it invalid, and nothing else would tell. A seal finds damage and edits;
it does not prove who wrote a record.
"""

import hashlib
from typing import Protocol, TypeVar

import msgspec


class Sealable(Protocol):
    """A struct with this field."""

    @property
    def sha256(self) -> str:
        """Hex digest of the other fields."""


Record = TypeVar("Record", bound=Sealable)


def sealed(record: Record) -> Record:
    """Return the record with the hash of its contents."""
    changed: Record = msgspec.structs.replace(record, sha256=_hash(record))  # type: ignore[type-var]
    return changed


def is_sealed(record: Sealable) -> bool:
    """Whether a record's contents are those that it was sealed with. How they are written as JSON does not matter."""
    return record.sha256 == _hash(record)


def _hash(record: Sealable) -> str:
    """Hex digest of the fields in their order, numbers as they are."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(record, sha256=""))).hexdigest()  # type: ignore[type-var]
