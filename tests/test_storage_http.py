"""Web servers are asked politely: again when they refuse for now, on from where a body broke off, and not for ever."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from arm.data.config import ExtractConfig
from arm.data.crawl_files import crawl_files
from arm.errors import ServiceError, UserError
from arm.outside import content_digest, fetched, outside_addresses, released
from arm.storage.http import Politeness, version

BODY = bytes(range(256)) * 1000
QUICK = Politeness(attempts=4, first_wait_seconds=0.01, timeout_seconds=5)


class Throttling(BaseHTTPRequestHandler):
    """Answers each path by its list of answers, then with the file: a status, `cut` (half of the body), `to ADDRESS`."""

    protocol_version = "HTTP/1.1"
    plans: ClassVar[dict[str, list[object]]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range")))
        plan = self.plans.get(self.path, [])
        step = plan.pop(0) if len(plan) > 1 or (plan and plan[0] != "always") else None
        if isinstance(step, int):
            self.answer(step, b"")
        elif isinstance(step, str) and step.startswith("to "):
            self.answer(302, b"", to=step[3:])
        elif self.headers.get("If-None-Match") == '"v1"':
            self.answer(304, b"")
        else:
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            self.answer(206 if start else 200, BODY[start:], start, cut=step == "cut")

    def answer(self, status: int, body: bytes, start: int = 0, *, cut: bool = False, to: str = "") -> None:
        self.send_response(status)
        if to:
            self.send_header("Location", to)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"v1"')
        if status == 429:
            self.send_header("Retry-After", "0")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ARM_CACHE_DIR", str(tmp_path / "cache"))
    Throttling.plans, Throttling.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Throttling)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_who_is_told_to_slow_down_asks_again_and_a_second_fetch_transfers_nothing(address: str) -> None:
    Throttling.plans["/x.wat.gz"] = [503, 403, 429]
    assert fetched(f"{address}/x.wat.gz", QUICK).read_bytes() == BODY
    assert len(Throttling.asked) == 4
    released(f"{address}/x.wat.gz")
    Throttling.plans["/x.wat.gz"] = [304]
    assert fetched(f"{address}/x.wat.gz", QUICK).read_bytes() == BODY


def test_a_body_that_breaks_off_goes_on_where_it_ended(address: str) -> None:
    Throttling.plans["/x.wat.gz"] = ["cut", 503, "cut"]
    assert fetched(f"{address}/x.wat.gz", QUICK).read_bytes() == BODY
    ranges = [place for _, place in Throttling.asked]
    assert ranges == [None, "bytes=128000-", "bytes=128000-", "bytes=192000-"]


def test_a_file_that_does_not_come_fails_in_a_sentence_that_names_it(address: str) -> None:
    Throttling.plans["/x.wat.gz"] = [503] * 4
    with pytest.raises(ServiceError, match=r"/x\.wat\.gz could not be fetched in 4 attempts \(the server answered 503"):
        fetched(f"{address}/x.wat.gz", QUICK)
    Throttling.plans["/gone.wat.gz"] = [404]
    with pytest.raises(UserError, match=r"There is no file at .*/gone\.wat\.gz"):
        fetched(f"{address}/gone.wat.gz", QUICK)


def test_five_redirects_are_followed_and_no_more(address: str) -> None:
    hops = {f"/{number}.gz": [f"to {address}/{number + 1}.gz"] * 4 for number in range(5)}
    Throttling.plans |= {**hops, "/more.gz": ["to /0.gz"] * 4}
    once = Politeness(attempts=1, timeout_seconds=5)
    assert fetched(f"{address}/0.gz", once).read_bytes() == BODY
    assert [path for path, _ in Throttling.asked] == [f"/{number}.gz" for number in range(6)]
    assert version(f"{address}/0.gz", once) == f'{len(BODY)} "v1"'
    with pytest.raises(ServiceError, match=r"could not be fetched in 1 attempts .*redirects"):
        fetched(f"{address}/more.gz", once)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x.gz"])
def test_a_redirect_away_from_http_is_refused_at_once(address: str, place: str) -> None:
    Throttling.plans["/x.gz"] = [f"to {place}", "always"]
    with pytest.raises(UserError, match=r"/x\.gz' is no web address, or leads to none; give http"):
        fetched(f"{address}/x.gz", QUICK)
    assert len(Throttling.asked) == 1


def test_a_web_address_is_named_by_its_path_and_identified_without_being_read(address: str) -> None:
    url = f"{address}/a/x.wat.gz"
    assert outside_addresses(url) == {"a/x.wat.gz": url}
    assert content_digest(url, None) == content_digest(url, None) != content_digest(f"{address}/b/x.wat.gz", None)


def test_a_listing_names_files_below_its_base(tmp_path: Path) -> None:
    listing = tmp_path / "wat.paths"
    listing.write_text("b/2.wat.gz\n\na/1.wat.gz\n")
    config = ExtractConfig(paths=(str(listing),), listing_base="https://data.test/")
    found = [(file.name, file.address) for file in crawl_files(config, None)]
    assert found == [("a/1.wat.gz", "https://data.test/a/1.wat.gz"), ("b/2.wat.gz", "https://data.test/b/2.wat.gz")]
    with pytest.raises(UserError, match="listing_base is empty"):
        crawl_files(ExtractConfig(paths=(str(listing),)), None)
    (tmp_path / "x.wat.gz").touch()
    assert [file.name for file in crawl_files(ExtractConfig(paths=(str(tmp_path),)), None)] == ["x.wat.gz"]
    listing.write_text("../secret.wat.gz\n")
    with pytest.raises(UserError, match=r"Line 1 of .* is '\.\./secret\.wat\.gz'"):
        crawl_files(config, None)
