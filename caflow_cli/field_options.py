"""Options of the command line that are fields of options objects, whose classes have all that there is to say."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_type_hints

import click
from msgspec import inspect as types

from caflow_cli.option_values import Command, NumberRange, options, with_flags
from caflow_runtime.option_fields import OptionField, Options, fields_of

Values = TypeVar("Values")


def field_options(kind: type[Options], *names: str) -> Callable[[Command], Command]:
    """Return the decorator that adds options for these fields of a class of options."""
    return options(*(field_option(kind, name) for name in names))


def field_option(kind: type[Options], name: str, *flags: str, **changes: Any) -> Callable[[Command], Command]:
    """Return the decorator that adds the option for a field.

    Arguments:
        flags: the option as users type it; by default the name of the field.
        changes: arguments of `click.option` in place of those that the class gives.
    """
    field, spelling = fields_of(kind)[name], f"--{name.replace('_', '-')}"
    given = {"type": _type_of(field), "default": field.default, "help": _help_of(kind, name)}
    if isinstance(field.kinds[0], types.BoolType):
        spelling = f"{spelling}/--no-{spelling[2:]}" if field.default else spelling
        given |= {"type": None, "is_flag": True}
    else:
        given["show_default"] = field.default not in (None, "")
    if len(name) == 1:
        spelling = f"-{name}"
    return click.option(*(flags or [spelling]), name, **(given | changes))


def gathered(kind: type[Values], given: Mapping[str, Any]) -> Values:
    """Return the object of a class of options, or of a dataclass, that the values of a command's options make.

    A field whose class is of these kinds is made of them, too; it is None if it may be, and no option of it is given.

    Arguments:
        given: values by the names of fields; others are ignored.
    """
    found = {}
    for name, hint in get_type_hints(kind).items():
        part = next((one for one in (hint, *get_args(hint)) if _has_fields(one)), None)
        if name in given:
            found[name] = given[name]
        elif part is not None:
            is_given = any(given.get(inner) is not None for inner in get_type_hints(part))
            found[name] = gathered(part, given) if is_given or part is hint else None
    return kind(**found)


def _has_fields(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Options))


def _type_of(field: OptionField) -> Any:
    match field.kinds[0]:
        case types.IntType(ge=low, le=high):
            return click.IntRange(low, high)
        case types.FloatType() as kind:
            lowest = kind.ge if kind.gt is None else kind.gt
            largest = kind.le if kind.lt is None else kind.lt
            return NumberRange(lowest, largest, min_open=kind.gt is not None, max_open=kind.lt is not None)
        case types.LiteralType(values=values) if isinstance(values[0], str):
            return click.Choice(values)
    return str


def _help_of(kind: type[Options], name: str) -> str:
    """Return the docstring of a field in the words of the command line: `fields` are --fields."""
    flags = {other: f"-{other}" if len(other) == 1 else f"--{other.replace('_', '-')}" for other in fields_of(kind)}
    return with_flags(_docstrings(kind).get(name, ""), flags).replace("`", "")


@cache
def _docstrings(kind: type[Options]) -> dict[str, str]:
    """Return the docstrings of fields, which only the source has; without it, there are none."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except OSError:
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {} if kind is Options else dict(_docstrings(kind.__base__))
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[field.target.id] = " ".join(text.split())
    return found
