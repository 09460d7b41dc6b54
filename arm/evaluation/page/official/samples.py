"""Items of each benchmark with verdict and reason, some right and some wrong: images as a grid, questions as a list.

Which ones follows from their uids alone, not from how they look: within a group by the hash of the uid, groups in turn.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.errors import ArmError
from arm.evaluation.page.markup import Markup, Node, details, section, table, tag, words
from arm.evaluation.page.official.reading import Measured, is_number, name_of
from arm.evaluation.page.store import Step

NUM_PICTURES = NUM_QUESTIONS = 8
"""Shown of each benchmark and subject: half of them right where there are as many."""
MAX_PICTURE_BYTES = 120_000
"""A larger file is shown smaller: its longer side has SIDE pixels."""
SIDE = 320
MAX_PAGE_BYTES = 12_000_000
"""Of all pictures together; those that come after it are named, not shown."""
SMALL_BYTES = 6_000
"""A picture of fewer bytes is a tiny one: its pixels are shown as they are."""
MARKS = {"good": "✓", "bad": "✗", "part": "◐"}
MAX_TEXT = 400
"""Characters of a text from outside."""
NOTE = (
    "Chosen by the hash of their names, groups in turn, half right and half wrong where there are as many: not by how they look. "
    "The verdict is the scorer's, with its reasons or the judge's words."
)


@dataclass(slots=True)
class Budget:
    """How many bytes of pictures the page may still hold."""

    left: int = MAX_PAGE_BYTES

    def take(self, data: bytes) -> bool:
        """Whether they fit; then they are spent."""
        fits = len(data) <= self.left
        self.left -= len(data) if fits else 0
        return fits


def render_official_samples(measured: Sequence[Measured]) -> Markup:
    """The section: of each benchmark the last subject, the others folded away; left out where no benchmark has items."""
    budget = Budget()
    names = dict.fromkeys(item.benchmark for item in measured if item.items)
    own = {name: [item for item in measured if item.benchmark == name and item.items] for name in names}
    shown = {name: _benchmark(items[-1], budget) for name, items in own.items()}
    folded = {name: [_benchmark(item, budget) for item in items[:-1]] for name, items in own.items()}
    parts = [
        tag("div", shown[name], details("The same benchmark, other subjects", *folded[name]) if folded[name] else None)
        for name in names
    ]
    return section("Samples", NOTE, *parts)


def choose(items: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """Half good and half not, each from the groups in turn; the good ones first.

    An item is good with at least half of the marks. Where one side has fewer, the other fills up.
    """
    ordered = sorted(items, key=lambda item: _hash(item["uid"]))
    good = _in_turn([item for item in ordered if is_good(item)])
    bad = _in_turn([item for item in ordered if not is_good(item)])
    num_good = min(len(good), max(number // 2, number - len(bad)))
    return good[:num_good] + bad[: number - num_good]


def is_good(item: Mapping[str, Any]) -> bool:
    """Strictly right, or with at least half of the marks."""
    return item["outcome"] == "ok" and bool(item["strict"] or item["score"] >= 0.5)


def verdict_of(item: Mapping[str, Any], *, graded: bool) -> tuple[str, str]:
    """(class, word): right, wrong, failed, or how much of the marks."""
    if item["outcome"] != "ok":
        return "bad", str(item["outcome"])
    if item["strict"] or item["score"] >= 1:
        return "good", "right"
    if graded and item["score"] > 0:
        return "part", f"{100 * item['score']:.0f}% of the marks"
    return "bad", "wrong"


def _benchmark(measured: Measured, budget: Budget) -> Markup:
    pictures = [item for item in measured.items if measured.picture_of(item)]
    chosen = choose(pictures or measured.items, NUM_PICTURES if pictures else NUM_QUESTIONS)
    shown = _grid(measured, chosen, budget) if pictures else _questions(measured, chosen)
    which = f" {name_of(measured.subject, measured.step)}, {len(chosen)} of {len(measured.items):,} items"
    return tag("div", tag("h3", measured.target.title, tag("small", which)), shown)


def _grid(measured: Measured, chosen: Sequence[Mapping[str, Any]], budget: Budget) -> Markup:
    figures = []
    for item in chosen:
        prompt = clip(measured.prompt_of(item)) or str(item["uid"])
        picture = _picture(measured.step, measured.picture_of(item), prompt, budget)
        group = tag("small", words(str(item["group"])))
        caption = tag("figcaption", _verdict(measured, item), group, prompt, *_reasons(measured, item))
        figures.append(tag("figure", picture, caption))
    return tag("div", *figures, class_="grid")


def _picture(step: Step, path: str, prompt: str, budget: Budget) -> Markup:
    found = shrunk(step, path)
    if found is None or not budget.take(found[1]):
        why = "cannot be read" if found is None else "not shown: the page is full"
        return tag("div", why, class_="none", title=path)
    kind, data = found
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return tag("img", src=address, alt=prompt, class_="small" if len(data) < SMALL_BYTES else None)


def shrunk(step: Step, path: str) -> tuple[str, bytes] | None:
    """(png, the file as it is), or (jpeg, the image with a longer side of SIDE pixels) of a large one; None when damaged."""
    import PIL.Image

    try:
        data = step.manifest.local(path).read_bytes()
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if len(data) <= MAX_PICTURE_BYTES:
                return "png", data
            smaller = image.convert("RGB")
        smaller.thumbnail((SIDE, SIDE))
        written = io.BytesIO()
        smaller.save(written, "JPEG", quality=88)
    except (ArmError, OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None
    return "jpeg", written.getvalue()


def _questions(measured: Measured, chosen: Sequence[Mapping[str, Any]]) -> Markup:
    rows: list[list[Node]] = []
    for item in chosen:
        row = measured.asked.get(str(item["uid"]), {})
        prompt = clip(measured.prompt_of(item)) or str(item["uid"])
        said = row.get("prediction", item.get("answer"))
        rows.append([
            tag("span", prompt, tag("small", words(str(item["group"])))), clip(wanted_of(item, row)), clip("–" if said is None else str(said)),
            tag("td", _verdict(measured, item)), tag("td", *_reasons(measured, item)),
        ])  # fmt: skip
    return table(("Question", "Right answer", "Model", "", "Why"), rows, class_="asked")


def wanted_of(item: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The right answer of a question, a letter with the option that it stands for.

    {"wanted": "B"}, {"A": "a cat", "B": "a dog"}  ->  B. a dog
    """
    from arm.evaluation.production.questions import options_of

    wanted = str(item.get("wanted", ""))
    option = options_of(row).get(wanted)
    return f"{wanted}. {option}" if option else wanted


