"""What is to be taken down, as it was asked for: values, or files with one value a line.

--url http://A.test:80/1.png#x     ->  {"url": {"http://a.test/1.png"}}
--domain sites.txt                 ->  {"domain": {"bad.test", "worse.test"}}      # a comment, an empty line
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from arm.data.normalisation import canonical_url
from arm.errors import UserError
from arm.tombstones import KINDS

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_FILE_NAME = re.compile(r".*\.(?:txt|csv|tsv|list|json|jsonl)", re.IGNORECASE)


def read_entries(asked: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """The values of each kind, in one spelling; the first that is none is a UserError, and nothing is taken down."""
    found = {
        kind: frozenset(
            _checked(kind, value, where) for word in asked.get(kind) or () for value, where in _values(kind, word)
        )
        for kind in KINDS
    }
    if not any(found.values()):
        flags = ", ".join(f"--{kind}" for kind in KINDS)
        raise UserError(f"Nothing is named to be taken down; give {flags} a value, or a file with one a line.")
    return found


def _values(kind: str, word: str) -> Iterator[tuple[str, str]]:
    """(value, where it stands) for each value of a word, which may name a file."""
    path = Path(word)
    if not path.is_file():
        if _FILE_NAME.fullmatch(word) and canonical_url(word) is None:
            raise UserError(f"There is no file {word!r} for --{kind}.")
        yield word.strip(), f"--{kind}"
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{word} cannot be read as lines of text ({error}).") from None
    values = [(line.strip(), number) for number, line in enumerate(lines, 1)]
    values = [(value, number) for value, number in values if value and not value.startswith("#")]
    if not values:
        raise UserError(f"{word} names nothing to take down; write one {kind} a line.")
    yield from ((value, f"line {number} of {word}") for value, number in values)


def _checked(kind: str, value: str, where: str) -> str:
    found = _SPELLINGS[kind](value)
    if found is None:
        raise UserError(f"{where[:1].upper()}{where[1:]} is {value[:200]!r}, {_WANTED[kind]}; nothing was taken down.")
    return found


def _domain(value: str) -> str | None:
    name = value.strip().rstrip(".").lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return None
    return name if _HOST.fullmatch(name) and len(name) <= 253 else None


def _hexadecimal(digits: int) -> Callable[[str], str | None]:
    pattern = re.compile(rf"[0-9a-f]{{{digits}}}")
    return lambda value: value.lower() if pattern.fullmatch(value.lower()) else None


_SPELLINGS: dict[str, Callable[[str], str | None]] = {
    "domain": _domain,
    "sha256": _hexadecimal(64),
    "uid": _hexadecimal(32),
    "url": canonical_url,
}
_WANTED = {
    "domain": "which is no host name: give it as in images.example.org, without http:// and path",
    "sha256": "which is no sha256: give its 64 hexadecimal digits",
    "uid": "which is no uid of a sample: give its 32 hexadecimal digits",
    "url": "which is no address: give it as in https://example.org/a.png",
}
