"""Web servers on the loopback that live as long as a test needs them."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from arm.data.replay import serving

__all__ = ["JsonHandler", "serving"]


class JsonHandler(BaseHTTPRequestHandler):
    """Reads and writes JSON, and prints nothing."""

    def read(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer with an object, or with bytes as they are."""
        data = values if isinstance(values, bytes) else json.dumps(values).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
