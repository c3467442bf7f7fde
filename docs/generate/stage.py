"""Copy the pages of the site to one folder, and insert the generated parts. `make docs` builds the site from the copy.

Usage: python docs/generate/stage.py FOLDER
"""

import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from c_header import c_reference
from command_line import command_line
from figures import outdated
from option_names import option_names
from public_names import undocumented
from recipe_keys import recipe_keys

from caflow_runtime.bundle import builtin

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "benchmarks/README.md": "benchmarks.md",
    **{f"models/{name}/README.md": f"{name}.md" for name in builtin.names()},
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages outside docs/, and their names on the site."""
NOT_PAGES = ("generate", "mkdocs.yml")
SEARCH_PATHS = [str(ROOT / "runtime"), str(ROOT / "training"), str(ROOT)]
GENERATED: dict[str, Callable[[], str]] = {
    "command_line": command_line,
    "recipe_keys": partial(recipe_keys, SEARCH_PATHS),
    "option_names": partial(option_names, ROOT / "runtime" / "cpp" / "include" / "caflow" / "caflow.h"),
    "c_reference": partial(c_reference, ROOT / "runtime" / "cpp" / "include" / "caflow" / "caflow.h"),
}
"""Function that returns the Markdown to insert between `<!-- generated: NAME -->` and `<!-- end -->`, by name."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"<!-- generated: (\w+) -->.*?<!-- end -->", re.DOTALL)


def stage(folder: Path) -> list[str]:
    """Write all pages and pictures to `folder`, which is replaced. Return one line for each problem of a page."""
    names = staged_names()
    wrong = outdated(ROOT)
    wrong += undocumented((DOCS / "reference" / "python.md").read_text(encoding="utf-8"), SEARCH_PATHS)
    shutil.rmtree(folder, ignore_errors=True)
    for source, name in names.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = PLACE.sub(lambda place: GENERATED[place[1]](), source.read_text(encoding="utf-8"))
            target.write_text(with_links_on_the_site(text, source, name, names, wrong), encoding="utf-8")
        else:
            shutil.copy(source, target)
    return wrong


def staged_names() -> dict[Path, str]:
    """Return all source files of the site, each with its path on the site."""
    names = {ROOT / source: name for source, name in ELSEWHERE.items()}
    for file in sorted(DOCS.rglob("*")):
        if file.is_file() and file.relative_to(DOCS).parts[0] not in NOT_PAGES:
            names[file] = str(file.relative_to(DOCS))
    return names


def with_links_on_the_site(text: str, source: Path, name: str, names: dict[Path, str], wrong: list[str]) -> str:
    """Return the text of a page, with links that are relative to the page's place on the site.

    In pages of docs/, a link to a file that is not on the site is an error, which is appended to `wrong`. In other
    pages it is replaced by its text, unless the file does not exist, which is an error in every page.
    """

    def on_the_site(link: re.Match[str]) -> str:
        picture, shown, target = link.groups()
        path, mark, anchor = target.partition("#")
        if "://" in target or not path:
            return link[0]
        file = Path(os.path.normpath(source.parent / path))
        if file in names:
            return f"{picture}[{shown}]({os.path.relpath(names[file], Path(name).parent)}{mark}{anchor})"
        if not file.exists() or source.is_relative_to(DOCS):
            wrong.append(f"{source.relative_to(ROOT)}: [{shown}]({target}) links to a file that is not on the site")
        return shown

    parts = CODE.split(text)
    return "".join(part if k % 2 else LINK.sub(on_the_site, part) for k, part in enumerate(parts))


if __name__ == "__main__":
    if wrong := stage(Path(sys.argv[1])):
        sys.exit("\n".join(["make docs: the pages cannot be built:", *wrong]))
