"""Check of pages, docstrings, comments and messages for phrases that readers found hard to understand.

`make lint` fails if one is found. Usage: python docs/generate/wording.py
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "caflow_*", "docs", "export", "integrations", "models", "runtime", "training")
SUFFIXES = (".md", ".py", ".h", ".hpp", ".cpp", ".cu")
INSTEAD = {
    r"\blets? go of\b": "free, close or discard",
    r"\bgo(es)? on\b|\bgone on\b": "continue or resume",
    r"\bat hand\b": "available, or name the thing",
    r"\bwithout a word\b": "silently",
    r"\bwhat (is|was) (off|given|asked)\b": "name the thing",
    r"\bsuffers?\b": "name what happens to it",
    r"\banew\b": "again",
    r"\bmade-up\b": "artificial",
    r"\b\d+x\d+ pixels\b": "× between sizes",
    r'"""(Of|That of|Those of|As far as)\b': "a docstring begins with a verb, or with the name of a thing",
}
"""Regular expressions of discouraged phrases, and what to write instead of each."""
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
WORDS = {"COMMENT", "STRING", "FSTRING_MIDDLE"}
"""Tokens of Python that contain words."""
WORDS_IN_CPP = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def found_in(text: str) -> list[tuple[int, str, str]]:
    """Return line, phrase and advice for each discouraged phrase in a text. Code is ignored."""
    prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    found = []
    for pattern, instead in INSTEAD.items():
        for phrase in re.finditer(pattern.replace(" ", r"\s+"), prose, re.IGNORECASE):
            found.append((prose.count("\n", 0, phrase.start()) + 1, " ".join(phrase[0].split()), instead))
    return sorted(found)


def words_of(suffix: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the words of each comment and string of a program, or a whole page."""
    if suffix == ".md":
        yield 1, text
    elif suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if tokenize.tok_name[token.type] in WORDS and not token.string.startswith(("r'", 'r"')):
                yield token.start[0], token.string
    else:
        for words in WORDS_IN_CPP.finditer(text):
            yield text.count("\n", 0, words.start()) + 1, words[0]


def main() -> None:
    """Print each discouraged phrase. Exit with 1 if there is one."""
    files = [path for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}/**/*")) if path.suffix in SUFFIXES]
    lines = []
    for path in (*sorted(ROOT.glob("[CR]*.md")), *files):
        if path.name != "CHANGELOG.md":
            for first, words in words_of(path.suffix, path.read_text(encoding="utf-8")):
                for line, phrase, instead in found_in(words):
                    place = f"{path.relative_to(ROOT)}:{first + line - 1}"
                    lines.append(f"{place}: {phrase!r}: write instead: {instead}")
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
