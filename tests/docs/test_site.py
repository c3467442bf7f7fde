"""The documentation site as readers see it, in a real browser: wide and narrow, from a folder and from a server."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from documentation import ROOT
from ports import serving_files
from rendered_pages import Shown, lost, parse_page, show_page
from visit import Visit, chromium

SOURCE = ROOT / "build" / "docs-source"
WIDTHS = (1300, 420)
pytestmark = pytest.mark.full


@dataclass
class VisitedPage:
    """A page of the site, what it shows at each width in pixels, and the errors and the requests of the browser."""

    name: str
    address: str
    shown: dict[int, Shown]
    wrong: list[str]
    requested: list[str]


@pytest.fixture(scope="module")
def site() -> Path:
    """Build the site, and return its folder."""
    subprocess.run(["make", "docs"], cwd=ROOT, check=True, capture_output=True)
    return ROOT / "build" / "docs-site"


@pytest.fixture(scope="module", params=["file", "http"])
def pages(request: pytest.FixtureRequest, site: Path) -> Iterator[list[VisitedPage]]:
    """Visit all pages of the site, in its folder or on a server, where it lies in a folder."""
    with serving_files(site.parent) as server, chromium() as browser:
        root = site.as_uri() if request.param == "file" else f"{server}/{site.name}"
        visited = []
        for path in sorted(site.rglob("*.html")):
            visit = Visit(browser, f"{root}/{path.relative_to(site)}")
            shown = {}
            for width in WIDTHS:
                visit.page.set_viewport_size({"width": width, "height": 1000})
                shown[width] = show_page(visit.page)
            visit.page.close()
            visited.append(VisitedPage(str(path.relative_to(site)), visit.address, shown, visit.wrong, visit.requested))
        yield visited


def test_pages_show_all_that_their_markdown_says(pages: list[VisitedPage]) -> None:
    faults = []
    for page in pages:
        markdown = (SOURCE / page.name).with_suffix(".md")
        source = parse_page(markdown.read_text(encoding="utf-8"))
        assert source.lines, page.name
        for width, shown in page.shown.items():
            faults += [f"{page.name} at {width} pixels: {fault}" for fault in lost(source, shown)]
    assert not faults, "\n".join(faults)


def test_pages_load_nothing_from_another_machine(pages: list[VisitedPage]) -> None:
    faults = [
        f"{page.name} loads {address}"
        for page in pages
        for address in page.requested
        if not address.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:"))
    ]
    assert not faults, "\n".join(faults)


def test_nothing_is_wider_than_its_column_unless_it_can_be_scrolled(pages: list[VisitedPage]) -> None:
    faults = [
        f"{page.name} at {width} pixels: {cut}"
        for page in pages
        for width, shown in page.shown.items()
        for cut in shown.cut
    ]
    faults += [f"{page.name}: {wide}" for page in pages for wide in page.shown[WIDTHS[0]].wide_signatures]
    assert not faults, "\n".join(faults)


def test_links_and_images_resolve(pages: list[VisitedPage]) -> None:
    anchors = {page.address: set(page.shown[WIDTHS[0]].anchors) for page in pages}
    faults = []
    for page in pages:
        shown = page.shown[WIDTHS[0]]
        faults += [f"{page.name}: {wrong}" for wrong in (*page.wrong, *shown.missing_images)]
        faults += [f"{page.name}: {link}" for link in set(shown.links) if is_dead(link, anchors)]
    assert not faults, "\n".join(faults)


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
        with urllib.request.urlopen(address) as answer:
            return str(answer.headers.get_content_type()) == "text/html"
    except urllib.error.URLError:
        return True
