"""An HTTP proxy in front of an S3 server, in which some calls fail: drawn from a seed, counted by what went wrong.

error      500, and the server has not been asked
slow_down  503 SlowDown, likewise
reset      the connection is reset before the server is asked
lost       the server has done it, and the connection is reset before its answer
cut        the answer breaks off in the middle of its body; without a body it is lost
"""

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("error", "slow_down", "reset", "lost", "cut")
CODES = {"error": (500, "InternalError"), "slow_down": (503, "SlowDown")}
BETWEEN = ("connection", "transfer-encoding", "content-length")


class FailingProxy(ThreadingHTTPServer):
    """Passes calls on to `host:port`; a `share` of them fails."""

    daemon_threads = True

    def __init__(self, server: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.upstream, self.share = server, share
        self.calls, self.faults = 0, Counter[str]()
        self._draw, self._lock = random.Random(seed), threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_fault(self) -> str | None:
        """What goes wrong with this call, if anything."""
        with self._lock:
            self.calls += 1
            fault = self._draw.choice(FAULTS) if self._draw.random() < self.share else None
            if fault:
                self.faults[fault] += 1
            return fault

    def handle_error(self, *_: Any) -> None:
        """Quiet: clients that went away are what this is for."""


class _Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FailingProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault()
        if fault in CODES:
            self._refuse(*CODES[fault])
        elif fault == "reset":
            self._reset()
        else:
            self._answer(fault, body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _answer(self, fault: str | None, body: bytes) -> None:
        asked = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        asked.request(self.command, self.path, body=body, headers=headers)
        answer = asked.getresponse()
        data = answer.read()
        if fault == "lost" or (fault == "cut" and len(data) < 2):
            self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*BETWEEN, "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self._reset()

    def _refuse(self, status: int, code: str) -> None:
        body = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def failing_proxy(address: str, share: float, seed: int) -> Iterator[FailingProxy]:
    """A proxy in front of `http://host:port`."""
    with FailingProxy(address.removeprefix("http://"), share, seed) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
