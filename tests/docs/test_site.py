"""The documentation site in a real browser, from a folder and from a server: no errors, dead links or lost tables."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from documentation import ROOT
from ports import serving_files
from visit import Visit, chromium

pytestmark = pytest.mark.full
SHOWN = """() => ({
    links: [...document.links].map(link => link.href),
    anchors: [...document.querySelectorAll("[id]")].map(element => element.id),
    missing_images: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
    bullets: document.querySelectorAll("article li").length,
    rows: document.querySelectorAll("article tr").length,
})"""


@pytest.fixture(scope="module")
def site() -> Path:
    """Build the site, and return its folder."""
    subprocess.run(["make", "docs"], cwd=ROOT, check=True, capture_output=True)
    return ROOT / "build" / "docs-site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module", params=["file", "http"])
def pages(request: pytest.FixtureRequest, site: Path, browser: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """Visit all pages of the site, in its folder or on a server, where it lies in a folder; by address."""
    with serving_files(site.parent) as server:
        root = site.as_uri() if request.param == "file" else f"{server}/{site.name}"
        visited = {}
        for path in sorted(site.rglob("*.html")):
            visit = Visit(browser, f"{root}/{path.relative_to(site)}")
            shown = visit.page.evaluate(SHOWN)
            visit.page.close()
            visited[visit.address] = shown | {"wrong": visit.wrong, "requested": visit.requested}
        yield visited


def test_links_and_images_resolve(pages: dict[str, dict[str, Any]]) -> None:
    anchors = {address: set(shown["anchors"]) for address, shown in pages.items()}
    faults = []
    for address, shown in pages.items():
        faults += [f"{address}: {wrong}" for wrong in (*shown["wrong"], *shown["missing_images"])]
        faults += [f"{address}: {link}" for link in set(shown["links"]) if is_dead(link, anchors)]
    assert not faults, "\n".join(faults)


def test_pages_load_nothing_from_another_machine(pages: dict[str, dict[str, Any]]) -> None:
    here = ("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")
    requested = [one for shown in pages.values() for one in shown["requested"]]
    assert [one for one in requested if not one.startswith(here)] == []


def test_lists_and_tables_are_not_shown_as_paragraphs(pages: dict[str, dict[str, Any]]) -> None:
    """Without an empty line before it, Markdown would show a list or a table as text."""
    for address, shown in pages.items():
        markdown = (ROOT / "build" / "docs-source" / address.partition("docs-site/")[2]).with_suffix(".md").read_text()
        outside = markdown.split("```")[::2]  # not in blocks of code
        lines = [line.lstrip() for part in outside for line in part.splitlines()]
        assert shown["bullets"] >= sum(line.startswith(("- ", "* ", "1. ")) for line in lines), address
        assert shown["rows"] >= sum(line.startswith("| ") and "| --" not in line for line in lines), address


def is_dead(link: str, anchors: dict[str, set[str]]) -> bool:
    """Return whether a link leads to nothing, or to a folder, which only servers open. Other sites are not visited.

    Arguments:
        anchors: the anchors in each page of the site, by the page's address.
    """
    address, _, anchor = link.partition("#")
    if link.startswith("https://"):
        return False
    if address in anchors:
        return anchor != "" and unquote(anchor) not in anchors[address]
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return str(answer.headers.get_content_type()) == "text/html"
    except urllib.error.URLError:
        return True
