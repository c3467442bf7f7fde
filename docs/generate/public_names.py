"""Check of the page about the Python API: it must show all public names, and all that it shows has a docstring."""

import re
from collections.abc import Iterator
from typing import TypeAlias

import griffe

DIRECTIVE = re.compile(r"^::: (?P<path>[\w.]+)$(\n    options:\n      members:\s+\[(?P<members>.*)\]$)?", re.MULTILINE)
"""Line of the page that shows a name, with the members that are shown if these are listed."""
PACKAGES = ("caflow_runtime", "caflow_training", "caflow_deploy")

Shown: TypeAlias = griffe.Object | griffe.Alias


def undocumented(page: str, search_paths: list[str]) -> list[str]:
    """Return one line for each exported name that is not on the page, and for each name without a docstring.

    Arguments:
        page: text of the page, in Markdown.
        search_paths: folders that contain the packages.
    """
    loader = griffe.GriffeLoader(search_paths=search_paths)
    for package in PACKAGES:
        loader.load(package)
    loader.resolve_aliases()
    chosen = {
        found["path"]: None if found["members"] is None else re.findall(r"\w+", found["members"])
        for found in DIRECTIVE.finditer(page)
    }
    exported = loader.modules_collection["caflow_deploy"].exports or ()
    paths = sorted("caflow_deploy." + str(name).strip("'\"") for name in exported)
    missing = [f"{path} is exported but not on the page" for path in paths if path not in chosen]
    shown = [one for path, members in chosen.items() for one in _shown(loader.modules_collection[path], members)]
    undescribed = [one for one in shown if not one.has_docstring and (one.path in chosen or _is_described(one))]
    return missing + [f"{one.path} has no docstring" for one in undescribed]


def _shown(one: Shown, members: list[str] | None = None) -> Iterator[Shown]:
    """Yield an object and its public members.

    Arguments:
        members: names of the members that the page shows; None for all public members.
    """
    yield one
    if one.is_class:
        target = one.final_target if isinstance(one, griffe.Alias) else one
        for name, member in target.members.items():
            is_shown = not name.startswith("_") if members is None else name in members
            if is_shown and not member.is_alias:
                yield from _shown(member)


def _is_described(one: Shown) -> bool:
    """Return whether a member of a class requires a docstring: all except attributes without a type."""
    return bool(not one.is_attribute or one.annotation is not None or "property" in one.labels)
