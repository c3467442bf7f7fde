"""Pages of the documentation: what their Markdown says, and what a browser shows of them."""

from dataclasses import dataclass, field
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

MARKDOWN = MarkdownIt("commonmark").enable("table").disable("html_block")
"""Parser for which HTML is part of a sentence, also at the start of a line, because authors mean it so."""
DOCSTRING = ":::"
"""Start of a paragraph that mkdocstrings replaces by a docstring."""
OVERHANG = 4
"""Pixels by which code in a sentence may exceed its column: its right padding, which Chromium ignores in wrapping."""
SHOWN = """overhang => {
    const article = document.querySelector("article")
    const count = tag => [...article.querySelectorAll(tag)].filter(element => !element.closest(".doc-object")).length
    const isWide = element => element.clientWidth && element.scrollWidth > element.clientWidth + overhang
    const isCut = element => isWide(element) && !["auto", "scroll"].includes(getComputedStyle(element).overflowX)
    const describe = element => `${element.scrollWidth} pixels in a column of ${element.clientWidth}: `
        + `${element.tagName} ${element.innerText.slice(0, 60).replace(/\\s+/g, " ")}`
    const cut = [document.documentElement, article.parentElement, ...article.querySelectorAll("*")].filter(isCut)
    return {
        lines: article.innerText.split("\\n").map(line => line.replace(/\\s+/g, " ").trim()),
        bullets: count("li"),
        rows: count("tr"),
        cut: cut.filter(element => !cut.some(inner => inner != element && element.contains(inner))).map(describe),
        wide_signatures: [...article.querySelectorAll(".doc-signature code")].filter(isWide).map(describe),
        links: [...document.links].map(link => link.href),
        anchors: [...document.querySelectorAll("[id]")].map(element => element.id),
        missing_images: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
    }
}"""
"""Script that returns the fields of `Shown`."""


@dataclass
class Source:
    """What a page says: paragraphs, headings, table rows and lines of code, and the numbers of bullets and rows."""

    lines: list[str] = field(default_factory=list)
    bullets: int = 0
    rows: int = 0


@dataclass
class Shown:
    """What a browser shows of a page: its text line by line, with the numbers of bullets and table rows.

    The numbers are without those of docstrings. `cut` describes the elements that are wider than their column and
    cannot be scrolled, and `wide_signatures` the signatures of functions that have to be scrolled. `links` and
    `missing_images` are addresses.
    """

    lines: list[str]
    bullets: int
    rows: int
    cut: list[str]
    wide_signatures: list[str]
    links: list[str]
    anchors: list[str]
    missing_images: list[str]


def parse_page(markdown: str) -> Source:
    """Return what a page in Markdown says, without its docstrings."""
    source = Source()
    cells: list[str] | None = None
    for token in MARKDOWN.parse(markdown):
        if token.type == "list_item_open":
            source.bullets += 1
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            source.rows += 1
            source.lines.append(" ".join(filter(None, cells or [])))
            cells = None
        elif token.type == "inline" and not token.content.startswith(DOCSTRING):
            (source.lines if cells is None else cells).append(text_of(token))
        elif token.type in ("fence", "code_block"):
            source.lines += [" ".join(line.split()) for line in token.content.splitlines()]
    return source


def text_of(inline: Token) -> str:
    """Return the visible text of a paragraph, a heading or a cell. Images and HTML have none."""
    shown = (token for token in inline.children or () if token.type not in ("image", "html_inline"))
    return " ".join("".join(token.content or " " * token.type.endswith("break") for token in shown).split())


def show_page(page: Any) -> Shown:
    """Return what a page shows that is open in the browser."""
    return Shown(**page.evaluate(SHOWN, OVERHANG))


def lost(source: Source, shown: Shown) -> list[str]:
    """Return one line for each text of a page that is not shown in one piece, and for each number that differs."""
    lines = [f"not shown: {line}" for line in source.lines if not any(line in part for part in shown.lines)]
    if shown.bullets != source.bullets:
        lines.append(f"{source.bullets} bullets, of which {shown.bullets} are shown")
    if shown.rows != source.rows:
        lines.append(f"{source.rows} table rows, of which {shown.rows} are shown")
    return lines
