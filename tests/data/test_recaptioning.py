"""New captions from an endpoint of the test's own: what answers, what fails, what is never asked twice."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loopback import JsonHandler, serving
from pictures import captioned, picture, shards

from arm.data.config import CurateConfig, RecaptionConfig
from arm.data.curation import curate_images
from arm.data.recaptioning import Endpoint, recaption
from arm.data.shards import read_shard
from arm.errors import ArmError, UserError
from arm.records import Text, make_uid
from arm.retries import Retries
from arm.storage import LocalFolder

ANSWERS: dict[str, list[tuple[int, str]]] = {
    "fine": [(200, "A  red circle\n on grass.")],
    "busy": [(429, ""), (503, ""), (200, "A blue square.")],
    "down": [(500, "")],
    "refused": [(400, "")],
    "moved": [(307, "")],
    "short": [(200, "A")],
    "cut": [(200, "cut")],
    "junk": [(200, "junk")],
    "key": [(401, "")],
}
"""Old caption -> answers, the last for ever."""
CONFIG = RecaptionConfig(model="seer", sources=("crawl",), prompt="Better than {caption}?", attempts=3, concurrency=2)
SAMPLES = [captioned(name, picture(number), name) for number, name in enumerate(ANSWERS) if name != "key"]


class Server(ThreadingHTTPServer):
    """Answers as ANSWERS says and counts what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.last: dict[str, Any] = {}


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.read())
        name = body["messages"][0]["content"][0]["text"].removeprefix("Better than ").removesuffix("?")
        answers = ANSWERS[name]
        status, text = answers[min(self.server.asked[name], len(answers) - 1)]
        self.server.asked[name] += 1
        self.server.last = body | {"key": self.headers["Authorization"], "path": self.path}
        choice = {"message": {"content": text}, "finish_reason": "length" if text == "cut" else "stop"}
        headers = {429: {"Retry-After": "7"}, 307: {"Location": "/elsewhere"}}
        self.reply(b"<html>" if text == "junk" else {"choices": [choice]}, status, headers.get(status))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as found:
        yield found


def endpoint_of(server: Server, waits: list[float]) -> Endpoint:
    return Endpoint(
        f"http://127.0.0.1:{server.server_address[1]}/v1", "secret", Retries(sleep=waits.append, chance=lambda: 1.0)
    )


def test_each_image_gets_a_caption_or_a_reason_and_nothing_is_asked_twice(server: Server, tmp_path: Path) -> None:
    waits: list[float] = []
    rows = list(recaption(SAMPLES, endpoint_of(server, waits), CONFIG, tmp_path / "cache"))
    assert [(row["original"], row["caption"], row["failure"]) for row in rows] == [
        ("fine", "A red circle on grass.", None), ("busy", "A blue square.", None), ("down", None, "http_500"),
        ("refused", None, "http_400"), ("moved", None, "http_307"), ("short", None, "length"), ("cut", None, "cut_off"),
        ("junk", None, "malformed_reply"),
    ]  # fmt: skip
    assert server.asked == {
        "fine": 1, "busy": 3, "down": 3, "refused": 1, "moved": 1, "short": 1, "cut": 1, "junk": 1,
    }  # fmt: skip
    assert sorted(waits) == [1.0, 2.0, 2.0, 8.0]
    again = list(recaption(SAMPLES[:2], endpoint_of(server, waits), CONFIG, tmp_path / "cache"))
    assert again == rows[:2]
    assert server.asked["fine"] == 1
    list(recaption(SAMPLES[:1], endpoint_of(server, waits), replace(CONFIG, model="other"), tmp_path / "cache"))
    assert server.asked["fine"] == 2


def test_what_is_sent_is_the_image_the_prompt_and_the_key(server: Server, tmp_path: Path) -> None:
    list(recaption(SAMPLES[:1], endpoint_of(server, []), CONFIG, tmp_path / "cache"))
    assert (server.last["path"], server.last["key"]) == ("/v1/chat/completions", "Bearer secret")
    text, image = server.last["messages"][0]["content"]
    assert text == {"type": "text", "text": "Better than fine?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert (server.last["model"], server.last["temperature"]) == ("seer", 0)
    assert "secret" not in repr(endpoint_of(server, []))


def test_a_wrong_key_ends_the_job_in_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="answers 401; check ARM_CAPTION_ENDPOINT, ARM_CAPTION_KEY"):
        list(recaption([captioned("key", picture(1), "key")], endpoint_of(server, []), CONFIG, tmp_path / "cache"))


def test_the_old_caption_stays_as_a_variant_and_a_failed_sample_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawled = shards(tmp_path / "a", SAMPLES[0], SAMPLES[3], captioned("import", picture(9), "fine", "books"))
    config = CurateConfig(recaption=replace(CONFIG, max_failed_share=0.5), workers=1)
    monkeypatch.delenv("ARM_CAPTION_ENDPOINT", raising=False)
    with pytest.raises(UserError, match="needs ARM_CAPTION_ENDPOINT"):
        curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=crawled)
    monkeypatch.setenv("ARM_CAPTION_ENDPOINT", endpoint_of(server, []).url)
    counts = curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=crawled).counts
    assert (counts["samples_kept"], counts["recaptioned"], counts["recaption_failed/http_400"]) == (3, 1, 1)
    kept = list(read_shard(tmp_path / "out/shards/crawl-00000.tar"))
    assert [sample.parts[1] for sample in kept] == [
        Text(text=text, role="caption") for text in ("A red circle on grass.", "refused", "fine")
    ]
    assert [sample.meta.get("description") for sample in kept] == ["fine", None, None]
    table = pq.read_table(tmp_path / "out/captions/part-00000.parquet").to_pylist()
    assert [row["uid"] for row in table] == [make_uid("fine"), make_uid("refused")]
    config = replace(config, recaption=CONFIG)
    with pytest.raises(ArmError, match=r"1 of 2 images got no caption \({'http_400': 1}\), more than max_failed_share"):
        curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=crawled)
