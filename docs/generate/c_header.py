"""The reference of the C API: the declarations of its header, each below the comment that describes it."""

import re
from pathlib import Path

COMMENT = re.compile(r"/\* ?(.*?) ?\*/", re.DOTALL)


def c_reference(header: Path) -> str:
    """Markdown: the introduction, then a section for types and one for each function.

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
            raise ValueError(f"{header}: describe this function in a comment right above it: {declaration}")
        code = declaration.removeprefix("CAFLOW_API ")
        parts += [f"### {name[1]}", f"```c\n{_aligned(code)}\n```", _prose(comment)]
    return "\n\n".join(parts)


def _introduction(comment: str) -> str:
    """The comment on top; its indented lines are an example."""
    lines = [line.removeprefix(" *").removeprefix(" ") for line in comment.strip().removeprefix("/*").splitlines()]
    text = "\n".join(lines).rstrip("/ \n")
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
    """The declaration with its further lines below the bracket, as the header has them."""
    first, *further = code.splitlines()
    return "\n".join([first, *(f"{' ' * (first.index('(') + 1)}{line.strip()}" for line in further)])
