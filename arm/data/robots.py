"""What a site's robots.txt says of an address, by which rule, and what its X-Robots-Tag headers say.

    rules = Rules.parse(text, "arm-platform")
    rules.verdict("http://garden.test/secret/a.png")   ->  "Disallow: /secret"     None where it may be fetched

RFC 9309 by `protego`. A robots.txt is as hostile as the rest: only the groups for us or for everybody reach the parser,
which would keep a copy of every rule for each of 20,000 made-up agents; and no pattern here takes more time than a line has
characters, for 500 KB of blanks are a line.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit

from protego import Protego

NO_AI = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""X-Robots-Tag directives that forbid the use."""
WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
"""X-Robots-Tag directives with a colon of their own; before any other colon stands an agent's name."""
ROBOTS_BYTES = 512_000
"""RFC 9309, 2.5: at least 500 KiB of a robots.txt are read; what stands behind is not."""
MAX_LINE = 2_000
"""Characters of a line without its comment; a longer one is passed over. No address of that length is one of an image."""
MAX_CANDIDATES = 100
"""Rules that are tried for the name of the one that forbids an address: each is parsed anew. Ours."""
MAX_RULES = 200_000
"""Rules of all sites together that one process remembers: some 100 MB, ours."""
RULES_SECONDS, UNREACHABLE_SECONDS = 86_400.0, 300.0
"""RFC 9309, 2.4: a robots.txt is good for a day; one that could not be read is asked for again after five minutes."""
NO_CONNECTION = ("connection", "timeout_connect", "timeout_tls", "tls", "host_")
"""How the reasons start that hold for the whole site."""
END_OF_GROUP = "Disallow:"
"""A rule that forbids nothing, after which an agent's name starts another group."""
_AGENT = re.compile(r"user[- ]?agent\s*:(.*)", re.IGNORECASE)
_RULE = re.compile(r"(?:allow|d[a-z]{0,9}l[a-z]{0,9}w)[\s:]+", re.IGNORECASE)
_WEEKDAY = re.compile(r"(unavailable_after\s*:\s*[a-z]+),")
"""The comma in a date, which parts no directives: `unavailable_after: friday, 25-jun-30 15:00:00 gmt`."""
_WILD = re.compile(r"[*$%]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one site as far as they concern us."""

    parsed: Protego
    num_lines: int
    """How many lines of the file these are."""
    patterns: tuple[tuple[str, str], ...]
    """Of each `Disallow` line how an address that it forbids starts, and the whole; longest first."""
    agent: str
    origin: str
    """`rules`, or why there are none: `http_404`, `redirects`, `unreachable http_503`, `unreachable timeout_headers`."""
    read_at: float
    """When it was asked for, seconds since 1970."""

    @classmethod
    def parse(cls, text: str, agent: str, *, origin: str = "rules", read_at: float = 0.0) -> "Rules":
        """The groups for `agent` and for everybody."""
        kept = list(_for_us(text.splitlines(), agent.lower()))
        disallowed = {_RULE.sub("", line, count=1) for line in kept if line[:1] in ("d", "D")} - {""}
        longest_first = sorted(disallowed, key=lambda pattern: (-len(pattern), pattern))
        return cls(
            parsed=Protego.parse("\n".join(kept)), num_lines=len(kept), agent=agent, origin=origin, read_at=read_at,
            patterns=tuple((_WILD.split(pattern)[0], pattern) for pattern in longest_first),
        )  # fmt: skip

    @property
    def is_unreachable(self) -> bool:
        """Whether the site could not say what it wants: nothing may be fetched then."""
        return self.origin.startswith("unreachable")

    @property
    def refusal(self) -> str:
        """The reason of a URL that may not be fetched: of a site that takes no connection, why it takes none."""
        word = self.origin.partition(" ")[2]
        if word.startswith(NO_CONNECTION):
            return word
        return "robots_unreachable" if self.is_unreachable else "robots"

    def verdict(self, url: str) -> str | None:
        """The rule that forbids the address; None when it may be fetched."""
        if self.is_unreachable:
            return self.origin
        if not self.patterns or self.parsed.can_fetch(url, self.agent):
            return None
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        candidates = (pattern for start, pattern in self.patterns if path.startswith(start))
        forbidding = (f"Disallow: {found}" for found in islice(candidates, MAX_CANDIDATES) if _forbids(found, url))
        return next(forbidding, "Disallow")


class RulesCache:
    """The rules of the sites asked last, as many as the process can hold."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Rules] = OrderedDict()
        self._num_rules, self._lock = 0, threading.Lock()

    def get(self, site: str, now: float) -> Rules | None:
        """The rules of a site, if they are known and not too old at `now`."""
        with self._lock:
            rules = self._known.get(site)
            if rules is None or now - rules.read_at > (UNREACHABLE_SECONDS if rules.is_unreachable else RULES_SECONDS):
                return None
            self._known.move_to_end(site)
            return rules

    def put(self, site: str, rules: Rules) -> None:
        """Remember the rules of a site."""
        with self._lock:
            if site in self._known:
                self._num_rules -= _weight(self._known.pop(site))
            self._known[site] = rules
            self._num_rules += _weight(rules)
            while self._num_rules > MAX_RULES and len(self._known) > 1:
                self._num_rules -= _weight(self._known.popitem(last=False)[1])


def product(user_agent: str) -> str:
    """The product token, `arm-platform` of `arm-platform/0.1 (...)`: what robots.txt names."""
    return user_agent.split("/")[0].split(" ")[0]


def forbidding_tag(values: Iterable[str], user_agent: str) -> str | None:
    """The X-Robots-Tag header that forbids us the image: `noai`, or `arm-platform: noai`; others' rules do not count."""
    ours = (product(user_agent).lower(), "*")
    for value in values:
        applies = True
        for directive in _WEEKDAY.sub(r"\1 ", value.lower()).split(","):
            name, colon, rest = (word.strip() for word in directive.partition(":"))
            if name in WITH_VALUE:
                continue
            if colon:
                applies, name = name in ours, rest
            if applies and name in NO_AI:
                return value.strip()
    return None


def _for_us(lines: Iterable[str], agent: str) -> Iterable[str]:
    """The lines without comments, other agents' names and the rules under them."""
    ours, in_names = False, False
    for line in lines:
        line = line.partition("#")[0].strip()
        named = _AGENT.fullmatch(line) if len(line) <= MAX_LINE else None
        if named is None:
            if ours and len(line) <= MAX_LINE and _RULE.match(line):
                yield line
            in_names = in_names and not line
            continue
        name = named[1].strip()
        wanted = name.lower() in ("*", agent)
        if wanted:
            yield "" if in_names else END_OF_GROUP
            yield f"User-agent: {name}"
        ours, in_names = (ours or wanted if in_names else wanted), True


def _forbids(pattern: str, url: str) -> bool:
    return not Protego.parse(f"User-agent: *\nDisallow: {pattern}").can_fetch(url, "a")


def _weight(rules: Rules) -> int:
    return 10 + 2 * rules.num_lines
