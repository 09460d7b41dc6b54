"""One HTTP request to one host under one deadline: no name is resolved here, no redirect followed.

A socket's time-out starts anew with every byte, so a server that drips one byte a second holds it for ever. Here each
read gets only the time that is left (`until`, on time.monotonic's clock). What goes wrong is Refused with a reason that
says where:

    connection  timeout_connect | tls  tls_expired  tls_self_signed  tls_wrong_host  timeout_tls
    bad_answer  bad_headers  reset  timeout_headers | too_large  encoded_body  truncated  timeout_body
"""

import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from arm.data.addresses import Refused
from arm.data.budget import Budget, Lease

CHUNK_BYTES = 1 << 16
HEADER_BYTES = 1 << 18
"""Longest header that is read, 100-continue answers included; browsers allow as much."""
SMALL_BYTES = 1 << 20
"""A body below this needs no leave of the memory budget."""
MAX_ADDRESSES = 3
"""Addresses of one host that are tried."""
MAX_IDLE, IDLE_SECONDS = 64, 5.0
"""Connections kept open for another request, and for how long: most servers close theirs after 5 s or later."""
CERTIFICATE = {
    10: "tls_expired",
    18: "tls_self_signed",
    19: "tls_self_signed",
    62: "tls_wrong_host",
    64: "tls_wrong_host",
}
"""OpenSSL's verdict on a certificate (X509_V_ERR_*) -> reason; any other is `tls_untrusted`."""
Place = tuple[tuple[str, ...], int, str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where to connect, and what to ask."""

    addresses: tuple[str, ...]
    """IP addresses, all checked."""
    port: int
    host: str
    """Host name for TLS."""
    netloc: str
    """Host header: name, and port unless it is the default one."""
    path: str
    """Path with query."""
    tls: bool

    @property
    def place(self) -> Place:
        """What two requests must share to go over one connection."""
        return self.addresses, self.port, self.host, self.tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers with lower-case names (repeated ones as a list), and body."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes
    lease: Lease | None = None
    """The memory of a large body; it is given back when nobody holds the answer any more."""


class Connections:
    """Asks over connections that stay open for the next request to the same host; safe to use from many threads."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._lock = budget, threading.Lock()
        self._idle: dict[Place, list[tuple[float, socket.socket]]] = {}
        self._num_idle = 0

    def ask(
        self, request: Request, headers: Mapping[str, str], until: float, max_bytes: int, *, cut: bool = False
    ) -> Answer:
        """Send a GET and read its answer; with `cut` a longer body is cut at `max_bytes` instead of refused."""
        kept = self._take(request.place)
        if kept is not None:
            exchange = _Exchange(kept, until)
            try:
                return self._finish(request, exchange, headers, max_bytes, cut)
            except Refused:
                if exchange.stream.received or exchange.late:
                    raise  # else the server had closed it meanwhile: ask anew
        return self._finish(request, _Exchange(_connect(request, until), until), headers, max_bytes, cut)

    def _finish(
        self, request: Request, exchange: "_Exchange", headers: Mapping[str, str], max_bytes: int, cut: bool
    ) -> Answer:
        answer = None
        try:
            exchange.send(request, headers)
            answer = exchange.read(max_bytes, self._budget, cut)
            return answer
        finally:
            if answer is not None and exchange.is_clean():
                self._keep(request.place, exchange.channel)
            else:
                exchange.channel.close()

    def _take(self, place: Place) -> socket.socket | None:
        """The connection to a place that was used last, unless the other side closed it or spoke unasked."""
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            kept = self._idle.pop(place, [])
            self._num_idle -= len(kept)
            while kept:
                since, channel = kept.pop()
                if since > oldest and _is_quiet(channel):
                    if kept:
                        self._idle[place] = kept
                        self._num_idle += len(kept)
                    return channel
                channel.close()
            return None

    def _keep(self, place: Place, channel: socket.socket) -> None:
        with self._lock:
            if self._num_idle >= MAX_IDLE:
                _, others = self._idle.popitem()
                self._num_idle -= len(others)
                for _, other in others:
                    other.close()
            self._idle.setdefault(place, []).append((time.monotonic(), channel))
            self._num_idle += 1


def _connect(request: Request, until: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one, with TLS where it is asked for."""
    addresses = request.addresses[:MAX_ADDRESSES]
    for index, address in enumerate(addresses):
        try:
            plain = socket.create_connection((address, request.port), _left(until) / (len(addresses) - index))
            break
        except OSError as error:
            if index == len(addresses) - 1:
                reason = "timeout_connect" if isinstance(error, TimeoutError) else "connection"
                raise Refused(reason) from None
    if not request.tls:
        return plain
    try:
        plain.settimeout(_left(until))
        return _tls().wrap_socket(plain, server_hostname=request.host)
    except OSError as error:
        plain.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Refused(CERTIFICATE.get(error.verify_code, "tls_untrusted")) from None
        raise Refused("timeout_tls" if isinstance(error, TimeoutError) else "tls") from None


def _is_quiet(channel: socket.socket) -> bool:
    """Whether nothing waits to be read, the end included."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return not poll.poll(0)


class _Exchange:
    """One request and its answer over an open connection."""

    def __init__(self, channel: socket.socket, until: float) -> None:
        self.channel, self.stream, self.late = channel, _Stream(channel, until), False
        self._reader = _Reader(self.stream, CHUNK_BYTES)
        self._response = http.client.HTTPResponse(self, method="GET")  # type: ignore[arg-type]
        self._is_whole = False

    def makefile(self, *_: Any) -> io.BufferedReader:
        """All that http.client wants of a socket."""
        return self._reader

    def send(self, request: Request, headers: Mapping[str, str]) -> None:
        lines = [f"GET {request.path} HTTP/1.1", f"Host: {request.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            self.channel.settimeout(_left(self.stream.until))
            self.channel.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        except OSError as error:
            raise self._refusal(error, "headers") from None

    def read(self, max_bytes: int, budget: Budget, cut: bool) -> Answer:
        try:
            self._response.begin()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._refusal(error, "headers") from None
        received: dict[str, list[str]] = {}
        for name, value in self._response.getheaders():
            received.setdefault(name.lower(), []).append(value)
        status = self._response.status
        lengths = {length.strip() for length in received.get("content-length", [])}
        if len(lengths) > 1 or not all(length.isdecimal() for length in lengths):
            raise Refused("bad_headers", status)
        if status != 200:
            self._is_whole = self._response.length == 0
            return Answer(status=status, headers=received, body=b"")
        try:
            body, lease = self._body(max_bytes, budget, cut)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._refusal(error, "body", status) from None
        return Answer(status=status, headers=received, body=body, lease=lease)

    def is_clean(self) -> bool:
        """Whether the whole answer was read and nothing beyond it, so that the connection can carry another."""
        self.stream.over = True
        return self._is_whole and not self._response.will_close and not self._reader.peek(1)

    def _body(self, max_bytes: int, budget: Budget, cut: bool) -> tuple[bytes, Lease | None]:
        response, status = self._response, self._response.status
        stated = response.length
        if stated is not None and stated > max_bytes and not cut:
            raise Refused("too_large", status)
        if (response.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
            raise Refused("encoded_body", status)
        self.stream.allow(2 * max_bytes + HEADER_BYTES)  # chunks of one byte take six
        lease = self._lease(stated, budget) if stated is not None and stated > SMALL_BYTES else None
        chunks, size = [], 0
        while chunk := response.read(SMALL_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                if cut:
                    return b"".join(chunks)[:max_bytes], lease
                raise Refused("too_large", status)
            if lease is None and size > SMALL_BYTES:
                lease = self._lease(max_bytes, budget)
        if stated is not None and size < stated:
            raise Refused("truncated", status)
        self._is_whole = True
        return b"".join(chunks), lease

    def _lease(self, num_bytes: int, budget: Budget) -> Lease:
        """Leave to hold so much; the time that it takes is ours, not the server's."""
        started = time.monotonic()
        lease = budget.take(2 * num_bytes)  # the pieces, and the whole
        self.stream.until += time.monotonic() - started
        return lease

    def _refusal(self, error: Exception, part: str, status: int | None = None) -> Refused:
        if isinstance(error, TimeoutError):
            self.late = True
            return Refused(f"timeout_{part}", status)
        if isinstance(error, http.client.IncompleteRead):
            return Refused("truncated", status)
        if isinstance(error, OSError):  # RemoteDisconnected, too: closed without a word
            return Refused("reset", status)
        return Refused("bad_answer" if isinstance(error, http.client.BadStatusLine) else "bad_headers", status)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Reader(io.BufferedReader):
    """A reader that stays open when http.client has read an answer: what stands behind it must be seen."""

    def close(self) -> None:
        """Nothing: the connection is closed, or carries another answer."""


class _Stream(io.RawIOBase):
    """A socket as a raw stream under a deadline and a limit of bytes."""

    def __init__(self, channel: socket.socket, until: float) -> None:
        self._channel, self.until, self.over = channel, until, False
        self.received, self._limit, self._reason = 0, HEADER_BYTES, "bad_headers"

    def allow(self, num_bytes: int) -> None:
        """Let the body take so much."""
        self._limit, self._reason = self.received + num_bytes, "too_large"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.over:
            return None  # nothing more is wanted
        if self.received > self._limit:
            raise Refused(self._reason)
        self._channel.settimeout(_left(self.until))
        count = self._channel.recv_into(buffer)
        self.received += count
        return count
