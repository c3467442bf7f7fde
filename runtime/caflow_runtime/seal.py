"""Records that show whether they are still what was written: `sha256` is the hash of all their other fields.

Numbers in a JSON file may change without making it invalid, and nothing else would tell. A seal finds damage and edits;
it does not prove who wrote a record.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

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


def sealed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that is not a struct, with the hash of its contents as the last one."""
    return {**fields, "sha256": _hash_of_fields(fields)}


def are_sealed(fields: Mapping[str, Any]) -> bool:
    """Whether the contents of such a record are those that it was sealed with."""
    return fields.get("sha256") == _hash_of_fields(fields)


def _hash(record: Sealable) -> str:
    """Hex digest of the fields in their order, numbers as they are."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(record, sha256=""))).hexdigest()  # type: ignore[type-var]


def _hash_of_fields(fields: Mapping[str, Any]) -> str:
    """Hex digest of the fields in the order of their names, numbers as float64."""
    contents = _with_floats({**fields, "sha256": ""})
    return hashlib.sha256(msgspec.json.encode(contents, order="sorted")).hexdigest()


def _with_floats(value: Any) -> Any:
    """Return a value of JSON with all its numbers as floats: programs that rewrite JSON may turn 1.0 into 1."""
    if isinstance(value, dict):
        return {name: _with_floats(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else value
