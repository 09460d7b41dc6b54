"""An OpenAI-compatible endpoint: what is sent, what is tried again, and what is a failed item."""

import base64
import io
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import numpy as np
import PIL.Image
import pytest
from loopback import JsonHandler, serving

from arm.errors import ServiceError, UserError
from arm.evaluation.imaging import encode_png
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.endpoint import Endpoint, load
from arm.evaluation.models.model import Drawing, Failed, Question
from arm.retries import Retries

PICTURE = np.full((2, 3, 3), 7, dtype=np.uint8)


class Service(ThreadingHTTPServer):
    """Answers with `replies` in turn: (status, headers, object); keeps what it was asked."""

    replies: list[tuple[int, dict[str, str], Any]]
    asked: list[tuple[str, dict[str, str], bytes]]


class Handler(JsonHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, dict(self.headers), self.read()))
        status, headers, reply = server.replies.pop(0)
        self.reply(reply, status, headers)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service(("127.0.0.1", 0), Handler)) as server:
        server.asked, server.replies = [], []
        yield server


WAITS: list[float] = []


@pytest.fixture
def endpoint(service: Service, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{service.server_port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    WAITS.clear()
    retries = Retries(attempts=3, sleep=WAITS.append, chance=lambda: 0.5)
    return load(ModelConfig(kind="openai", model="tiny", max_tokens=5), retries)


def said(text: Any) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"choices": [{"message": {"content": text}}]}


def test_a_question_goes_with_its_image_and_the_key(service: Service, endpoint: Endpoint) -> None:
    service.replies = [said(" Yes. ")]
    assert endpoint.answer([Question(uid="1", text="a dog?", images=(PICTURE,))]) == ["Yes."]
    path, headers, body = service.asked[0]
    sent = json.loads(body)
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-secret")
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("tiny", 0, 5)
    image, text = sent["messages"][0]["content"]
    assert text == {"type": "text", "text": "a dog?"}
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(data))), PICTURE)


def test_a_question_may_say_how_long_its_answer_is(service: Service, endpoint: Endpoint) -> None:
    service.replies = [said("no")]
    endpoint.answer([Question(uid="1", text="?")], 3)
    assert json.loads(service.asked[0][2])["max_tokens"] == 3


def test_busy_and_broken_services_are_asked_again(service: Service, endpoint: Endpoint) -> None:
    """Waits of .5 × 1 + the 3 seconds asked for, then .5 × 2."""
    service.replies = [(429, {"Retry-After": "3"}, {}), (503, {}, {}), said("no")]
    assert endpoint.answer([Question(uid="1", text="?")]) == ["no"]
    assert WAITS == [3.5, 1.0]


def test_a_refused_request_is_a_failed_item_and_is_not_repeated(service: Service, endpoint: Endpoint) -> None:
    service.replies = [(400, {}, {"error": "content policy"}), said(None), said("ok")]
    first, second, third = endpoint.answer([Question(uid=str(i), text="?") for i in range(3)])
    assert isinstance(first, Failed)
    assert first.reason == "HTTP 400: content policy"
    assert isinstance(second, Failed)
    assert third == "ok"


def test_a_service_that_is_away_stops_the_run_and_no_message_holds_the_key(
    service: Service, endpoint: Endpoint
) -> None:
    service.replies = [(500, {}, b"down")] * 3
    with pytest.raises(ServiceError, match="HTTP 500: down") as caught:
        endpoint.answer([Question(uid="1", text="?")])
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_request_would_meet_stops_the_run_at_once(service: Service, endpoint: Endpoint, status: int) -> None:
    service.replies = [(status, {}, {"error": "no"})]
    with pytest.raises(ServiceError, match=f"HTTP {status}.*check the address, the key and the model") as error:
        endpoint.answer([Question(uid="1", text="Is it red?", images=())])
    assert "sk-secret" not in str(error.value)
    assert len(service.asked) == 1
    assert WAITS == []


def test_a_redirect_does_not_carry_the_key_elsewhere(service: Service, endpoint: Endpoint) -> None:
    service.replies = [(302, {"Location": f"http://127.0.0.1:{service.server_port}/elsewhere"}, {})]
    (answer,) = endpoint.answer([Question(uid="1", text="?")])
    assert isinstance(answer, Failed)
    assert len(service.asked) == 1


def test_images_are_drawn_and_edited(service: Service, endpoint: Endpoint) -> None:
    image = {"data": [{"b64_json": base64.b64encode(encode_png(PICTURE)).decode()}]}
    service.replies = [(200, {}, image), (200, {}, image), (200, {}, {"data": [{"url": "http://x"}]})]
    assert np.array_equal(endpoint.generate_images([Drawing(uid="0", prompt="a cow", seed=0)])[0], PICTURE)
    sent = json.loads(service.asked[0][2])
    assert sent == {"model": "tiny", "prompt": "a cow", "n": 1, "response_format": "b64_json"}
    edited = endpoint.edit([Drawing(uid="0", prompt="redder", seed=0, source=PICTURE)])[0]
    assert np.array_equal(edited, PICTURE)
    path, headers, body = service.asked[1]
    assert path == "/v1/images/edits"
    assert headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="prompt"\r\n\r\nredder\r\n' in body
    assert encode_png(PICTURE) in body
    assert isinstance(endpoint.generate_images([Drawing(uid="0", prompt="a", seed=0)])[0], Failed)


def test_without_an_address_it_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_BASE_URL is not set"):
        load(ModelConfig(kind="openai", model="x"))
