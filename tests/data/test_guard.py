"""The guard against hostile servers: nothing gets through, nothing stalls, each under its own reason."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import PIL.Image
import pytest
from bombs import PNG
from hostile import CASES, Case, HostileServer, hostile_server
from pictures import picture

from arm.data import connection
from arm.data.addresses import CACHE_SECONDS, PublicResolver, Refused, is_public, system_resolver
from arm.data.budget import Budget
from arm.data.guard import Fetched, Guard, Policy
from arm.data.images import encode_image

AGENT = "arm-platform/0.1 (test)"
ANSWERS = {"mixed-answers.test": ("93.184.216.34", "10.0.0.1")}


def resolve(host: str) -> tuple[str, ...]:
    """The made-up hosts, and what the system makes of numbers."""
    return ANSWERS.get(host) or (system_resolver(host) if host[0].isdigit() else ())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileServer]:
    """The hostile server, whose authority is trusted meanwhile."""
    with hostile_server(tmp_path_factory.mktemp("certificates")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(server.certificates))
        connection._tls.cache_clear()
        yield server
    connection._tls.cache_clear()


def guard_of(server: HostileServer, timeout_seconds: float) -> Guard:
    policy = Policy(
        user_agent=AGENT, max_bytes=200_000, timeout_seconds=timeout_seconds, exceptions=server.exceptions
    )  # fmt: skip
    return Guard(policy, resolver=resolve)


@pytest.fixture(scope="module")
def patient(server: HostileServer) -> Guard:
    """A guard whose deadline plays no part, however busy the machine is."""
    return guard_of(server, 60)


@pytest.fixture(scope="module")
def timed_out(server: HostileServer) -> dict[str, Fetched]:
    """What becomes of the servers that only the deadline ends, all asked at once."""
    slow, guard = [case for case in CASES if case.is_slow], guard_of(server, 1.5)
    with ThreadPoolExecutor(len(slow)) as pool:
        found = pool.map(guard.fetch, [case.address for case in slow])
        return dict(zip([case.name for case in slow], found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_behaviour_has_its_reason(case: Case, patient: Guard, timed_out: dict[str, Fetched]) -> None:
    fetched = timed_out[case.name] if case.is_slow else patient.fetch(case.address)
    assert fetched.reason == case.reason
    assert (fetched.body is None) == bool(case.reason)
    if case.name == "turned":
        with PIL.Image.open(io.BytesIO(fetched.body or b"")) as upright:
            assert upright.size == (2, 4)
    elif not case.reason:
        assert fetched.body == PNG


def test_what_robots_forbid_is_not_even_asked_for(server: HostileServer) -> None:
    before, guard = len(server.asked), guard_of(server, 60)
    for _ in range(2):
        assert guard.fetch("http://robots-disallow.test/image").reason == "robots"
    assert server.asked[before:] == ["robots-disallow.test/robots.txt"]


def test_the_verdicts_say_which_rule_when_and_how_often(server: HostileServer) -> None:
    guard = guard_of(server, 60)
    for name in ("robots-disallow", "robots-disallow", "robots-500", "good", "noai"):
        guard.fetch(f"http://{name}.test/image")
    told = {(site, origin, rule): count for (site, _, origin, rule), count in guard.log._robots.items()}
    assert told == {
        ("http://robots-disallow.test", "rules", "Disallow: /image"): 2,
        ("http://robots-500.test", "unreachable http_500", "unreachable http_500"): 1,
        ("http://good.test", "http_404", None): 1,
        ("http://noai.test", "http_404", None): 1,
    }
    assert [(url, header) for url, header, _ in guard.log._opt_outs] == [("http://noai.test/image", "noindex, noai")]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1", "fe80::1", "::ffff:8.8.8.8",
     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fc00::1", "fec0::1", "nonsense"],
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


def test_a_host_that_is_bound_anew_is_connected_to_where_it_was_checked_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A public answer, then a private one: the first is asked once and connected to; after its time the second stops it."""
    answers, now, tried = iter([("93.184.216.34",), ("127.0.0.1",)]), 0.0, []

    def connect(address: tuple[str, int], timeout: float) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(connection.socket, "create_connection", connect)
    policy = Policy(user_agent=AGENT, robots=False)
    guard = Guard(policy, resolver=lambda host: next(answers), clock=lambda: now)
    reasons = [guard.fetch("http://rebinding.test/a").reason for _ in range(2)]
    now = CACHE_SECONDS + 1
    reasons += [guard.fetch("http://rebinding.test/a").reason for _ in range(2)]
    assert reasons == ["connection", "connection", "private_address", "private_address"]
    assert tried == [("93.184.216.34", 80)] * 2


def test_an_image_over_the_pixel_limit_is_not_decoded() -> None:
    def fetch(max_pixels: int) -> None:
        guard = Guard(Policy(user_agent=AGENT, max_pixels=max_pixels))
        guard._checked(encode_image(picture(0)).data)

    fetch(36 * 36)
    with pytest.raises(Refused, match="too_many_pixels"):
        fetch(36 * 36 - 1)


class KeepingOpen(BaseHTTPRequestHandler):
    """Keeps its connections open, unless the path says that it hangs up after the answer."""

    protocol_version = "HTTP/1.1"
    clients: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.clients.append(self.client_address[1])
        self.send_response(200 if self.path != "/robots.txt" else 404)
        self.send_header("Content-Length", str(len(PNG) if self.path != "/robots.txt" else 0))
        self.end_headers()
        self.wfile.write(PNG if self.path != "/robots.txt" else b"")
        self.close_connection = self.path == "/last"

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_one_connection_carries_many_requests_and_one_that_was_closed_is_opened_anew() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), KeepingOpen) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, daemon=True).start()
        exceptions = {"open.test": ("127.0.0.1", http.server_port)}
        guard = Guard(Policy(user_agent=AGENT, timeout_seconds=60, exceptions=exceptions))
        for path in ("a", "b", "last", "c", "d"):
            assert guard.fetch(f"http://open.test/{path}").body == PNG
        http.shutdown()
    asked = KeepingOpen.clients
    assert len(asked) == 6  # robots.txt and five images
    assert [len(set(asked[:4])), len(set(asked[4:])), len(set(asked))] == [1, 1, 2]


def test_memory_is_taken_from_a_budget_and_given_back_once() -> None:
    budget = Budget(10)
    lease = budget.take(7)
    waiting = ThreadPoolExecutor(1).submit(lambda: budget.take(30))  # more than there is: all of it
    assert not waiting.done()
    lease.release()
    lease.release()
    assert waiting.result(60) is not None
    del waiting
    budget.take(10)
