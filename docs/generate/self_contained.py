"""Check that no page of the built site loads anything from another machine. `make docs` fails if a page does.

Usage: python docs/generate/self_contained.py SITE
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {**dict.fromkeys(("audio", "embed", "iframe", "img", "script", "video"), "src"), "link": "href"}
"""Elements that load an address, and the attribute with the address. Hyperlinks load nothing until they are clicked."""
NOT_LOADED = {"canonical", "next", "prev"}
"""Relations in `link` elements that browsers do not load."""
IN_STYLES = re.compile(r"(?:url\(|@import\s+)['\"]?((?:https?:)?//[^'\")\s]+)")


class Loads(HTMLParser):
    """Collects the addresses that a page loads from other machines."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Store the address of the element if it is loaded from another machine."""
        values = dict(attrs)
        address = values.get(LOADED.get(tag, "")) or ""
        if address.startswith(("http:", "https:", "//")) and values.get("rel") not in NOT_LOADED:
            self.addresses.append(address)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Return one line for each address that a page or a style sheet of the site loads from another machine."""
    lines = []
    for file in sorted(site.rglob("*.html")):
        page = Loads()
        page.feed(file.read_text(encoding="utf-8"))
        lines += [f"{file.relative_to(site)} loads {address}" for address in page.addresses]
    for file in sorted(site.rglob("*.css")):
        found = IN_STYLES.findall(file.read_text(encoding="utf-8"))
        lines += [f"{file.relative_to(site)} loads {address}" for address in found]
    return lines


if __name__ == "__main__":
    wrong = loaded_from_elsewhere(Path(sys.argv[1]))
    if wrong:
        sys.exit("\n".join(wrong))
