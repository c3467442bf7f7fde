"""Pages of the documentation, and the commands and programs in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = "README.md"
GUIDES = tuple(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs" / "guides").glob("*.md")))
PAGES = (README, "docs/install.md", *GUIDES)
"""Pages whose commands and programs the tests run."""


@dataclass(frozen=True)
class Block:
    """One block of code in a page."""

    page: str
    language: str
    code: str


def blocks(language: str, pages: tuple[str, ...] = PAGES) -> Iterator[Block]:
    """Yield the blocks in a language, in the order of the pages."""
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for code in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, language, code)


def commands(page: str) -> list[str]:
    """Return the shell commands of a page without comments. A command that continues on further lines is joined."""
    joined = (block.code.replace("\\\n", " ") for block in blocks("sh", (page,)))
    lines = [line.partition("  #")[0].strip() for code in joined for line in code.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
