"""Tables and numbers as the pages show them, and the results that they are made of."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
CODE = re.compile(r"(`[^`]+`)")
ESCAPES = str.maketrans({"|": r"\|", "*": r"\*", "[": r"\[", "<": "&lt;"})


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def cell_text(text: str) -> str:
    """Return a text for a cell of a table: on one line, with the characters escaped that have a meaning in Markdown.

    Code in backticks stays unchanged, because Markdown shows it literally.
    """
    parts = CODE.split(" ".join(text.split()))
    return "".join(part if k % 2 else part.translate(ESCAPES) for k, part in enumerate(parts))


def results(root: Path, name: str) -> Any:
    """Return the contents of a benchmark's results file."""
    return json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def percent(share: float) -> str:
    """Return a fraction as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def shown(value: float | None, form: str) -> str:
    """Return a formatted number, or an empty text for None."""
    return "" if value is None else format(value, form)


def thousands(value: float) -> str:
    """Return a number with three significant digits and with thousands separators."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
