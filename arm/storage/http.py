"""Files on web servers, fetched politely into a cache of local copies.

    fetch("https://data.commoncrawl.org/crawl-data/…/x.warc.wat.gz", Politeness())   -> a local path
    version("https://data.commoncrawl.org/…", Politeness())                         -> what tells a change without reading

All processes of a machine share the pace of a host: so many requests at a time, and a pause for all when the server asks
one of them to slow down. 403, 429 and 5xx (Common Crawl says 503 Slow Down, and 403 to those who went on) are asked
again, later each time and when Retry-After says; a body that breaks off goes on where it ended, if the file is the same.
Up to five redirects are followed, to http(s) alone.
"""

import contextlib
import fcntl
import functools
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from arm.errors import ServiceError, UserError
from arm.retries import retry_after
from arm.storage import cache
from arm.storage.folder import checked_name

USER_AGENT = "arm-platform/0.1 (+https://github.com/arm-platform; reader of crawl archives)"
AGAIN = frozenset({403, 408, 425, 429, 500, 502, 503, 504})
MAX_REDIRECTS = 5
NO_TAG = "none"
MIN_BYTES_PER_SECOND = 1_000
"""A server that drips more slowly for a whole timeout is given up for this attempt."""
PROGRESS_BYTES = 1 << 20
"""After so many new bytes the attempts count from the start."""
MAX_WAIT_SECONDS = 300.0
"""The longest pause, whatever Retry-After says."""


@dataclass(frozen=True, kw_only=True)
class Politeness:
    """How a web server is asked for files."""

    concurrent_requests: int = 4
    """Requests at the same time to one host, by all processes of a machine together."""
    attempts: int = 8
    """How often a file is asked for without getting on before the job fails."""
    first_wait_seconds: float = 1.0
    """The pause after a first refusal; it doubles with each that follows, with jitter, and every process keeps it."""
    timeout_seconds: float = 60.0
    """How long a server may say nothing."""

    def __post_init__(self) -> None:
        for name in ("concurrent_requests", "attempts", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"Politeness.{name} is {getattr(self, name)}; give more than 0.")
        if self.first_wait_seconds < 0:
            raise UserError(f"Politeness.first_wait_seconds is {self.first_wait_seconds}; give 0 or more.")


class _AgainError(Exception):
    """Worth asking again, `wait_seconds` from now at the earliest."""

    def __init__(self, problem: str, wait_seconds: float = 0.0, *, slow_down: bool = False) -> None:
        super().__init__(problem)
        self.wait_seconds, self.slow_down = wait_seconds, slow_down


