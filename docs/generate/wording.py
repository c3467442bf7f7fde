"""Check of the pages for phrases that readers found hard to understand. `make lint` fails if a page contains one.

Usage: python docs/generate/wording.py
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
INSTEAD = {
    r"\blets? go of\b": "free, close or discard",
    r"\bgo(es)? on\b": "continue or resume",
    r"\bgone on\b": "continued or resumed",
    r"\bat hand\b": "available, or name the thing",
    r"\bwithout a word\b": "silently",
    r"\b(is|are) told it\b": "is given",
    r"\bwhat (is|was) (off|given|asked)\b": "name the thing",
    r"\bso many\b": "say how many, or what the number counts",
    r"\bsuffers?\b": "name what happens to it",
    r"\b(is|are) said\b": "prints, reports or says, with a subject",
    r"\bthe way back\b": "the inverse",
    r"\banew\b": "again",
    r"\bmade-up\b": "artificial",
    r"\bof few\b|\bof them all\b": "rewrite the sentence",
    r"\bpeople's own\b": "rewrite the sentence",
    r"\b\d+x\d+ pixels\b": "× between sizes",
}
"""Regular expressions of discouraged phrases, and what to write instead of each."""
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def found_in(text: str) -> list[tuple[int, str, str]]:
    """Return line, phrase and advice for each discouraged phrase in a text. Code is ignored."""
    prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    found = []
    for pattern, instead in INSTEAD.items():
        for phrase in re.finditer(pattern.replace(" ", r"\s+"), prose, re.IGNORECASE):
            found.append((prose.count("\n", 0, phrase.start()) + 1, " ".join(phrase[0].split()), instead))
    return sorted(found)


def main() -> None:
    """Print each discouraged phrase in the pages. Exit with 1 if there is one."""
    lines = [
        f"{page.relative_to(ROOT)}:{line}: {phrase!r}: write instead: {instead}"
        for pattern in PAGES
        for page in sorted(ROOT.glob(pattern))
        for line, phrase, instead in found_in(page.read_text(encoding="utf-8"))
    ]
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
