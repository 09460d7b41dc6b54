"""The replay server gives back a crawl's answers, and dies with its parent."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders  # type: ignore[import-untyped]
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]

from arm.data.replay import read_responses, replay

ANSWERS = {
    "http://garden.test/a.png?size=2": (
        "200 OK",
        [("Content-Type", "image/png"), ("X-Robots-Tag", "noai")],
        b"picture",
    ),
    "http://garden.test/old": ("302 Found", [("Location", "http://garden.test/a.png?size=2")], b""),
    "http://pond.test:8771/": ("200 OK", [("Transfer-Encoding", "chunked")], b"4\r\nhome\r\n0\r\n\r\n"),
    "http://pond.test/gone": ("410 Gone", [], b"gone"),
}


@pytest.fixture
def warc(tmp_path: Path) -> Path:
    path = tmp_path / "site.warc.gz"
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for url, (status, headers, body) in ANSWERS.items():
            http_headers = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
            writer.write_record(writer.create_warc_record(url, "response", io.BytesIO(body), http_headers=http_headers))
    return path


def _get(port: int, host: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def test_status_headers_and_body_are_the_recorded_ones(warc: Path) -> None:
    with replay([warc]) as server:
        assert server.hosts == ["garden.test", "pond.test"]
        assert _get(server.port, "garden.test", "/a.png?size=2") == (
            200, {"Content-Type": "image/png", "X-Robots-Tag": "noai", "Content-Length": "7"}, b"picture",
        )  # fmt: skip
        status, headers, body = _get(server.port, "garden.test", "/old")
        assert (status, headers["Location"], body) == (302, "http://garden.test/a.png?size=2", b"")
        assert _get(server.port, "pond.test", "/gone")[0] == 410


def test_the_port_of_the_host_may_differ_and_chunks_are_joined(warc: Path) -> None:
    with replay([warc]) as server:
        for host in ("pond.test:8771", "pond.test", f"pond.test:{server.port}", "POND.test"):
            assert _get(server.port, host, "/")[2] == b"home"


def test_what_the_crawl_lacks_is_a_404_and_head_sends_no_body(warc: Path) -> None:
    with replay([warc]) as server:
        assert _get(server.port, "garden.test", "/a.png")[0] == 404
        assert _get(server.port, "elsewhere.test", "/old")[0] == 404
        status, headers, body = _get(server.port, "garden.test", "/a.png?size=2", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "7", b"")


def test_one_connection_serves_many_requests(warc: Path) -> None:
    with replay([warc]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(3):
            connection.request("GET", "/a.png?size=2", headers={"Host": "garden.test"})
            assert connection.getresponse().read() == b"picture"


def test_a_child_tells_its_port_and_dies_with_its_parent(warc: Path) -> None:
    starter = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'arm.data.replay', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "print(child.pid, child.stdout.readline().decode(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter, str(warc)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, _, told = parent.stdout.readline().partition(" ")
    address = json.loads(told)
    assert _get(address["port"], "garden.test", "/a.png?size=2")[2] == b"picture"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]:
            break
        time.sleep(0.05)
    else:
        assert not os.path.exists(f"/proc/{pid}")


def test_the_real_crawl_is_replayed(shared: Path) -> None:
    warc = shared / "crawl" / "skimage-gallery.warc.gz"
    responses = read_responses([warc])
    images = [path for host, path in responses if host == "127.0.0.1" and path.endswith(".png")]
    assert len(images) == 148
    with replay([warc]) as server:
        for host in ("127.0.0.1:8771", f"127.0.0.1:{server.port}"):
            status, headers, body = _get(server.port, host, images[0])
            assert (status, headers["Content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
