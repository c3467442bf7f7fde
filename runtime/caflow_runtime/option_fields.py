"""Base of options objects. The type, range, default and description of a field are written once, in its class.

The checks, the options of commands, the parameters of requests and the reference are all made from them.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec import inspect

from caflow_runtime.checks import check_integer, check_switch, is_number, shown
from caflow_runtime.errors import InputError


class OptionField(NamedTuple):
    """A field of an options object."""

    name: str
    kinds: tuple[inspect.Type, ...]
    """Types of values, with their ranges, as `msgspec.inspect` describes them; without None."""
    may_be_none: bool
    default: Any


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a call. The fields are checked when an object is made, and numbers of NumPy become Python's.

    A field is declared as `name: Annotated[type, Meta(range)] = default`, with a docstring that names other fields in
    backticks.

    Raises:
        InputError: if a value is not valid.
    """

    def __post_init__(self) -> None:
        for field in fields_of(type(self)).values():
            msgspec.structs.force_setattr(self, field.name, checked(field, getattr(self, field.name)))


@cache
def fields_of(kind: type[Options]) -> Mapping[str, OptionField]:
    """Return the fields of a class of options by name, in order."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return {field.name: _field(field) for field in described.fields}


def checked(field: OptionField, value: Any) -> Any:
    """Return the value of a field with numbers of Python.

    Values of several types, lists and mappings are returned as they are: their class checks them.

    Raises:
        InputError: if it is not of the type of the field, or out of its range.
    """
    if (value is None and field.may_be_none) or len(field.kinds) != 1:
        return value
    match field.kinds[0]:
        case inspect.IntType() as kind:
            assert kind.ge is not None
            check_integer(field.name, value, kind.ge, *([] if kind.le is None else [kind.le]))
            return int(value)
        case inspect.FloatType() as kind:
            if not is_number(value) or not _is_within(kind, float(value)):
                _refuse(field, f"a number{_range_of(kind)}", value)
            return float(value)
        case inspect.BoolType():
            check_switch(field.name, value)
            return bool(value)
        case inspect.LiteralType(values=allowed):
            if not isinstance(value, str | int) or value not in allowed or isinstance(value, bool):
                _refuse(field, f"one of {', '.join(map(str, allowed))}", value)
        case inspect.StructType(cls=kind):
            if not isinstance(value, kind):
                _refuse(field, f"a {kind.__name__}", value)
        case inspect.StrType():
            if not isinstance(value, str):
                _refuse(field, "a text", value)
    return value


def _field(field: inspect.Field) -> OptionField:
    kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    found: list[inspect.Type] = []
    for kind in kinds:
        found += kind.types if isinstance(kind, inspect.UnionType) else [kind]
    without_none = tuple(kind for kind in found if not isinstance(kind, inspect.NoneType))
    default = None if field.default is msgspec.NODEFAULT else field.default
    return OptionField(field.name, without_none, len(without_none) < len(found), default)


def _refuse(field: OptionField, wanted: str, value: Any) -> NoReturn:
    raise InputError(f"{field.name} must be {wanted}{' or None' * field.may_be_none}; got {shown(value)}")


def _is_within(kind: inspect.FloatType, value: float) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _range_of(kind: inspect.FloatType) -> str:
    """Return the range of a number in words, such as " that is above 0 and below 1"."""
    bounds = (("at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
    words = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    return words and f" that is {words}"
