"""Tables in Markdown, and the text of their cells."""

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

CODE = re.compile(r"(`[^`]+`)")
ESCAPES = str.maketrans({"|": r"\|", "*": r"\*", "[": r"\[", "<": "&lt;"})


class Cells(Formatter):
    """Formatter of cells. A field is a key of a row, whatever its characters."""

    def get_field(self, name: str, _: Sequence[Any], row: Mapping[str, Any]) -> tuple[Any, str]:
        """Return the value of a key."""
        return row[name], name

    def format_field(self, value: Any, form: str) -> str:
        """Return a value in Python's format, or in one of those that `figures.toml` describes."""
        if isinstance(value, str):
            return value
        factor, _, form = form.rpartition("*")
        value = value * float(factor) if factor else value
        if form.endswith("%"):
            return f"{100 * value:{form[:-1]}f} %"
        text = thousands(value) if form == "short" else format(value, form)
        return text.replace("-", "−")


def cell(template: str, row: Mapping[str, Any]) -> str:
    """Return the text of a cell, which is empty if the row lacks one of its values."""
    try:
        return Cells().vformat(template, (), {key: value for key, value in row.items() if value is not None})
    except KeyError:
        return ""


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(str(part) for part in line)} |" for line in lines)


def cell_text(text: str) -> str:
    """Return a text for a cell of a table: on one line, with the characters escaped that have a meaning in Markdown.

    Code in backticks stays unchanged, because Markdown shows it literally.
    """
    parts = CODE.split(" ".join(text.split()))
    return "".join(part if k % 2 else part.translate(ESCAPES) for k, part in enumerate(parts))


def thousands(value: float) -> str:
    """Return a number with three significant digits and with thousands separators."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
