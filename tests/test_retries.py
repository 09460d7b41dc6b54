"""Which failures are worth another attempt, how long is waited before it, and what is said in the end."""

import io
import urllib.error
from collections.abc import Callable
from email.message import Message
from http.client import IncompleteRead
from http.server import ThreadingHTTPServer

import pytest
from loopback import JsonHandler, serving

from arm.errors import UserError
from arm.posting import post
from arm.retries import RefusedError, Retries, ShutOutError, UnansweredError, reason_in, retry_after


def status(code: int, text: str = "", **headers: str) -> urllib.error.HTTPError:
    """What urllib raises for it."""
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://a.test", code, "its phrase", message, io.BytesIO(text.encode()))


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that raises these in turn and then answers."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "an answer"

    return call


def test_waits_double_at_random_on_top_of_what_the_service_asks_for_and_end_at_the_longest() -> None:
    """Of .5 × (1, 2, 4, 8): the second comes on top of 7 seconds, the third on top of 20 from now, the fourth is cut."""
    waits: list[float] = []
    retries = Retries(attempts=5, longest_wait_seconds=25, sleep=waits.append, chance=lambda: 0.5, now=lambda: 1_000.0)
    date = "Thu, 01 Jan 1970 00:17:00 GMT"
    errors = (OSError(), status(429, Retry_After="7"), status(503, Retry_After=date), status(500, Retry_After="3600"))
    assert retries.ask(failing(*errors)) == "an answer"
    assert waits == [0.5, 8.0, 22.0, 25.0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"error": {"message": "content policy", "code": "policy"}}', "content policy"),
        ('{"error": {"message": "", "code": "policy"}}', "policy"),
        ('{"error": "busy"}', "busy"),
        ('{"object": "error", "message": "too long", "code": 400}', "too long"),
        ('{"detail": "Not Found"}', "Not Found"),
        (' {"error": null, "why": 1} ', '{"error": null, "why": 1}'),
        ('["a"]', '["a"]'),
        ("[" * 100_000, "[" * 100_000),
        ("<html>down</html>\n", "<html>down</html>"),
    ],
)
def test_the_reason_of_a_refusal_is_taken_out_of_its_json(body: str, reason: str) -> None:
    assert reason_in(body) == reason


@pytest.mark.parametrize(
    ("error", "problem", "code"),
    [
        (status(408), "HTTP 408: its phrase", 408),
        (status(529, "overloaded\n"), "HTTP 529: overloaded", 529),
        (status(500, '{"error":{"message":"no room"}}'), "HTTP 500: no room", 500),
        (TimeoutError("timed out"), "TimeoutError: timed out", None),
        (urllib.error.URLError(TimeoutError("no route")), "TimeoutError: no route", None),
        (IncompleteRead(b"half"), "IncompleteRead: IncompleteRead(4 bytes read)", None),
    ],
)  # fmt: skip
def test_what_may_pass_is_asked_again_to_the_end(error: Exception, problem: str, code: int | None) -> None:
    waits: list[float] = []
    with pytest.raises(UnansweredError) as caught:
        Retries(attempts=2, sleep=waits.append).ask(failing(OSError(), error))
    found = caught.value
    assert (type(found), str(found), found.status, found.attempts) == (UnansweredError, problem, code, 2)
    assert (found.__cause__, len(waits)) == (error, 1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(302, RefusedError), (400, RefusedError), (401, ShutOutError), (403, ShutOutError), (404, ShutOutError)],
)
def test_what_would_be_refused_again_is_not_asked_again(code: int, kind: type[UnansweredError]) -> None:
    with pytest.raises(kind, match=f"HTTP {code}: no") as caught:
        Retries(sleep=pytest.fail).ask(failing(status(code, "no")))
    assert caught.value.attempts == 1


def test_other_errors_pass() -> None:
    with pytest.raises(UserError, match="neither http:// nor https://"):
        Retries().ask(lambda: post("ftp://a.test", b"", {}, timeout_seconds=1, max_bytes=1))


class Cutting(JsonHandler):
    """Promises a hundred bytes, sends a few and hangs up."""

    def do_POST(self) -> None:
        self.read()
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"a":')
        self.close_connection = True


def test_a_reply_that_is_cut_off_is_an_error_that_another_attempt_may_mend() -> None:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Cutting)) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        retries = Retries(attempts=2, sleep=lambda seconds: None)
        with pytest.raises(UnansweredError, match="IncompleteRead") as error:
            retries.ask(lambda: post(url, b"{}", {}, timeout_seconds=5, max_bytes=1000))
        assert error.value.attempts == 2
        assert post(url, b"{}", {}, timeout_seconds=5, max_bytes=5) == b'{"a":'


def test_a_key_with_a_line_break_is_not_shown() -> None:
    headers = {"Authorization": "Bearer sk-secret\n"}
    with pytest.raises(UserError, match="Authorization holds a line break") as caught:
        post("http://127.0.0.1:1", b"", headers, timeout_seconds=1, max_bytes=1)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0.5 ", 0.5),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(value, now=1_000.0) == seconds