def clip(text: str) -> str:
    """At most MAX_TEXT characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…"


def _verdict(measured: Measured, item: Mapping[str, Any]) -> Markup:
    class_, word = verdict_of(item, graded=measured.target.graded)
    return tag("span", f"{MARKS[class_]} {word}", class_=f"word {class_}")


def _reasons(measured: Measured, item: Mapping[str, Any]) -> Iterator[Markup]:
    """The scorer's reasons, the marks behind a score, what the judge wrote."""
    texts = [str(reason) for reason in _listed(item.get("reasons"))]
    numbers = item.get("numbers")
    if measured.replies and isinstance(numbers, dict):
        texts.append(", ".join(f"{words(name)} {value:.3g}" for name, value in numbers.items() if is_number(value)))
    texts += [
        str(reply.get("text", ""))
        for reply in measured.replies.get(str(item["uid"]), {}).values()
        if isinstance(reply, dict)
    ]
    texts += [str(flag) for flag in _listed(item.get("flags"))]
    yield from (tag("small", clip(text)) for text in texts if text)


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _in_turn(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first of each group, then the second of each: a1 a2 b1 -> a1 b1 a2."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        groups.setdefault(str(item["group"]), []).append(item)
    ranked = [(rank, name, item) for name, members in groups.items() for rank, item in enumerate(members)]
    return [item for _, _, item in sorted(ranked, key=lambda found: found[:2])]


def _hash(uid: Any) -> str:
    return hashlib.sha256(str(uid).encode()).hexdigest()
