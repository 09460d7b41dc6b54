"""Fetching images from strangers: only public hosts, only politely, never more than was agreed, never an exception.

    guard = Guard(policy)
    guard.fetch("http://garden.test/a.png")  ->  Fetched(body=b"...", reason="", status=200)
    guard.fetch("http://127.0.0.1/a.png")    ->  Fetched(body=None, reason="private_address", status=None)

http and https; each hop's host resolved, all its addresses checked, a checked one connected to; at most three redirects;
byte cap, total deadline, pixel cap from the header; robots.txt and X-Robots-Tag; a rate and a circuit breaker per host;
a budget of memory over all threads. What was decided on the sites' wishes stands in `guard.log`.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from arm.data.addresses import PublicResolver, Refused, Resolver, system_resolver
from arm.data.budget import Budget, Lease
from arm.data.connection import Answer, Connections, Request
from arm.data.hosts import Hosts
from arm.data.images import BadImageError, plain_image
from arm.data.normalisation import DEFAULT_PORTS, canonical_url
from arm.data.robots import ROBOTS_BYTES, Rules, RulesCache, forbidding_tag, product
from arm.data.verdicts import VerdictLog
from arm.retries import retry_after

REDIRECTS = (301, 302, 303, 307, 308)
HOST_FAILURES = frozenset(
    {"connection", "reset", "tls", "timeout_connect", "timeout_tls", "timeout_headers", "timeout_body"}
)
"""Reasons that open a host's circuit breaker."""
UNRESOLVED = HOST_FAILURES | {
    "dns", "truncated", "host_down", "host_busy", "robots_unreachable", "http_429", "http_502", "http_503", "http_504",
    "lost",
}  # fmt: skip
"""Reasons that another attempt may cure: what `--retry-failures` asks again."""
BODY_BYTES = 100_000_000
"""Memory for the bodies above 1 MB that one process holds at once, ours."""
LARGE_PIXELS = 4_000_000
"""A larger image is alone of its kind in a process until img2dataset is done with it, ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the guard allows; the fields mean what they mean in DownloadConfig."""

    user_agent: str
    robots: bool = True
    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_redirects: int = 3
    timeout_seconds: float = 20.0
    requests_per_second: float = math.inf
    max_host_failures: int = 50
    exceptions: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """`host` or `host:port` -> (address, port) to connect to, unchecked: tests and the toy site."""
    hosts: str = ""
    """A file through which the processes of a machine share the hosts' rates; none: this process alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes of an image, or the reason why there are none."""

    body: bytes | None = None
    reason: str = ""
    status: int | None = None
    """HTTP status of the last answer, if any."""
    leases: tuple[Lease | None, ...] = ()
    """The memory that the image takes; given back when nobody holds this any more."""


