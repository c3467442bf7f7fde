"""Reference of the keys of recipes in Markdown, from the source code of the classes that check them.

Types and defaults are written for readers who do not know Python: types in words, defaults in TOML.

PyTorch is not required, because the classes are parsed and not imported.
"""

import ast
import json
import re

import griffe
from tables import cell_text

LIMITS = {"Ge": "at least", "Gt": "above", "Le": "at most", "Lt": "below", "MinLen": "number of values: at least"}
"""Words for the limits of a value, by the name of the class in the annotation."""
NOUNS = {"bool": "`true` or `false`", "int": "integer", "float": "number"}
TASK = "task"
"""Key with a row of its own, because its type in the source code is the class of the task."""

SECTIONS = {
    "The model": ["caflow_training.config.CAFlowConfig"],
    "The task": [
        "caflow_training.tasks.SuperResolution",
        "caflow_training.tasks.Colorization",
        "caflow_training.tasks.Inpainting",
        "caflow_training.completion_tasks.MaskedInpainting",
        "caflow_training.completion_tasks.ColorHints",
        "caflow_training.tasks.Sketch",
        "caflow_training.tasks.ImageToImage",
    ],
    "The training": ["caflow_training.recipe.TrainingConfig"],
    "Degraded inputs": ["caflow_training.degradations.Degradations"],
}


def recipe_keys(search_paths: list[str]) -> str:
    """Return a table of keys for each class, with type, default and meaning."""
    loader = griffe.GriffeLoader(search_paths=search_paths)
    for package in ("caflow_runtime", "caflow_deploy", "caflow_training"):
        loader.load(package)
    loader.resolve_aliases()
    parts = []
    for title, paths in SECTIONS.items():
        parts.append(f"## {title}")
        classes = [loader.modules_collection[path] for path in paths]
        if len(classes) > 1:
            parts.append(_choice_of_task(loader.modules_collection[SECTIONS["The model"][0]], classes))
            parts.extend(f"### `task = {_toml(str(one.members[TASK].value))}`\n\n{_keys(one)}" for one in classes)
        else:
            parts.append(_keys(classes[0]))
    return "\n\n".join(parts)


def _choice_of_task(model: griffe.Object, tasks: list[griffe.Object]) -> str:
    """Return the table with the key `task`, whose default is the first task."""
    names = [f"`{_toml(str(task.members[TASK].value))}`" for task in tasks]
    return _table([f"| `{TASK}` | {_one_of(names)} | {names[0]} | {_sentence(model.members[TASK])} |"])


def _keys(described: griffe.Object) -> str:
    """Return the description of a class and the table of its keys: its fields, without properties and `ClassVar`s."""
    keys = [
        member
        for name, member in described.members.items()
        if member.is_attribute and "instance-attribute" in member.labels and name != TASK
    ]
    rows = [f"| `{key.name}` | {_type(key)} | {_default(key)} | {_sentence(key)} |" for key in keys]
    return f"{_docstring(described)}\n\n{_table(rows)}"


def _table(rows: list[str]) -> str:
    return "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


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
    return text


def _type(key: griffe.Object) -> str:
    """Return a type in plain words, such as "integer from 1 to 8"."""
    words = _words(ast.parse(_written_out(key, str(key.annotation)), mode="eval").body)
    return re.sub(r", at least (\S+), at most (\S+)", r" from \1 to \2", words)


def _words(type_: ast.expr) -> str:
    """Return a type in plain words.

    Raises:
        ValueError: if there are no words for the type.
    """
    match type_:
        case ast.Name(name) if name in NOUNS:
            return NOUNS[name]
        case ast.BinOp(type_, ast.BitOr(), ast.Constant(None)):  # the key may be omitted
            return _words(type_)
        case ast.Subscript(ast.Name("Literal"), choices):
            values = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return _one_of([f"`{_toml(value)}`" for value in values])
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([of, *limits])):
            calls = [limit for limit in limits if isinstance(limit, ast.Call)]
            return ", ".join([_words(of), *(f"{LIMITS[ast.unparse(c.func)]} {_toml(c.args[0])}" for c in calls)])
        case ast.Subscript(ast.Name("tuple"), ast.Tuple([item, *others])):
            is_open = isinstance(others[0], ast.Constant)  # an ellipsis
            return f"list{'' if is_open else f' of {1 + len(others)}'}, each {_words(item)}"
    raise ValueError(f"{ast.unparse(type_)}: add words for this type to {__file__}")


def _one_of(choices: list[str]) -> str:
    return " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part)


def _default(key: griffe.Object) -> str:
    """Return a default in TOML, or "none" if the key has no value by default."""
    text = _written_out(key, str(key.value))
    return "none" if text == "None" else f"`{_toml(text)}`"


def _toml(value: ast.expr | str) -> str:
    """Return a Python expression in TOML: a literal, or a power of integers."""
    expression = ast.parse(value, mode="eval").body if isinstance(value, str) else value
    match expression:
        case ast.BinOp(base, ast.Pow(), exponent):
            return str(ast.literal_eval(base) ** ast.literal_eval(exponent))
    return json.dumps(ast.literal_eval(expression))


def _docstring(described: griffe.Object) -> str:
    """Return a docstring with one line for each paragraph."""
    text = described.docstring.value if described.docstring else ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _sentence(described: griffe.Object) -> str:
    """Return a docstring for a cell of a table."""
    return cell_text(_docstring(described))
