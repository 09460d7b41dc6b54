"""The guard against hostile servers: nothing gets through, nothing stalls, each under its own reason."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import PIL.Image
import pytest
from pictures import picture

from arm.data.addresses import PublicResolver, Refused, is_public
from arm.data.guard import Guard, Policy, checked_image, forbids_ai
from arm.data.images import encode_image

PNG = encode_image(picture(0)).data
AGENT = "arm-platform/0.1 (test)"


class Hostile(BaseHTTPRequestHandler):
    """Behaves badly as the path says."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        getattr(self, "answer_" + self.path.strip("/").split("/")[0].replace(".", "_"), self.answer_missing)()

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def answer_robots_txt(self) -> None:
        self.send(b"User-agent: *\nDisallow: /secret\n")

    def answer_good(self) -> None:
        self.send(PNG)

    answer_secret = answer_good

    def answer_missing(self) -> None:
        self.send(b"no", 404)

    def answer_drip(self) -> None:
        self.send(b"", length=100)
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def answer_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x" * 10_000)

    def answer_large(self) -> None:
        self.send(b"x", length=10**9)

    def answer_cut(self) -> None:
        self.send(PNG[:50], length=len(PNG))
        self.close_connection = True

    def answer_html(self) -> None:
        self.send(b"<html>")

    def answer_noai(self) -> None:
        self.send(PNG, X_Robots_Tag="otherbot: noindex, arm-platform: noai")

    def answer_gzip(self) -> None:
        self.send(PNG, Content_Encoding="gzip")

    def answer_loop(self) -> None:
        self.send(b"", 302, Location="/loop")

    def answer_once(self) -> None:
        self.send(b"", 301, Location="/good")

    def answer_inside(self) -> None:
        self.send(b"", 302, Location="http://169.254.169.254/latest/meta-data/")

    def answer_file(self) -> None:
        self.send(b"", 302, Location="file:///etc/passwd")

    def answer_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    policy = Policy(
        user_agent=AGENT,
        max_bytes=100_000,
        timeout_seconds=0.6,
        exceptions={"site.test": ("127.0.0.1", server.server_port)},
    )
    yield Guard(policy, resolver=lambda host: ("10.0.0.1",) if host == "inside.test" else ())
    server.shutdown()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://site.test/good", ""),
        ("http://site.test/once", ""),
        ("http://site.test/missing", "http_404"),
        ("http://site.test/secret", "robots"),
        ("http://site.test/drip", "timeout"),
        ("http://site.test/endless", "too_large"),
        ("http://site.test/large", "too_large"),
        ("http://site.test/cut", "truncated"),
        ("http://site.test/html", "not_an_image"),
        ("http://site.test/noai", "noai"),
        ("http://site.test/gzip", "encoded_body"),
        ("http://site.test/loop", "redirects"),
        ("http://site.test/inside", "private_address"),
        ("http://site.test/file", "scheme"),
        ("http://site.test/headers", "connection"),
        ("http://me:pw@site.test/good", "userinfo"),
        ("http://inside.test/good", "private_address"),
        ("http://absent.test/good", "dns"),
        ("http://[::ffff:127.0.0.1]/good", "private_address"),
        ("file:///etc/passwd", "scheme"),
        ("http://", "bad_url"),
        ("", "scheme"),
    ],
)
def test_each_behaviour_has_its_reason(guard: Guard, url: str, reason: str) -> None:
    fetched = guard.fetch(url)
    assert fetched.reason == reason
    assert (fetched.body == PNG) == (reason == "")


def test_what_robots_forbid_is_not_even_asked_for(guard: Guard) -> None:
    guard.fetch("http://site.test/secret")
    assert "/secret" not in Hostile.asked
    assert Hostile.asked.count("/robots.txt") == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1", "fe80::1", "::ffff:8.8.8.8",
     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fc00::1", "nonsense"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


def test_one_private_address_among_public_ones_refuses_the_host_and_answers_are_kept() -> None:
    answers = iter([("8.8.8.8", "10.0.0.1"), ("8.8.8.8",)])
    resolve = PublicResolver(lambda host: next(answers))
    for _ in range(2):
        with pytest.raises(Refused, match="private_address"):
            resolve("rebinding.test")


def test_a_host_that_fails_too_often_is_given_up() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        policy = Policy(
            user_agent=AGENT, robots=False, max_host_failures=2, exceptions={"down.test": closed.getsockname()}
        )
        guard = Guard(policy)
        assert [guard.fetch("http://down.test/a").reason for _ in range(3)] == ["connection", "connection", "host_down"]


def test_an_image_is_turned_upright_and_a_bomb_is_not_decoded() -> None:
    exif, buffer = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (4, 2)).save(buffer, "jpeg", exif=exif)
    with PIL.Image.open(io.BytesIO(checked_image(buffer.getvalue(), 100))) as upright:
        assert upright.size == (2, 4)
    with pytest.raises(Refused, match="too_many_pixels"):
        checked_image(PNG, 36 * 36 - 1)


@pytest.mark.parametrize(
    ("header", "forbidden"),
    [
        ("noai", True),
        ("noimageai, nofollow", True),
        ("nofollow", False),
        ("otherbot: noai", False),
        ("otherbot: nofollow, noai", False),
        ("arm-platform: noindex", True),
    ],
)
def test_robots_tags_count_for_everybody_or_for_us(header: str, forbidden: bool) -> None:
    assert forbids_ai([header], AGENT) == forbidden
