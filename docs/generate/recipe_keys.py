"""Reference of the keys of recipes in Markdown, from the source code of the classes that check them.

PyTorch is not required, because the classes are parsed and not imported.
"""

import re

import griffe

ANNOTATED = re.compile(r"Annotated\[(\w+)((?:, \w+\([^()]*\))+)\]")
SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}

SECTIONS = {
    "The model": ["caflow_training.config.CAFlowConfig"],
    "The task": [
        "caflow_training.tasks.SuperResolution",
        "caflow_training.tasks.Colorization",
        "caflow_training.tasks.Inpainting",
        "caflow_training.tasks.Sketch",
        "caflow_training.tasks.ImageToImage",
    ],
    "The training": ["caflow_training.recipe.TrainingConfig"],
    "Degraded inputs": ["caflow_training.degradations.Degradations"],
}
NOT_KEYS = {"task"}
"""Attributes without a row. The heading of each task shows `task`; in the model it contains the task's own keys."""


def recipe_keys(search_paths: list[str]) -> str:
    """Return a table of keys for each class, with type, default and meaning.

    Raises:
        ValueError: if a class in `SECTIONS` does not exist.
    """
    loader = griffe.GriffeLoader(search_paths=search_paths)
    loader.load("caflow_runtime")
    loader.load("caflow_training")
    loader.resolve_aliases()
    parts = []
    for title, paths in SECTIONS.items():
        parts.append(f"## {title}")
        parts.extend(_table(loader, path, titled=len(paths) > 1) for path in paths)
    return "\n\n".join(parts)


def _table(loader: griffe.GriffeLoader, path: str, titled: bool) -> str:
    try:
        described = loader.modules_collection[path]
    except KeyError:
        raise ValueError(f"{path} does not exist: change SECTIONS in {__file__}") from None
    keys = [
        member
        for name, member in described.members.items()
        if member.is_attribute and "property" not in member.labels and name not in NOT_KEYS
    ]
    rows = [f"| `{key.name}` | {_type(key)} | {_default(key)} | {_sentence(key)} |" for key in keys]
    heading = f"### {_task(described)}\n\n{_docstring(described)}" if titled else _docstring(described)
    return "\n".join([heading, "", "| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _task(described: griffe.Object) -> str:
    """Return the line that selects a task in a recipe."""
    return f"`task = {str(described.members['task'].value).replace(chr(39), chr(34))}`"


def _written_out(described: griffe.Object, text: str) -> str:
    """Return a type or a default in which the module's names of ranges, choices and numbers are replaced by values."""
    for name, member in described.module.members.items():
        if name in text:
            try:
                value = str(member.value or "") if member.is_attribute else ""
            except griffe.AliasResolutionError:
                continue
            if value.startswith(("Annotated[", "Literal[")) or re.fullmatch(r"[\d.* ]+", value):
                text = re.sub(rf"\b{name}\b", value, text)
    return ANNOTATED.sub(_range, text)


def _type(key: griffe.Object) -> str:
    return _code(_written_out(key, str(key.annotation)))


def _default(key: griffe.Object) -> str:
    """Return a default in TOML, or an empty text if it is None, because the key may be omitted."""
    text = _written_out(key, str(key.value))
    if text.startswith("("):
        text = f"[{text[1:-1].rstrip(',')}]"
    return _code({"True": "true", "False": "false", "None": ""}.get(text, text))


def _range(annotated: re.Match[str]) -> str:
    """Return a range in short form: `Annotated[int, Ge(1), Le(8)]` as `int 1…8`, and other ranges as `int ≥ 1`."""
    type_, limits = annotated.groups()
    bounds = dict(re.findall(r"(\w\w)\(([^()]+)\)", limits))
    if {"Ge", "Le"} == set(bounds):
        return f"{type_} {bounds['Ge']}…{bounds['Le']}"
    return " ".join([type_, *(f"{SIGNS[name]} {bound}" for name, bound in bounds.items() if name in SIGNS)])


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""


def _docstring(described: griffe.Object) -> str:
    return " ".join(described.docstring.value.split()) if described.docstring else ""


def _sentence(described: griffe.Object) -> str:
    return _docstring(described).replace("|", r"\|").replace("[", r"\[")
