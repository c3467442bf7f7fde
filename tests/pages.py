"""The pages of the documentation: their commands, their programs, and their links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = "README.md"
GUIDES = tuple(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs" / "guides").glob("*.md")))
PAGES = (README, "docs/install.md", *GUIDES)
"""Whose commands and programs are run."""


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: str
    language: str
    code: str


def blocks(language: str, pages: tuple[str, ...] = PAGES) -> Iterator[Block]:
    """The blocks in that language, in the order of the pages."""
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for code in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, language, code)


def commands(page: str) -> list[str]:
    """The commands of a page, one for each line that does not continue the last one; comments are not among them."""
    joined = (block.code.replace("\\\n", " ") for block in blocks("sh", (page,)))
    lines = [line.partition("  #")[0].strip() for code in joined for line in code.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
