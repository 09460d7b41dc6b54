"""Reads a report page as a browser would, strictly."""

from html.parser import HTMLParser
from pathlib import Path

from arm.evaluation.page.markup import VOID


class Reader(HTMLParser):
    """Collects the elements and addresses of a page, and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        found = dict(attributes)
        self.addresses += [found[key] or "" for key in ("src", "href") if key in found]
        self.ids += [found["id"] or ""] if "id" in found else []
        assert not [key for key in found if key.startswith("on")]
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(name, attributes)
        if name not in VOID:
            self.open.pop()

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    """The elements and texts of a page; every element is closed."""
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


def section_of(page: str, name: str) -> str:
    """What stands in a section of the page."""
    return page.partition(f'id="{name}"')[2].partition("</section>")[0]
