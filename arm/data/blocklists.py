"""Blocklists as the University of Toulouse publishes them: a folder a category, domains and addresses line by line.

    adult/domains       garden.test                 that host and every host below it
    adult/urls          shop.test/gallery/17        that address and what lies below it; a leading www. does not count

Lines are kept as sorted 64-bit hashes: 5 million domains are 40 MB that all processes of a machine share, and a lookup that
hits by mistake has a chance of 1 in 10^12. What is no domain at all (a comment, a regular expression) hits nothing.
"""

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from arm.data.config import FilterConfig
from arm.errors import UserError
from arm.outside import fetched, outside_addresses
from arm.storage import Folder

KINDS = ("domains", "urls")
MAX_PARTS = 32
"""Labels of a host and segments of a path that are looked up."""
_PLAIN = re.compile(r"https?://(?:www\.)?([a-z0-9.-]+)(?:/|$)")
"""Nearly every address: its host as it stands."""
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Category:
    """One category, ready for lookups."""

    name: str
    domains: Hashes
    """Sorted hashes of domains."""
    urls: Hashes
    """Sorted hashes of addresses without scheme."""
    url_hosts: Hashes
    """Sorted hashes of the hosts of `urls`: whoever is not among them needs no second look."""


def compile_blocklists(config: FilterConfig, staging: Folder) -> dict[str, int]:
    """Hash the wanted categories into `staging`, once; return how many entries each holds."""
    counts = {}
    for category, path in zip(config.blocklist_categories, config.outside_paths(), strict=True):
        found = {kind: _addresses_of(kind, outside_addresses(path)) for kind in KINDS}
        if not any(found.values()):
            raise UserError(f"FilterConfig.blocklists: {path} holds neither `domains` nor `urls`, plain or as .gz.")
        if not staging.exists(f"{category}/url_hosts.npy"):
            _save(staging, f"{category}/domains.npy", _hashes(map(_domain, _lines(found["domains"]))))
            _save(staging, f"{category}/urls.npy", _hashes(map(_address, _lines(found["urls"]))))
            _save(
                staging, f"{category}/url_hosts.npy", _hashes(_host(_address(line)) for line in _lines(found["urls"]))
            )
        loaded = _load(staging, category)
        counts[f"blocklist/{category}"] = len(loaded.domains) + len(loaded.urls)
    return counts


def load_blocklists(config: FilterConfig, staging: Folder) -> list[Category]:
    """What `compile_blocklists` made, mapped into memory, in the config's order."""
    return [_load(staging, category) for category in config.blocklist_categories]


def blocked(categories: Sequence[Category], *columns: Sequence[str | None]) -> list[str]:
    """For each row the first category that holds one of its addresses, or an empty string."""
    names = [""] * len(columns[0])
    for category in categories:
        for addresses in columns:
            for row in np.flatnonzero(_held(category, addresses)).tolist():
                names[row] = names[row] or category.name
    return names


def _held(category: Category, addresses: Sequence[str | None]) -> NDArray[np.bool_]:
    """Which addresses the category holds; each host is looked up once."""
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(_host_of(url or ""), len(numbers)) for url in addresses], np.int64)
    held: NDArray[np.bool_] = _any_in([list(_suffixes(host)) for host in numbers], category.domains)[places]
    rows = np.flatnonzero(_any_in([[host] for host in numbers], category.url_hosts)[places] & ~held).tolist()
    if rows:
        held[rows] = _any_in([list(_prefixes(_address(addresses[row] or ""))) for row in rows], category.urls)
    return held


def _any_in(groups: Sequence[Sequence[str]], known: Hashes) -> NDArray[np.bool_]:
    """For each group of texts whether one of them is known."""
    found = np.zeros(len(groups), np.bool_)
    if len(known):
        wanted = _hash_all(text for group in groups for text in group)
        places = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        found[owners[known[places] == wanted]] = True
    return found


def _suffixes(host: str) -> Iterator[str]:
    """`a.b.test` -> a.b.test, b.test, test."""
    labels = host.split(".")[-MAX_PARTS:]
    return (".".join(labels[start:]) for start in range(len(labels)))


def _prefixes(address: str) -> Iterator[str]:
    """`a.test/b/c?d` -> a.test, a.test/b, a.test/b/c, a.test/b/c?d."""
    yield address
    segments = address.partition("?")[0].split("/")[:MAX_PARTS]
    yield from ("/".join(segments[: end + 1]) for end in range(len(segments)))


def _address(url: str) -> str:
    """Host, path and query, without scheme, user, port, `www.` and a last slash."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path.rstrip('/')}{query}"


def _host_of(url: str) -> str:
    plain = _PLAIN.match(url)
    return plain[1] if plain else _host(_address(url))


def _host(address: str) -> str:
    return address.partition("/")[0].partition("?")[0]


def _domain(line: str) -> str:
    """A line of a list of domains as hosts are spelled."""
    name = line.lower().removeprefix("*").strip(".").removeprefix("www.")
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return ""


def _addresses_of(kind: str, addresses: dict[str, str]) -> list[str]:
    return [address for name, address in addresses.items() if name in (kind, f"{kind}.gz")]


def _lines(addresses: Iterable[str]) -> Iterator[str]:
    """Entries of the files, comments and blank lines left out."""
    for address in addresses:
        path = fetched(address)
        opened = gzip.open if address.endswith(".gz") else open
        try:
            with opened(path, "rt", encoding="utf-8", errors="replace") as stream:
                yield from (line for line in map(str.strip, stream) if line and line[0] != "#")
        except (OSError, EOFError) as error:
            raise UserError(f"The blocklist {address} cannot be read ({error}); fetch it again.") from None


def _hashes(texts: Iterable[str]) -> Hashes:
    return np.unique(_hash_all(text for text in texts if text))


def _hash_all(texts: Iterable[str]) -> Hashes:
    """The first 8 bytes of each text's BLAKE2."""
    digests = (hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64)


def _save(staging: Folder, name: str, hashes: Hashes) -> None:
    with staging.publish(name) as path, path.open("wb") as stream:
        np.save(stream, hashes)


def _load(staging: Folder, category: str) -> Category:
    parts = (
        np.load(staging.fetch(f"{category}/{name}.npy"), mmap_mode="r") for name in ("domains", "urls", "url_hosts")
    )
    return Category(category, *parts)
