"""Fetching images from strangers: only public hosts, only politely, never more than was agreed, never an exception.

    guard = Guard(policy)
    guard.fetch("http://garden.test/a.png")  ->  Fetched(body=b"...", reason="", status=200)
    guard.fetch("http://127.0.0.1/a.png")    ->  Fetched(body=None, reason="private_address", status=None)

http and https; each hop's host resolved, all its addresses checked, the checked one connected to; at most three redirects;
byte cap, total deadline, pixel cap from the header; robots.txt and X-Robots-Tag; a rate and a circuit breaker per host.
"""

import http.client
import math
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from protego import Protego

from arm.data.addresses import PublicResolver, Refused, Resolver, system_resolver
from arm.data.connection import Answer, Request, ask
from arm.data.images import BadImageError, plain_image
from arm.data.normalisation import DEFAULT_PORTS, canonical_url

REDIRECTS = (301, 302, 303, 307, 308)
NO_AI = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""X-Robots-Tag directives that forbid the use."""
ROBOTS_BYTES = 512_000
"""RFC 9309, 2.5: at least 500 KiB of a robots.txt are read."""
UNRESOLVED = frozenset(
    {"timeout", "connection", "tls", "dns", "truncated", "host_down", "http_429", "http_503", "lost"}
)
"""Reasons that another attempt may cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the guard allows; the fields mean what they mean in DownloadConfig."""

    user_agent: str
    robots: bool = True
    max_bytes: int = 20_000_000
    max_pixels: int = 100_000_000
    max_redirects: int = 3
    timeout_seconds: float = 20.0
    requests_per_second: float = math.inf
    max_host_failures: int = 50
    exceptions: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """`host` or `host:port` -> (address, port) to connect to, unchecked: tests and the toy site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes of an image, or the reason why there are none."""

    body: bytes | None = None
    reason: str = ""
    status: int | None = None
    """HTTP status of the last answer, if any."""


class Guard:
    """Fetches images under a policy; safe to use from many threads."""

    def __init__(self, policy: Policy, resolver: Resolver = system_resolver) -> None:
        self.policy = policy
        self._resolve = PublicResolver(resolver)
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def fetch(self, url: str) -> Fetched:
        """The image at an address, upright; whatever goes wrong becomes a reason."""
        try:
            answer = self._follow(url, image=True)
            return Fetched(body=checked_image(answer.body, self.policy.max_pixels), status=answer.status)
        except Refused as refusal:
            return Fetched(reason=refusal.reason, status=refusal.status)
        except Exception as error:  # an exception that escapes would hang img2dataset's shard for ever
            return Fetched(reason=_reason_of(error))

    def _follow(self, url: str, *, image: bool) -> Answer:
        """The final answer (status 200) of an address after at most `max_redirects` redirects, each one checked."""
        until = math.inf
        for _ in range(self.policy.max_redirects + 1):
            request, host = self._target(url)
            if image:
                self._check_robots(host, url)
            until = min(until, host.wait(self.policy.requests_per_second) + self.policy.timeout_seconds)
            answer = self._ask(request, host, until, self.policy.max_bytes if image else ROBOTS_BYTES)
            location = answer.headers.get("location")
            if answer.status in REDIRECTS and location:
                url = urljoin(url, location[0])
                continue
            if answer.status != 200:
                raise Refused(f"http_{answer.status}", answer.status)
            if (
                image
                and self.policy.robots
                and forbids_ai(answer.headers.get("x-robots-tag", []), self.policy.user_agent)
            ):
                raise Refused("noai", answer.status)
            return answer
        raise Refused("redirects")

    def _target(self, url: str) -> "tuple[Request, _Host]":
        """Where to connect for an address: the checked IP address of its host, or a declared exception."""
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
        address, port = exception or (self._resolve(name)[0], parts.port or DEFAULT_PORTS[parts.scheme])
        tls = parts.scheme == "https"
        request = Request(address=address, port=port, host=name, netloc=parts.netloc, path=path, tls=tls)
        with self._lock:
            return request, self._hosts.setdefault(f"{parts.scheme}://{parts.netloc}", _Host())

    def _ask(self, request: Request, host: "_Host", until: float, max_bytes: int) -> Answer:
        if host.failures >= self.policy.max_host_failures:
            raise Refused("host_down")
        headers = {"User-Agent": self.policy.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        try:
            answer = ask(request, headers, until, max_bytes)
        except (OSError, http.client.HTTPException):
            host.failures += 1
            raise
        host.failures = 0
        if answer.status in (429, 503):
            host.pause(_retry_after(answer))
        return answer

    def _check_robots(self, host: "_Host", url: str) -> None:
        if not self.policy.robots:
            return
        with host.robots_lock:
            if host.robots is None:
                host.robots = self._read_robots(urljoin(url, "/robots.txt"))
        if not host.robots.can_fetch(url, _product(self.policy.user_agent)):
            raise Refused("robots")

    def _read_robots(self, url: str) -> Protego:
        """RFC 9309, 2.3.1: none (4xx) allows everything, unreachable (5xx, no answer) forbids everything."""
        try:
            text = self._follow(url, image=False).body.decode("utf-8", "replace")
        except Refused as refusal:
            absent = refusal.status is not None and 400 <= refusal.status < 500
            text = "" if absent or refusal.reason == "redirects" else "User-agent: *\nDisallow: /"
        except Exception:  # no answer at all
            text = "User-agent: *\nDisallow: /"
        return Protego.parse(text)


class _Host:
    """What is remembered of one host: its robots.txt, when the next request may start, failures in a row."""

    def __init__(self) -> None:
        self.robots: Protego | None = None
        self.robots_lock, self._lock = threading.Lock(), threading.Lock()
        self.failures, self._next = 0, 0.0

    def wait(self, requests_per_second: float) -> float:
        """Sleep until the host's turn comes; return the time then."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + 1 / requests_per_second
        time.sleep(max(0.0, start - time.monotonic()))
        return start

    def pause(self, seconds: float) -> None:
        """Let no request start for a while: the host asked for it."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def forbids_ai(values: list[str], user_agent: str) -> bool:
    """Whether X-Robots-Tag headers (`noai`, `otherbot: noindex, arm-platform: noimageai`) forbid the use to us."""
    for value in values:
        applies = True
        for directive in value.lower().split(","):
            agent, colon, name = directive.rpartition(":")
            applies = agent.strip() in (_product(user_agent).lower(), "*") if colon else applies
            if applies and name.strip() in NO_AI:
                return True
    return False


def checked_image(body: bytes, max_pixels: int) -> bytes:
    """The image in bytes that img2dataset's decoder reads as ours does; Refused with our decoder's reason when it is bad.

    `truncated` alone would mean an answer that broke off, which another attempt may cure.
    """
    try:
        return plain_image(body, max_pixels)
    except BadImageError as error:
        raise Refused("truncated_image" if error.reason == "truncated" else error.reason, 200) from None


def _retry_after(answer: Answer) -> float:
    """Seconds that the host asks to wait, at most a minute; a date counts as a second."""
    value = answer.headers.get("retry-after", ["1"])[0].strip()
    return min(60.0, float(value)) if value.isdecimal() else 1.0


def _product(user_agent: str) -> str:
    """The product token, `arm-platform` of `arm-platform/0.1 (...)`: what robots.txt names."""
    return user_agent.split("/")[0].split(" ")[0]


def _reason_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, http.client.IncompleteRead):
        return "truncated"
    if isinstance(error, OSError | http.client.HTTPException):
        return "connection"
    return "error"
