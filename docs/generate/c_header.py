"""Reference of the C API in Markdown: the declarations of its header, each with the comment that describes it."""

import re
from pathlib import Path

COMMENT = re.compile(r"/\* ?(.*?) ?\*/", re.DOTALL)


def c_reference(header: Path) -> str:
    """Return the reference: the introduction, the types and constants, and a section for each function.

    Raises:
        ValueError: if a function of the header has no comment.
    """
    text = header.read_text(encoding="utf-8")
    introduction, _, rest = text.partition("#ifndef")
    body = rest.partition('extern "C" {\n#endif')[2].partition("#ifdef __cplusplus\n}")[0]
    functions = re.findall(r"((?:/\*(?:(?!\*/).)*\*/\n)?)(CAFLOW_API [^;]+;)", body, re.DOTALL)
    types = body.partition("/* The library's version")[0].strip()
    parts = [_introduction(introduction), "## Types and constants", f"```c\n{types}\n```", "## Functions"]
    for comment, declaration in functions:
        name = re.search(r"(caflow_\w+)\(", declaration)
        if name is None or not comment:
            raise ValueError(f"{header}: add a comment directly above this function: {declaration}")
        code = declaration.removeprefix("CAFLOW_API ")
        parts += [f"### {name[1]}", f"```c\n{_aligned(code)}\n```", _prose(comment)]
    return "\n\n".join(parts)


def _introduction(comment: str) -> str:
    """Return the comment at the top of the header. Its indented lines become a code block."""
    lines = [line.removeprefix(" *").removeprefix(" ") for line in comment.strip().removeprefix("/*").splitlines()]
    text = re.sub(r"(?<=\n\n)([A-Z][a-z]+:)", r"**\1**", "\n".join(lines).rstrip("/ \n"))
    example = re.search(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    if example is None:
        return text
    code = "\n".join(line.removeprefix("    ") for line in example[0].strip("\n").splitlines())
    return f"{text[: example.start()].strip()}\n\n```c\n{code}\n```\n\n{text[example.end() :].strip()}"


def _prose(comment: str) -> str:
    found = COMMENT.search(comment)
    assert found is not None
    return " ".join(re.sub(r"\n \*", " ", found[1]).split())


def _aligned(code: str) -> str:
    """Return the declaration with its continuation lines aligned after the opening parenthesis, as in the header."""
    first, *further = code.splitlines()
    return "\n".join([first, *(f"{' ' * (first.index('(') + 1)}{line.strip()}" for line in further)])
