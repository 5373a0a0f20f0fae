"""Opens every page of a built site in Chromium, follows its links, and says what is wrong.

python tests/support/site_check.py docs/_build/html
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from browser import Visit, chromium

WIDTHS = (360, 700, 1100, 1600)
"""Pixels, from a telephone to a wide screen."""
NOT_OPENED = ("_modules", "_static", "_sources", "genindex.html", "py-modindex.html")
"""Pages of source code, which are only linked to."""

CUT_OFF = """
() => [...document.querySelectorAll("pre")]
  .filter(code => code.scrollWidth > code.clientWidth + 1 && code.clientWidth > 0)
  .map(code => code.textContent.slice(0, 40))
"""
OUT_OF_REACH = """
() => [...document.querySelectorAll(
  "a[href], button, summary, input, select, .mechmem-scroll"
)].filter(node => node.checkVisibility() && node.tabIndex < 0).map(node => node.outerHTML.slice(0, 80))
"""
WITHOUT_NAME = """
() => [...document.querySelectorAll("img:not([alt]), [role=img]:not([aria-label]), svg[role=img]:not([aria-label])")]
  .map(node => node.outerHTML.slice(0, 80))
"""
NOT_DRAWN = """
() => [...document.querySelectorAll(".mechmem-plot")]
  .filter(place => !place.querySelector(".main-svg") || place.clientHeight < 50).map(place => place.ariaLabel)
"""


class Page(HTMLParser):
    """The links of a page, and the places that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.places = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places.update(filter(None, (given.get("id"), given.get("name") if tag == "a" else None)))
        self.links += [given[key] for key in ("href", "src") if given.get(key)]


def broken_links(site: Path) -> Iterator[str]:
    """Yield every link to a file or a place that is not there."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            here = path.relative_to(site.resolve())
            if not target.exists():
                yield f"{here}: there is no {link}"
            elif here.parts[0] == "_modules":
                continue  # these lead back by the module's name, where the reference has the public one
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{here}: {link} leads to no place on that page"


def wrong_on(visit: Visit, path: Path, site: Path) -> Iterator[str]:
    """Yield what is wrong with a page as it is shown."""
    here = path.relative_to(site)
    visit.errors.clear()
    visit.requests.clear()
    page = visit.open(path)
    yield from (f"{here}: not drawn: {label}" for label in page.evaluate(NOT_DRAWN))
    yield from (f"{here}: no key reaches {node}" for node in page.evaluate(OUT_OF_REACH))
    yield from (f"{here}: nothing stands for {node}" for node in page.evaluate(WITHOUT_NAME))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(50)
        if visit.sideways() > 0:
            yield f"{here}: {visit.sideways():.0f} pixels wider than a window of {width}"
        yield from (f"{here}: code is cut off at {width} pixels: {code!r}" for code in page.evaluate(CUT_OFF))
    yield from (f"{here}: {error}" for error in visit.errors)
    yield from (f"{here}: asks for {address}" for address in visit.requests)


def wrong_with(site: Path) -> Iterator[str]:
    """Yield what is wrong with a site."""
    yield from broken_links(site)
    pages = [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] not in NOT_OPENED]
    for scheme in ("light", "dark"):
        with chromium(color_scheme=scheme) as visit:
            for path in pages if scheme == "light" else [site / "index.html"]:
                yield from wrong_on(visit, path, site)


if __name__ == "__main__":
    found = list(wrong_with(Path(sys.argv[1])))
    print("\n".join(found) or "nothing is wrong with the site")
    sys.exit(bool(found))
