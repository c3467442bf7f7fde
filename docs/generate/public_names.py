"""Check of the page about the Python API: it shows all public names, and each of them has a docstring."""

import re
from collections.abc import Iterator

import griffe

DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def undocumented(page: str, search_paths: list[str]) -> list[str]:
    """Return one line for each exported name that is not on the page, and for each name that has no docstring.

    Arguments:
        page: text of the page, in Markdown.
        search_paths: folders that contain the packages.
    """
    loader = griffe.GriffeLoader(search_paths=search_paths)
    for package in ("caflow_runtime", "caflow_training", "caflow_deploy"):
        loader.load(package)
    loader.resolve_aliases()
    paths = DIRECTIVE.findall(page)
    missing = [f"{path} is exported but not on the page" for path in _exported(loader) if path not in paths]
    for path in paths:
        missing += [f"{name} has no docstring" for name in _without_docstring(loader.modules_collection[path])]
    return missing


def _exported(loader: griffe.GriffeLoader) -> list[str]:
    """Return the names that `caflow_deploy` exports."""
    package = loader.modules_collection["caflow_deploy"]
    return [f"caflow_deploy.{name}" for name in sorted(str(name).strip("'\"") for name in package.exports or ())]


def _without_docstring(shown: griffe.Object | griffe.Alias) -> Iterator[str]:
    if not shown.has_docstring:
        yield shown.path
    if shown.is_class:
        for name, member in shown.members.items():
            if not name.startswith("_") and not member.is_alias and _is_described(member):
                yield from _without_docstring(member)


def _is_described(member: griffe.Object | griffe.Alias) -> bool:
    """Return whether a member requires a docstring.

    Functions, classes and properties do. The name and type of a field may say enough, such as `seed: int`.
    """
    return bool(member.is_function or member.is_class or "property" in member.labels)
