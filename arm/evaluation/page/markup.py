"""HTML that cannot be broken by its content: every string is escaped unless it was built here.

    tag("td", "a <b> c", class_="number")  ->  <td class="number">a &lt;b&gt; c</td>

Captions, prompts and addresses come from the open web: they are hostile, and may only ever appear as text.
"""

import html
from collections.abc import Iterable, Sequence

VOID = frozenset({"meta", "img", "path", "line", "rect", "circle", "polyline", "br"})


class Markup(str):
    """A string of HTML that was built by `tag` or `join`, and is safe as it stands."""

    __slots__ = ()


Node = str | int | float | None
"""What may stand inside an element; a plain string is escaped, None is left out."""


def tag(name: str, /, *children: Node, **attributes: str | float | None) -> Markup:
    """An element. `class_` stands for `class`, and underscores inside names for hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(nodes: Iterable[Node]) -> Markup:
    """Nodes one after the other."""
    return Markup("".join(node if isinstance(node, Markup) else html.escape(_text(node)) for node in nodes))


def table(head: Sequence[Node], rows: Iterable[Sequence[Node]], class_: str = "") -> Markup:
    """A table that scrolls sideways on narrow screens; a first column of row names."""
    header = tag("thead", tag("tr", *(tag("th", cell) for cell in head)))
    body = tag("tbody", *(_row(row) for row in rows))
    return tag("div", tag("table", header, body, class_=class_ or None), class_="scroll")


def section(title: str, note: Node, *children: Node) -> Markup:
    """A titled part of the page; left out when it has no content."""
    content = [child for child in children if child]
    if not content:
        return Markup("")
    name = title.lower().replace(" ", "-")
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *content, id=name)


def details(summary: str, *children: Node) -> Markup:
    """Content that is folded away."""
    return tag("details", tag("summary", summary), *children)


def count(value: float) -> str:
    """1234567 -> '1,234,567'."""
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Three significant digits, without a needless exponent: 0.1234 -> '0.123', 18.04 -> '18.0', 1234.5 -> '1,234'."""
    if value == 0 or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.001 or abs(value) >= 1e9 else f"{value:.{_decimals(value)}f}"


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(num_bytes: float) -> str:
    """12 B, 3.4 kB, 5.6 MB, 7.8 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def words(name: str) -> str:
    """text_to_image -> 'text to image'."""
    return name.replace("_", " ").replace("-", " ")


def _row(cells: Sequence[Node]) -> Markup:
    first, *rest = cells
    return tag("tr", tag("th", first, scope="row"), *(cell if _is_cell(cell) else tag("td", cell) for cell in rest))


def _is_cell(node: Node) -> bool:
    return isinstance(node, Markup) and node.startswith("<td")


def _decimals(value: float) -> int:
    return 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0


def _text(node: Node) -> str:
    return "" if node is None else str(node)
