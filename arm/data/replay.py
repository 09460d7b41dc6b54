"""A loopback web server that replays the HTTP responses of WARC files: the site that a crawl was made from.

    with replay(["crawl.warc.gz"]) as server: ...    in this process: server.port, server.hosts
    python -m arm.data.replay crawl.warc.gz          as a child: prints {"port": 40123, "hosts": ["garden.test"]}

A response is found by the request's Host header (its port may differ) and path with query; status and headers are the
recorded ones, and what is not in the files is a 404. The child dies with its parent.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from warcio.archiveiterator import ArchiveIterator  # type: ignore[import-untyped]
from warcio.bufferedreaders import ChunkedDataReader  # type: ignore[import-untyped]

Served = TypeVar("Served", bound=ThreadingHTTPServer)

HOP_HEADERS = {"connection", "content-length", "keep-alive", "transfer-encoding", "date", "server"}
"""Headers that belong to the recorded connection, not to the response."""


@dataclass(frozen=True, slots=True)
class Response:
    """A recorded answer: status code and reason, headers without those of the connection, body as sent."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


Responses = dict[tuple[str, str], Response]
"""(host, path with query) -> answer. The host is there twice, with its port and without."""


class ReplayServer(ThreadingHTTPServer):
    """Serves recorded responses on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, responses: Responses) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responses = responses

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self.server_address[1])

    @property
    def hosts(self) -> list[str]:
        """The host names that are replayed, without ports, sorted."""
        return sorted({_without_port(host) for host, _ in self.responses})

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    server: ReplayServer

    def do_GET(self) -> None:
        """Send the recorded response, or 404."""
        host = self.headers.get("Host", "").lower()
        found = self.server.responses
        response = found.get((host, self.path)) or found.get((_without_port(host), self.path)) or ABSENT
        self.send_response_only(response.status, response.reason)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        """Keep quiet: the client counts its failures itself."""


ABSENT = Response(404, "Not Found", (("Content-Type", "text/plain"),), b"not in the crawl\n")


def read_responses(paths: Sequence[str | Path]) -> Responses:
    """All HTTP responses of the WARC files; of several under one address the last."""
    responses: Responses = {}
    for path in paths:
        with Path(path).open("rb") as stream:
            for record in ArchiveIterator(stream):
                if record.rec_type == "response" and record.http_headers is not None:
                    address = urlsplit(record.rec_headers.get_header("WARC-Target-URI"))
                    name = (address.path or "/") + (f"?{address.query}" if address.query else "")
                    response = _response(record)
                    responses[address.netloc.lower(), name] = response
                    responses[_without_port(address.netloc.lower()), name] = response
    return responses


@contextlib.contextmanager
def replay(paths: Sequence[str | Path]) -> Iterator[ReplayServer]:
    """Serve the files from a thread of this process until the block ends."""
    with serving(ReplayServer(read_responses(paths))) as server:
        yield server


@contextlib.contextmanager
def serving(server: Served) -> Iterator[Served]:
    """The server, answering in a thread of this process; both are gone afterwards."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _response(record: object) -> Response:
    headers = record.http_headers  # type: ignore[attr-defined]
    stream = record.raw_stream  # type: ignore[attr-defined]
    if (headers.get_header("Transfer-Encoding") or "").lower() == "chunked":
        stream = ChunkedDataReader(stream)
    code, _, reason = headers.statusline.partition(" ")
    kept = tuple((name, value) for name, value in headers.headers if name.lower() not in HOP_HEADERS)
    return Response(int(code), reason, kept, stream.read())


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdigit() and name else host


def main() -> None:
    """Serve the WARC files named on the command line until the parent dies."""
    from arm import children

    children.tie_to_parent(os.getppid())()
    with replay(sys.argv[1:]) as server:
        print(json.dumps({"port": server.port, "hosts": server.hosts}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
