"""One HTTP request to one address under one deadline: no name is resolved here, no redirect followed.

A socket's time-out starts anew with every byte, so a server that drips one byte a second holds it for ever. Here each
read gets only the time that is left (`until`, on time.monotonic's clock).
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from arm.data.addresses import Refused

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where to connect, and what to ask."""

    address: str
    """IP address, checked."""
    port: int
    host: str
    """Host name for TLS."""
    netloc: str
    """Host header: name, and port unless it is the default one."""
    path: str
    """Path with query."""
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers with lower-case names (repeated ones as a list), and body."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes


def ask(request: Request, headers: Mapping[str, str], until: float, max_bytes: int) -> Answer:
    """Send a GET and read its answer; Refused when the body is too long or cut, OSError when the connection fails."""
    with socket.create_connection((request.address, request.port), timeout=_left(until)) as plain:
        plain.settimeout(_left(until))
        channel = _tls().wrap_socket(plain, server_hostname=request.host) if request.tls else plain
        with channel:
            lines = [f"GET {request.path} HTTP/1.1", f"Host: {request.netloc}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            channel.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
            response = http.client.HTTPResponse(_Channel(channel, until), method="GET")  # type: ignore[arg-type]
            response.begin()
            received: dict[str, list[str]] = {}
            for name, value in response.getheaders():
                received.setdefault(name.lower(), []).append(value)
            body = _body(response, max_bytes) if response.status == 200 else b""
            return Answer(status=response.status, headers=received, body=body)


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    stated = response.length
    if stated is not None and stated > max_bytes:
        raise Refused("too_large", response.status)
    if (response.headers.get("Content-Encoding") or "identity").lower() != "identity":
        raise Refused("encoded_body", response.status)
    chunks, size = [], 0
    while chunk := response.read(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise Refused("too_large", response.status)
    if stated is not None and size < stated:
        raise Refused("truncated", response.status)
    return b"".join(chunks)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Channel:
    """What http.client wants of a socket: a file to read from."""

    def __init__(self, channel: socket.socket, until: float) -> None:
        self._stream = _Stream(channel, until)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(self._stream, CHUNK_BYTES)


class _Stream(io.RawIOBase):
    """A socket as a raw stream under a deadline."""

    def __init__(self, channel: socket.socket, until: float) -> None:
        self._channel, self._until = channel, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._channel.settimeout(_left(self._until))
        return self._channel.recv_into(buffer)
