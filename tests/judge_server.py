"""A judge behind an OpenAI-compatible endpoint, on the loopback, that answers and fails by script."""

import json
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

import loopback


class Server(ThreadingHTTPServer):
    """Answers each call with the next script entry, the last one again and again: a status with headers, a reply, a
    whole answer with `choices` or `error`, or a function of the request that gives one of these."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = [{}]
        self.calls: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """What a user would give as ARM_JUDGE_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(loopback.JsonHandler):
    """One call."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.read())
        self.server.calls.append(body)
        entry = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        if callable(entry):
            entry = entry(body)
        if entry == "hang up":
            self.connection.close()
        elif isinstance(entry, tuple):
            self.reply({}, *entry)
        else:
            whole = isinstance(entry, dict) and entry.keys() & {"choices", "error"}
            self.reply(entry if whole else answer(entry))


def answer(reply: Any) -> dict[str, Any]:
    """What an endpoint answers: 1,000 tokens read, 100 written."""
    text = reply if isinstance(reply, str) else json.dumps(reply)
    message = {"content": text} if reply != "refuse" else {"content": None, "refusal": "I cannot."}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def serving() -> AbstractContextManager[Server]:
    """The server, answering."""
    return loopback.serving(Server())
