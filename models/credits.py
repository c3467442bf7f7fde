"""Write `CREDITS.md`, which credits the photographs of public git repositories: python models/credits.py."""

import re
from collections import Counter
from itertools import groupby

from git_photographs import HOST, LISTING, GitPhotograph, all_listed

PAGE = LISTING.with_name("CREDITS.md")
TITLE = "# Credits of the photographs from git repositories"
INTRODUCTION = """\
For everybody who wants to know whose photographs are used for training and evaluation. Afterwards you know where each
came from, under which licence, and whom its source credits. Most were reduced in size, and cropped. Credits and
licences are quoted from the repositories. [Models](README.md) says what each set is for."""


def credits_page(photographs: list[GitPhotograph]) -> str:
    """Return the page in Markdown: for each repository, its commit, and a line for each credit and licence."""
    lines = [TITLE, "", INTRODUCTION]
    by_repository = sorted(photographs, key=lambda photograph: photograph.repository.lower())
    for repository, group in groupby(by_repository, lambda photograph: photograph.repository):
        found = list(group)
        address = f"{HOST}/{repository}/tree/{found[0].commit}"
        lines += ["", f"## {repository}", "", f"[Commit {found[0].commit[:10]}]({address}), {_count(len(found))}:", ""]
        counts = Counter((photograph.credit or "no credit stated", photograph.licence) for photograph in found)
        for (credit, licence), count in sorted(counts.items()):
            lines.append(f"* {_plain(credit)} ({_plain(licence)}){f': {_count(count)}' if count > 1 else ''}")
    return "\n".join(lines) + "\n"


def _count(number: int) -> str:
    return f"{number} photograph{'s' if number > 1 else ''}"


def _plain(text: str) -> str:
    """Return text with Markdown's marks escaped. Addresses in angle brackets stay links."""
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(credits_page(all_listed()), encoding="utf-8")