class Guard:
    """Fetches images under a policy; safe to use from many threads."""

    def __init__(
        self, policy: Policy, resolver: Resolver = system_resolver, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy, self.log = policy, VerdictLog()
        self._resolve = PublicResolver(resolver, clock)
        self._connections, self._large = Connections(Budget(BODY_BYTES)), Budget(1)
        self._hosts = Hosts(
            policy.hosts, requests_per_second=policy.requests_per_second, max_failures=policy.max_host_failures,
            patience=policy.timeout_seconds,
        )  # fmt: skip
        self._rules, self._reading = RulesCache(), tuple(threading.Lock() for _ in range(64))
        self._agent = product(policy.user_agent)
        self._headers = {"User-Agent": policy.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}

    def fetch(self, url: str) -> Fetched:
        """The image at an address, upright; whatever goes wrong becomes a reason."""
        try:
            answer = self._follow(url, image=True)
            body, lease = self._checked(answer.body)
            return Fetched(body=body, status=answer.status, leases=(answer.lease, lease))
        except Refused as refusal:
            return Fetched(reason=refusal.reason, status=refusal.status)
        except Exception:  # an exception that escapes would hang img2dataset's shard for ever
            return Fetched(reason="error")

    def _follow(self, url: str, *, image: bool) -> Answer:
        """The final answer (status 200) of an address after at most `max_redirects` redirects, each one checked."""
        until, origin = math.inf, url
        for hop in range(self.policy.max_redirects + 1):
            request, site = self._hop(url, hop)
            if image and self.policy.robots:
                self._check_robots(site, request)
            until = min(until, self._hosts.wait(request.host) + self.policy.timeout_seconds)
            answer = self._ask(request, until, image)
            location = answer.headers.get("location")
            if answer.status in REDIRECTS and location:
                url = _joined(url, location[0])
                continue
            if answer.status != 200:
                raise Refused(f"http_{answer.status}", answer.status)
            tag = forbidding_tag(answer.headers.get("x-robots-tag", ()), self.policy.user_agent)
            if image and self.policy.robots and tag is not None:
                self.log.note_opt_out(origin, tag)
                raise Refused("noai", answer.status)
            return answer
        raise Refused("redirects")

    def _hop(self, url: str, hop: int) -> tuple[Request, str]:
        """Where to connect; a refusal says whether the address was ours or the one we were sent to."""
        try:
            return self._target(url)
        except Refused as refusal:
            raise Refused(f"redirect_{refusal.reason}" if hop else refusal.reason) from None

    def _target(self, url: str) -> tuple[Request, str]:
        """Where to connect for an address (the checked IP addresses of its host, or a declared exception), and its site."""
        if urlsplit(url).scheme.lower() not in DEFAULT_PORTS:
            raise Refused("scheme")
        canonical = canonical_url(url)
        if canonical is None:
            raise Refused("bad_url")
        parts = urlsplit(canonical)
        if parts.username is not None:
            raise Refused("userinfo")
        name, path = parts.hostname or "", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        exception = self.policy.exceptions.get(parts.netloc) or self.policy.exceptions.get(name)
        port = exception[1] if exception else parts.port or DEFAULT_PORTS[parts.scheme]
        addresses = (exception[0],) if exception else self._resolve(name)
        tls, site = parts.scheme == "https", f"{parts.scheme}://{parts.netloc}"
        return Request(addresses=addresses, port=port, host=name, netloc=parts.netloc, path=path, tls=tls), site

    def _ask(self, request: Request, until: float, image: bool) -> Answer:
        """One answer, and what it tells about the host."""
        max_bytes = self.policy.max_bytes if image else ROBOTS_BYTES
        try:
            answer = self._connections.ask(request, self._headers, until, max_bytes, cut=not image)
        except Refused as refusal:
            if refusal.reason in HOST_FAILURES:
                self._hosts.note_failure(request.host)
            raise
        if answer.status in (429, 503):
            self._hosts.note_pause(request.host, retry_after(answer.headers.get("retry-after", [""])[0], time.time()))
        else:
            self._hosts.note_answer(request.host)
        return answer

    def _check_robots(self, site: str, request: Request) -> None:
        rules = self._rules.get(site, time.time())
        if rules is None:
            with self._reading[hash(site) % len(self._reading)]:  # one thread reads it, the others wait for it
                rules = self._rules.get(site, time.time()) or self._read_rules(site)
        rule = rules.verdict(f"{site}{request.path}")
        self.log.note_robots(site, rules, rule)
        if rule is not None:
            raise Refused(rules.refusal)

    def _read_rules(self, site: str) -> Rules:
        """RFC 9309, 2.3.1: none (4xx) allows everything, unreachable (5xx, no answer) forbids everything."""
        text, origin, asked_at = "", "rules", time.time()
        try:
            body = self._follow(f"{site}/robots.txt", image=False).body
            text = body.decode("utf-8-sig", "replace")  # a byte order mark is no part of the first agent's line
        except Refused as refusal:
            is_absent = refusal.reason == "redirects" or (refusal.status is not None and 400 <= refusal.status < 500)
            origin = refusal.reason if is_absent and refusal.status != 429 else f"unreachable {refusal.reason}"
        except Exception:  # nothing that we know of; no permission, then
            origin = "unreachable error"
        rules = Rules.parse(text, self._agent, origin=origin, read_at=asked_at)
        self._rules.put(site, rules)
        return rules

    def _checked(self, body: bytes) -> tuple[bytes, Lease | None]:
        """The image in bytes that img2dataset's decoder reads as ours does; Refused with our reason when it is bad.

        `truncated` alone would mean an answer that broke off, which another attempt may cure.
        """
        leases: list[Lease] = []

        def before_pixels(num_pixels: int) -> None:
            if num_pixels > LARGE_PIXELS:
                leases.append(self._large.take(1))

        try:
            return plain_image(body, self.policy.max_pixels, before_pixels), leases[0] if leases else None
        except BadImageError as error:
            raise Refused("truncated_image" if error.reason == "truncated" else error.reason, 200) from None


def _joined(url: str, location: str) -> str:
    """Where a redirect leads; a line break in it means that somebody wants to write our next request."""
    if not location.isprintable():
        raise Refused("redirect_bad_url")
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused("redirect_bad_url") from None
