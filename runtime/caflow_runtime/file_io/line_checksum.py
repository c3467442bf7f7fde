"""Records that detect changes of their contents: the field `sha256` is the hash of all other fields.

A changed number in a JSON file would otherwise not be noticed, because the JSON stays valid. The hash detects damage
and edits; it does not prove who wrote a record.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec


class Checksummed(Protocol):
    """A struct with a field `sha256`."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the other fields, as hexadecimal digits."""


Record = TypeVar("Record", bound=Checksummed)


def with_checksum(record: Record) -> Record:
    """Return the record with the hash of its contents."""
    changed: Record = msgspec.structs.replace(record, sha256=_hash(record))  # type: ignore[type-var]
    return changed


def has_valid_checksum(record: Checksummed) -> bool:
    """Return whether a record's contents match its hash. Formatting of the JSON does not matter."""
    return record.sha256 == _hash(record)


def fields_with_checksum(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that is a mapping, not a struct, with the hash of its contents as last field."""
    return {**fields, "sha256": _hash_of_fields(fields)}


def fields_have_valid_checksum(fields: Mapping[str, Any]) -> bool:
    """Return whether the contents of a record from `fields_with_checksum` match its hash."""
    return fields.get("sha256") == _hash_of_fields(fields)


def _hash(record: Checksummed) -> str:
    """Return the SHA-256 of a struct's fields, in the order of the struct and without conversion of numbers."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(record, sha256=""))).hexdigest()  # type: ignore[type-var]


def _hash_of_fields(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the fields, sorted by name and with all numbers as float64."""
    contents = _with_floats({**fields, "sha256": ""})
    return hashlib.sha256(msgspec.json.encode(contents, order="sorted")).hexdigest()


def _with_floats(value: Any) -> Any:
    """Return a JSON value with all numbers as floats, because programs that rewrite JSON may turn 1.0 into 1."""
    if isinstance(value, dict):
        return {name: _with_floats(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else value