def fetch(url: str, politeness: Politeness) -> Path:
    """A local copy of the file; UserError when there is none, ServiceError when the server does not give it."""
    root, target = _cache(), _copy_of(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    cache.use(root, target)
    with cache.downloading(root, target):
        _Download(url, target).run(politeness)
    cache.grow(root, target.stat().st_size)
    return target


def release(url: str) -> None:
    """Say that a fetched file is read no more: the cache may drop its copy."""
    cache.release(_cache(), _copy_of(url))


def version(url: str, politeness: Politeness) -> str:
    """Size and ETag (or date) of a file, which is not read."""

    def ask() -> str:
        with _answer("HEAD", url, {}, politeness) as answer:
            _check(answer, url)
            headers = answer.headers
            return f"{headers.get('Content-Length', '')} {headers.get('ETag') or headers.get('Last-Modified') or ''}"

    return str(_Attempts(url, politeness).run(ask))


class _Download:
    """One file on its way; a second attempt goes on where the first broke off."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.part = target.parent / f".{target.name}.{os.getpid()}.part"
        self.tag = ""
        """The ETag of what is in the part."""
        self.size = 0

    def run(self, politeness: Politeness) -> None:
        try:
            _Attempts(self.url, politeness, progress=lambda: self.size).run(lambda: self.attempt(politeness))
        finally:
            self.part.unlink(missing_ok=True)

    def attempt(self, politeness: Politeness) -> None:
        headers = {"Range": f"bytes={self.size}-", "If-Range": self.tag} if self.size and self.tag else {}
        held = cache.etag_file(self.target)
        if not headers and self.target.is_file() and held.is_file() and (tag := held.read_text()) != NO_TAG:
            headers = {"If-None-Match": tag}
        with _answer("GET", self.url, headers, politeness) as answer:
            if answer.status == 304:
                return
            if answer.status == 416:
                self.size, self.tag = 0, ""
                raise _AgainError("the file changed while it was read")
            _check(answer, self.url)
            self._receive(answer, politeness)

    def _receive(self, answer: Any, politeness: Politeness) -> None:
        continued = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")
        tag = answer.headers.get("ETag") or ""
        self.tag = "" if tag.startswith("W/") else tag  # a weak one does not say that the bytes are the same
        if not continued:
            self.size = 0
        started, before = time.monotonic(), self.size
        with self.part.open("r+b" if continued else "wb") as stream:
            stream.seek(self.size)
            for chunk in answer.stream(1 << 16, decode_content=False):
                stream.write(chunk)
                self.size += len(chunk)
                seconds = time.monotonic() - started
                if seconds > politeness.timeout_seconds and self.size - before < seconds * MIN_BYTES_PER_SECOND:
                    raise _AgainError(f"the server sends fewer than {MIN_BYTES_PER_SECOND} bytes a second")
            stream.truncate(self.size)
        cache.keep(self.target, self.part, tag or NO_TAG)


class _Attempts:
    """Asks until there is an answer, at the pace that the host bears."""

    def __init__(self, url: str, politeness: Politeness, progress: Any = lambda: 0) -> None:
        self.url, self.politeness, self.progress = url, politeness, progress
        self.pace = _Pace(urlsplit(url).netloc)

    def run(self, ask: Any) -> Any:
        failures, place = 0, 0
        while True:
            try:
                with self.pace.turn(self.politeness.concurrent_requests):
                    result = ask()
                self.pace.relax()
                return result
            except _AgainError as problem:
                if self.progress() >= place + PROGRESS_BYTES:
                    failures, place = 0, self.progress()
                failures += 1
                if failures >= self.politeness.attempts:
                    raise ServiceError(
                        f"{self.url} could not be fetched in {failures} attempts ({problem}); run the same command again "
                        "later, it goes on with this file."
                    ) from None
                wait = min(MAX_WAIT_SECONDS, self.politeness.first_wait_seconds * 2 ** (failures - 1))
                wait = max(problem.wait_seconds, wait * random.uniform(0.5, 1.0))
                if problem.slow_down:
                    self.pace.pause(wait, self.politeness.first_wait_seconds)
                time.sleep(wait)


class _Pace:
    """What the processes of a machine agree on about one host: free slots, the next turn, the time between turns."""

    def __init__(self, host: str) -> None:
        self.folder = _cache() / ".hosts" / quote(host, safe="")
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def turn(self, slots: int) -> Iterator[None]:
        """Wait for a free slot and for the host's next turn; hold the slot meanwhile."""
        with contextlib.ExitStack() as held:
            while not any(self._try_lock(held, slot) for slot in range(slots)):
                time.sleep(random.uniform(0.02, 0.1))
            with self._state() as state:
                start = max(time.time(), min(state["next"], time.time() + MAX_WAIT_SECONDS))
                state["next"] = start + state["interval"]
            time.sleep(max(0.0, start - time.time()))
            yield

    def pause(self, seconds: float, first: float) -> None:
        """Nobody asks for so long, and from then on more slowly."""
        with self._state() as state:
            state["next"] = max(state["next"], time.time() + seconds)
            state["interval"] = min(MAX_WAIT_SECONDS, max(first / 4, 2 * state["interval"]))

    def relax(self) -> None:
        """An answer came: a little faster again."""
        with self._state() as state:
            state["interval"] = 0.0 if state["interval"] < 0.01 else 0.8 * state["interval"]

    def _try_lock(self, held: contextlib.ExitStack, slot: int) -> bool:
        stream = (self.folder / f"slot-{slot}").open("a")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return False
        held.enter_context(stream)
        return True

    @contextlib.contextmanager
    def _state(self) -> Iterator[dict[str, float]]:
        with (self.folder / "pace").open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read()
            state = json.loads(text) if text else {"next": 0.0, "interval": 0.0}
            yield state
            stream.seek(0)
            stream.truncate()
            stream.write(json.dumps(state))


@contextlib.contextmanager
def _answer(method: str, url: str, headers: dict[str, str], politeness: Politeness) -> Iterator[Any]:
    """The server's answer, its body not yet read; whatever breaks off on the way is worth asking again."""
    import urllib3

    timeout = urllib3.Timeout(politeness.timeout_seconds)
    answer = None
    try:
        # no total: it would count redirects, too, and 0 of it forbids the first
        retries = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=MAX_REDIRECTS)
        answer = _pool(os.getpid()).request(
            method, url, headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            preload_content=False, decode_content=False, timeout=timeout, retries=retries,
        )  # fmt: skip
        yield answer
        answer.release_conn()
    except urllib3.exceptions.LocationValueError:  # no address, no host, or another scheme
        raise UserError(f"{url!r} is no web address, or leads to none; give http(s)://host/path.") from None
    except urllib3.exceptions.HTTPError as error:
        problem = getattr(error, "reason", None) or error
        raise _AgainError(str(problem).rpartition(": ")[2] or type(error).__name__) from None
    finally:
        if answer is not None:
            answer.close()


def _check(answer: Any, url: str) -> None:
    """Raise unless the answer holds the file."""
    if answer.status in (200, 206):
        return
    if answer.status in (404, 410):
        raise UserError(f"There is no file at {url} (the server answered {answer.status}); check the address.")
    problem = f"the server answered {answer.status} {answer.reason or ''}".strip()
    if answer.status in AGAIN:
        asked = retry_after(answer.headers.get("Retry-After", ""), time.time())
        raise _AgainError(problem, min(MAX_WAIT_SECONDS, asked or 0.0), slow_down=True)
    raise ServiceError(f"{url} cannot be fetched: {problem}; check the address.")


@functools.lru_cache(maxsize=4)
def _pool(process: int) -> Any:
    """One pool a process: connections do not survive a fork."""
    import urllib3

    return urllib3.PoolManager()


def _cache() -> Path:
    return cache.cache_folder() / "http"


def _copy_of(url: str) -> Path:
    parts = urlsplit(url)
    name = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    return _cache() / "files" / parts.scheme / quote(parts.netloc, safe="") / checked_name(name)
