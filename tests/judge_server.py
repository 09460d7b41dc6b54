"""A judge behind an OpenAI-compatible endpoint, on the loopback, that answers and fails by script."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Answers each call with the next script entry, the last one again and again: a status with headers, a reply, or a
    function of the request that gives one of both."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = [{}]
        self.calls: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """What a user would give as ARM_JUDGE_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    """One call."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(body)
        entry = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        if callable(entry):
            entry = entry(body)
        if entry == "hang up":
            self.connection.close()
            return
        status, headers, content = (entry[0], entry[1], {}) if isinstance(entry, tuple) else (200, {}, answer(entry))
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def answer(reply: Any) -> dict[str, Any]:
    """What an endpoint answers: 1,000 tokens read, 100 written."""
    text = reply if isinstance(reply, str) else json.dumps(reply)
    message = {"content": text} if reply != "refuse" else {"content": None, "refusal": "I cannot."}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


@contextmanager
def serving() -> Iterator[Server]:
    """The server, answering."""
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        thread.join()
        found.server_close()
