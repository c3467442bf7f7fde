"""Reference of the keys of recipes in Markdown, from the source code of the classes that check them.

Types and defaults are written for readers who do not know Python: types in words, defaults in TOML.

PyTorch is not required, because the classes are parsed and not imported.
"""

import ast
import json
import re

import griffe
from tables import cell_text

LIMITS = {"Ge": "at least {}", "Gt": "above {}", "Le": "at most {}", "Lt": "below {}"}
"""Words for the limits of a number, by the name of the class in the annotation."""
NOUNS = {"int": "integer", "float": "number"}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
COUNTS = {1: "one", 2: "two", 3: "three"}
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
        classes = [_class(loader, path) for path in paths]
        if len(classes) > 1:
            parts.append(_choice_of_task(_class(loader, *SECTIONS["The model"]), classes))
            parts.extend(f"### `task = {_toml(one.members[TASK].value)}`\n\n{_keys(one)}" for one in classes)
        else:
            parts.append(_keys(classes[0]))
    return "\n\n".join(parts)


def _class(loader: griffe.GriffeLoader, path: str) -> griffe.Object:
    try:
        found: griffe.Object = loader.modules_collection[path]
    except KeyError:
        raise ValueError(f"{path} does not exist: change SECTIONS in {__file__}") from None
    return found


def _choice_of_task(model: griffe.Object, tasks: list[griffe.Object]) -> str:
    """Return the table with the key `task`, whose default is the first task."""
    names = [f"`{_toml(task.members[TASK].value)}`" for task in tasks]
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
    """Return a type in plain words, such as "integer from 1 to 8" or "list of numbers, each at least 0"."""
    return _words(ast.parse(_written_out(key, str(key.annotation)), mode="eval").body)


def _words(type_: ast.expr) -> str:
    """Return a type in plain words.

    Raises:
        ValueError: if there are no words for the type.
    """
    match type_:
        case ast.Name("bool"):
            return "`true` or `false`"
        case ast.Name(name) if name in NOUNS:
            return NOUNS[name]
        case ast.BinOp(type_, ast.BitOr(), ast.Constant(None)):  # the key may be omitted
            return _words(type_)
        case ast.Subscript(ast.Name("Literal")):
            return _one_of(_choices(type_))
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([ast.Name(name), *limits])) if name in NOUNS:
            return f"{NOUNS[name]}{' ' if _is_closed(limits) else ', '}{_range(limits)}"
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([list_, ast.Call(ast.Name("MinLen"), [least])])):
            return f"{_words(list_)}; at least {COUNTS[_integer(least)]}"
        case ast.Subscript(ast.Name("tuple"), ast.Tuple([item, ast.Constant(value)])) if value is ...:
            return f"list of {_items(item)}"
        case ast.Subscript(ast.Name("tuple"), ast.Tuple([item, *others])):
            return f"list of {COUNTS[1 + len(others)]} {_items(item)}"
    raise ValueError(f"{ast.unparse(type_)}: add words for this type to {__file__}")


def _items(type_: ast.expr) -> str:
    """Return the words for the items of a list."""
    match type_:
        case ast.Subscript(ast.Name("Literal")):
            return f"one or more of {', '.join(_choices(type_))}"
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([ast.Name(name), *limits])):
            return f"{NOUNS[name]}s, each {_range(limits)}"
    return f"{_words(type_)}s"


def _choices(literal: ast.Subscript) -> list[str]:
    values = literal.slice.elts if isinstance(literal.slice, ast.Tuple) else [literal.slice]
    return [f"`{_toml(ast.unparse(value))}`" for value in values]


def _one_of(choices: list[str]) -> str:
    return " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part)


def _range(limits: list[ast.expr]) -> str:
    """Return the limits of a number in words: "from 1 to 8", or such as "above 0 and below 1"."""
    if _is_closed(limits):
        return "from {} to {}".format(*(_bound(limit) for _, limit in _limits(limits)))
    return " and ".join(LIMITS[name].format(_bound(limit)) for name, limit in _limits(limits))


def _is_closed(limits: list[ast.expr]) -> bool:
    """Return whether both the smallest and the largest value are allowed."""
    return [name for name, _ in _limits(limits)] == ["Ge", "Le"]


def _limits(limits: list[ast.expr]) -> list[tuple[str, ast.expr]]:
    """Return the name and the value of each limit, such as `Ge` and 1 for `Ge(1)`."""
    return [
        (limit.func.id, limit.args[0])
        for limit in limits
        if isinstance(limit, ast.Call) and isinstance(limit.func, ast.Name)
    ]


def _bound(limit: ast.expr) -> str:
    """Return a limit as text: a power such as `2**31` as 2³¹."""
    match limit:
        case ast.BinOp(base, ast.Pow(), exponent):
            return f"{_integer(base)}{str(_integer(exponent)).translate(SUPERSCRIPTS)}"
    return f"{ast.literal_eval(limit):g}"


def _integer(number: ast.expr) -> int:
    return int(ast.literal_eval(number))


def _default(key: griffe.Object) -> str:
    """Return a default in TOML, or "none" if the key has no value by default."""
    text = _written_out(key, str(key.value))
    return "none" if text == "None" else f"`{_toml(text)}`"


def _toml(value: object) -> str:
    """Return a Python expression in TOML: a literal, or a power of integers."""
    expression = ast.parse(str(value), mode="eval").body
    match expression:
        case ast.BinOp(base, ast.Pow(), exponent):
            return str(_integer(base) ** _integer(exponent))
    return json.dumps(ast.literal_eval(expression))


def _docstring(described: griffe.Object) -> str:
    """Return a docstring with one line for each paragraph."""
    text = described.docstring.value if described.docstring else ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _sentence(described: griffe.Object) -> str:
    """Return a docstring for a cell of a table."""
    return cell_text(_docstring(described))
