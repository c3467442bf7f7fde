"""Figures in the pages of the documentation, generated from the files in benchmarks/results.

A sentence contains a figure as `<span data-figure="NAME">…</span>`; a comment that begins a line would end the
sentence. A table of figures stands between `<!-- figures: NAME -->` and `<!-- end -->`, with an empty line before and
after it. `make docs` and the tests fail if a figure differs from the results. `python docs/generate/figures.py` updates
all figures.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figure_rows
from tables import cell, table

PAGES = ("README.md", "docs/**/*.md", "models/*/README.md", "benchmarks/README.md")
FIGURE = re.compile(
    r'(?P<start><(?:span data-figure="|!-- figures: )(?P<name>[\w.-]+)(?:">| -->\n\n))'
    r"(?P<text>.*?)(?P<end></span>|\n\n<!-- end -->)",
    re.DOTALL,
)
START = re.compile(r"<!--\s*figures:|<span\s+data-figure=")


def outdated(root: Path) -> list[str]:
    """Return one line for each figure that differs from the results, has an unknown name or does not end."""
    lines = []
    for page in pages(root):
        contents = page.read_text(encoding="utf-8")
        found = list(FIGURE.finditer(contents))
        if len(found) < len(START.findall(contents)):
            lines.append(f"{page.relative_to(root)}: a figure has no end, or a table of figures no empty lines")
        for shown in found:
            name = shown["name"]
            if name not in NUMBERS and name not in TABLES:
                known = ", ".join((*NUMBERS, *TABLES))
                lines.append(f"{page.relative_to(root)}: figures must be one of {known}; got {name}")
            elif shown["text"] != figure(name, root):
                lines.append(f"{page.relative_to(root)}: {name} is outdated: run python docs/generate/figures.py")
    return lines


def figure(name: str, root: Path) -> str:
    """Return a figure of the repository in the folder `root`."""
    if name in NUMBERS:
        file, number = NUMBERS[name]
        return number(results(root, file))
    described = TABLES[name]
    found = results(root, described["file"])
    rows = getattr(figure_rows, described["rows"])(found) if "rows" in described else found["rows"]
    for key, values in described.get("only", {}).items():
        rows = [row for row in rows if row[key] in (values if isinstance(values, list) else [values])]
    for key, names in described.get("names", {}).items():
        rows = [row | {key: names[row[key]]} for row in rows if row[key] in names]
    heading, templates = (described[key].split(" | ") for key in ("heading", "cells"))
    return table(heading, [[cell(template, row) for template in templates] for row in rows])


def results(root: Path, name: str) -> Any:
    """Return the contents of a benchmark's results file."""
    return json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def rate_of(model: str) -> Callable[[Any], str]:
    """Return the function for the frames of 640×360 pixels that a model makes per second, in the better batch size."""
    return lambda found: f"{max(row['frames/s'] for row in found['rates'] if row['method'] == model):.1f}"


def rejected(alpha: str) -> Callable[[Any], str]:
    """Return the function for the percentage of true images that is rejected by mistake at α."""
    return lambda found: f"{100 * found['false_rejection'][alpha]['rate']:.1f} %"


NUMBERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rejected-at-0.01": ("filter-last", rejected("0.01")),
    "rejected-at-0.05": ("filter-last", rejected("0.05")),
    "rejected-x4-real": ("filter-x4-real", rejected("0.05")),
    "x4-photo-rate": ("video-coded", rate_of("x4-photo")),
    "x2-video-rate": ("video-coded", rate_of("x2-video")),
    "outliers": ("outliers-hard", lambda found: f"{found['rows'][0]['largest']:.0f}"),
    "outliers-of-the-truth": ("outliers-hard", lambda found: f"{found['rows'][0]['largest of the truth']:.0f}"),
}
"""Results file of each number that a sentence contains, and the function that returns its text."""
TABLES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
"""Description of each table."""


def write(root: Path) -> None:
    """Update all figures in all pages."""
    for page in pages(root):
        before = page.read_text(encoding="utf-8")
        after = FIGURE.sub(lambda shown: f"{shown['start']}{figure(shown['name'], root)}{shown['end']}", before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def pages(root: Path) -> list[Path]:
    """Return the pages that may contain figures."""
    return [page for pattern in PAGES for page in sorted(root.glob(pattern))]


if __name__ == "__main__":
    write(Path(__file__).parents[2])
