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
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "benchmarks/README.md",
    "models/**/README.md",
    "runtime/**/README.md",
)
SOURCES = (
    *(
        "training/**/*.py",
        "export/**/*.py",
        "runtime/**/*.py",
        "caflow_cli/*.py",
        "caflow_deploy/**/*.py",
        "integrations/**/*.py",
    ),
    *("benchmarks/*.py", "models/*.py", "docs/generate/*.py"),
    *("runtime/cpp/include/**/*.h*", "runtime/cpp/src/*.*pp", "runtime/cpp/src/*.cu"),
)
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
    r"\bwanted (a|an|one|the|as many|integers?|numbers?)\b": "must be …; got …",
    r'"""(Of|That of|Those of|As far as)\b': "a docstring begins with a verb, or with the name of a thing",
}
"""Regular expressions of discouraged phrases, and what to write instead of each."""
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
WORDS_IN_PYTHON = {"COMMENT", "STRING", "FSTRING_MIDDLE"}
WORDS_IN_CPP = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def found_in(text: str) -> list[tuple[int, str, str]]:
    """Return line, phrase and advice for each discouraged phrase in a text. Code is ignored."""
    prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    found = []
    for pattern, instead in INSTEAD.items():
        for phrase in re.finditer(pattern.replace(" ", r"\s+"), prose, re.IGNORECASE):
            found.append((prose.count("\n", 0, phrase.start()) + 1, " ".join(phrase[0].split()), instead))
    return sorted(found)


def found_in_source(name: str, text: str) -> list[tuple[int, str, str]]:
    """Return what `found_in` finds in the comments and strings of Python or C++ code."""
    words = words_in_python(text) if name.endswith(".py") else words_in_cpp(text)
    return [(first + line - 1, phrase, instead) for first, part in words for line, phrase, instead in found_in(part)]


def words_in_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment and each string; regular expressions are not among them."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in WORDS_IN_PYTHON and not token.string.startswith(("r'", 'r"')):
            yield token.start[0], token.string


def words_in_cpp(text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment and each string."""
    for words in WORDS_IN_CPP.finditer(text):
        yield text.count("\n", 0, words.start()) + 1, words[0]


def main() -> None:
    """Print each discouraged phrase. Exit with 1 if there is one."""
    lines = []
    for pattern in (*PAGES, *SOURCES):
        for path in sorted(ROOT.glob(pattern)):
            name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            found = found_in(text) if path.suffix == ".md" else found_in_source(name, text)
            lines += [f"{name}:{line}: {phrase!r}: write instead: {instead}" for line, phrase, instead in found]
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
