"""The keys of recipes, from the source of the classes that check them. PyTorch is not needed for that."""

import griffe

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
"""The field of the model that holds the task's own keys; `task` itself names the task."""


def recipe_keys(search_paths: list[str]) -> str:
    """Markdown: a table of keys for each class, with type, default and meaning.

    Raises:
        ValueError: if one of the classes is not there any more.
    """
    loader = griffe.GriffeLoader(search_paths=search_paths)
    loader.load("caflow_training")
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
        if member.is_attribute and not name.startswith("_") and (name not in NOT_KEYS or titled)
    ]
    rows = [f"| `{key.name}` | {_type(key)} | {_code(key.value)} | {_sentence(key)} |" for key in keys]
    heading = f"### {_task(described)}\n\n{_docstring(described)}" if titled else _docstring(described)
    return "\n".join([heading, "", "| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _task(described: griffe.Object) -> str:
    """The name of a task as recipes write it."""
    return f'`task = {str(described.members["task"].value).replace(chr(39), chr(34))}`'


def _type(key: griffe.Object) -> str:
    return _code(key.annotation)


def _code(value: object) -> str:
    return "" if value is None else f"`{value}`".replace("|", r"\|")


def _docstring(described: griffe.Object) -> str:
    return " ".join(described.docstring.value.split()) if described.docstring else ""


def _sentence(described: griffe.Object) -> str:
    return _docstring(described).replace("|", r"\|").replace("[", r"\[")
