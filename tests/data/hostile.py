"""A server that behaves in some seventy bad ways, each under a host name of its own, and what the guard must say to each.

with hostile_server(folder) as server:          listens on loopback, thread by thread
    server.exceptions                           drip-body.test -> (127.0.0.1, port), ...
CASES                                           Case("drip-body", "timeout_body"), ...
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bombs import HEAVY, PNG, bomb, text_bomb, turned
from certificates import make_certificates

Answer = Callable[[socket.socket], None]


@dataclass(frozen=True, slots=True)
class Case:
    """A behaviour and the reason under which it is counted; an empty reason means that the image comes."""

    name: str
    reason: str
    url: str = ""
    """When it is not `http://<name>.test/image`."""

    @property
    def address(self) -> str:
        return self.url or f"http://{self.name}.test/image"

    @property
    def is_slow(self) -> bool:
        """Whether it is the deadline that ends it."""
        return "timeout" in self.reason or self.name == "robots-drip"


CASES = (
    Case("good", ""),
    Case("turned", ""),
    Case("redirect-once", ""),
    Case("tls-good", "", "https://tls-good.test/image"),
    Case("absent", "http_404"),
    Case("drip-body", "timeout_body"),
    Case("drip-chunks", "timeout_body"),
    Case("drip-headers", "timeout_headers"),
    Case("never-answers", "timeout_headers"),
    Case("never-accepts", "timeout_connect"),
    Case("tls-never-answers", "timeout_tls", "https://tls-never-answers.test/image"),
    Case("endless-body", "too_large"),
    Case("endless-chunks", "too_large"),
    Case("tiny-chunks", "too_large"),
    Case("stated-large", "too_large"),
    Case("huge-header", "bad_headers"),
    Case("endless-header", "bad_headers"),
    Case("many-headers", "bad_headers"),
    Case("endless-continue", "bad_headers"),
    Case("negative-length", "bad_headers"),
    Case("worded-length", "bad_headers"),
    Case("two-lengths", "bad_headers"),
    Case("garbage", "bad_answer"),
    Case("hangs-up", "reset"),
    Case("reset-inside", "reset"),
    Case("truncated", "truncated"),
    Case("truncated-chunks", "truncated"),
    Case("truncated-image", "truncated_image"),
    Case("bomb", "too_many_pixels"),
    Case("text-bomb", "damaged"),
    Case("empty", "empty"),
    Case("html", "not_an_image"),
    Case("svg", "not_an_image"),
    Case("gzip", "encoded_body"),
    Case("gzip-bomb", "encoded_body"),
    Case("throttled", "http_429"),
    Case("throttled-until", "http_429"),
    Case("unavailable", "http_503"),
    Case("robots-disallow", "robots"),
    Case("robots-mark", "robots"),
    Case("robots-endless", "robots"),
    Case("robots-agents", "robots"),
    Case("robots-500", "robots_unreachable"),
    Case("robots-drip", "robots_unreachable"),
    Case("noai", "noai"),
    Case("noai-for-us", "noai"),
    Case("redirect-loopback", "redirect_private_address"),
    Case("redirect-metadata", "redirect_private_address"),
    Case("redirect-mapped", "redirect_private_address"),
    Case("redirect-file", "redirect_scheme"),
    Case("redirect-ftp", "redirect_scheme"),
    Case("redirect-data", "redirect_scheme"),
    Case("redirect-userinfo", "redirect_userinfo"),
    Case("redirect-crlf", "redirect_bad_url"),
    Case("redirect-forbidden", "robots"),
    Case("redirect-loop", "redirects"),
    Case("redirect-hosts", "redirects"),
    Case("tls-self-signed", "tls_self_signed", "https://tls-self-signed.test/image"),
    Case("tls-wrong-host", "tls_wrong_host", "https://tls-wrong-host.test/image"),
    Case("tls-expired", "tls_expired", "https://tls-expired.test/image"),
    Case("tls-plain", "tls", "https://good.test/image"),
    Case("loopback", "private_address", "http://127.0.0.1/image"),
    Case("metadata", "private_address", "http://169.254.169.254/latest/meta-data/"),
    Case("mapped", "private_address", "http://[::ffff:127.0.0.1]/image"),
    Case("decimal", "private_address", "http://2130706433/image"),
    Case("octal", "private_address", "http://0177.0.0.1/image"),
    Case("hexadecimal", "private_address", "http://0x7f.1/image"),
    Case("userinfo", "userinfo", "http://public.test@127.0.0.1/image"),
    Case("file", "scheme", "file:///etc/passwd"),
    Case("ftp", "scheme", "ftp://good.test/image"),
    Case("no-host", "bad_url", "http://"),
    Case("no-name", "dns", "http://absent.invalid/image"),
    Case("mixed-answers", "private_address"),
)


def send(status: str = "200 OK", body: bytes = b"", **headers: str) -> Answer:
    """A plain answer; a header `Content_Length` replaces the true one."""
    fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(f"HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n".encode("latin-1") + body)


def raw(data: bytes) -> Answer:
    return lambda channel: channel.sendall(data)


def stream(first: bytes, again: bytes, pause: float = 0.0) -> Answer:
    """Something, and then the same for ever."""

    def answer(channel: socket.socket) -> None:
        channel.sendall(first)
        while True:
            channel.sendall(again)
            time.sleep(pause)

    return answer


def redirect(location: str) -> Answer:
    return send("302 Found", Location=location)


def hang_up(data: bytes = b"") -> Answer:
    """Some bytes, then a reset."""

    def answer(channel: socket.socket) -> None:
        channel.sendall(data)
        time.sleep(0.05)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        channel.close()

    return answer


def sleep(channel: socket.socket) -> None:
    """Longer than anybody's deadline: who closes first would decide the reason."""
    time.sleep(600)


OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVERYBODY = b"User-agent: *\nDisallow: /image\n"
ANSWERS: dict[str, Answer] = {
    "good": send(body=PNG),
    "turned": send(body=turned()),
    "drip-body": stream(OK + b"Content-Length: 10000\r\n\r\n", b"x", 0.05),
    "drip-chunks": stream(CHUNKED, b"1\r\nx\r\n", 0.05),
    "drip-headers": stream(OK, b"X", 0.05),
    "never-answers": sleep,
    "endless-body": stream(OK + b"\r\n", bytes(1 << 16)),
    "endless-chunks": stream(CHUNKED, b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
    "tiny-chunks": stream(CHUNKED, b"1\r\nx\r\n" * 10_000),
    "stated-large": send(body=b"x", Content_Length=str(10**12)),
    "huge-header": raw(OK + b"X: " + b"y" * 200_000 + b"\r\n\r\n"),
    "endless-header": stream(OK + b"X: ", b"y" * 10_000),
    "many-headers": raw(OK + b"X: y\r\n" * 200 + b"\r\n"),
    "endless-continue": stream(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "negative-length": send(body=PNG, Content_Length="-1"),
    "worded-length": send(body=PNG, Content_Length="many"),
    "two-lengths": raw(OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg"),
    "garbage": raw(b"\x00\xff<html>hello</html>\r\n\r\n"),
    "hangs-up": hang_up(),
    "reset-inside": hang_up(OK + b"Content-Length: 100\r\n\r\nx"),
    "truncated": send(body=PNG[:50], Content_Length=str(len(PNG))),
    "truncated-chunks": raw(CHUNKED + b"10\r\nabc"),
    "truncated-image": send(body=PNG[:-40]),
    "bomb": send(body=bomb()),
    "text-bomb": send(body=text_bomb()),
    "empty": send(),
    "html": send(body=b"<html>", Content_Type="image/png"),
    "svg": send(body=b"<svg xmlns='http://www.w3.org/2000/svg'/>", Content_Type="image/svg+xml"),
    "gzip": send(body=PNG, Content_Encoding="gzip"),
    "gzip-bomb": send(body=zlib.compress(bytes(1 << 20), wbits=31), Content_Encoding="gzip"),
    "throttled": send("429 Too Many Requests", Retry_After="3600"),
    "throttled-until": send("429 Too Many Requests", Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"),
    "unavailable": send("503 Service Unavailable"),
    "noai": send(body=PNG, X_Robots_Tag="noindex, noai"),
    "noai-for-us": send(body=PNG, X_Robots_Tag="otherbot: noindex, arm-platform: noimageai"),
    "redirect-once": redirect("http://good.test/image"),
    "redirect-loopback": redirect("http://127.0.0.1:80/image"),
    "redirect-metadata": redirect("http://169.254.169.254/latest/meta-data/"),
    "redirect-mapped": redirect("http://[::ffff:169.254.169.254]/"),
    "redirect-file": redirect("file:///etc/passwd"),
    "redirect-ftp": redirect("ftp://good.test/image"),
    "redirect-data": redirect("data:image/png;base64,iVBORw0KGgo="),
    "redirect-userinfo": redirect("http://good.test:80@127.0.0.1/image"),
    "redirect-crlf": redirect("/image\r\n X-Forwarded-For: 127.0.0.1"),
    "redirect-forbidden": redirect("http://robots-disallow.test/image"),
    "redirect-loop": redirect("/image"),
    "redirect-hosts": redirect("http://redirect-hosts-2.test/image"),
    "redirect-hosts-2": redirect("http://redirect-hosts.test/image"),
}
for name in ("robots-disallow", "robots-mark", "robots-endless", "robots-agents", "robots-500", "robots-drip"):
    ANSWERS[name] = send(body=PNG)
for name in ("tls-good", "tls-self-signed", "tls-wrong-host", "tls-expired"):
    ANSWERS[name] = send(body=PNG)
ROBOTS: dict[str, Answer] = {
    "robots-disallow": send(body=EVERYBODY),
    "robots-mark": send(body=b"\xef\xbb\xbf" + EVERYBODY),
    "robots-endless": stream(OK + b"\r\n" + EVERYBODY, b"Disallow: /" + b"a" * 999 + b"\n"),
    "robots-agents": send(body=b"".join(b"User-agent: %x\n" % n for n in range(20_000)) + EVERYBODY),
    "robots-500": send("500 Internal Server Error"),
    "robots-drip": stream(OK + b"\r\n", b"x", 0.05),
}
NOT_FOUND = send("404 Not Found")


@dataclass
class HostileServer:
    """Where it listens, and what it was asked for."""

    exceptions: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    certificates: Path = Path()
    """The authority that signed the good certificate."""


@contextlib.contextmanager
def hostile_server(folder: Path) -> Iterator[HostileServer]:
    """Serve every behaviour from threads of this process."""
    server, listeners = HostileServer(), list[socket.socket]()
    contexts = make_certificates(folder)
    server.certificates = folder / "authority.pem"
    for context in ("", *contexts):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listeners.append(listener)
        names = [context] if context else [name for name in ANSWERS if name not in contexts]
        server.exceptions |= {f"{name}.test": ("127.0.0.1", listener.getsockname()[1]) for name in names}
        threading.Thread(target=_accept, args=(server, listener, contexts.get(context)), daemon=True).start()
    full, waiting = _never_accepts()
    server.exceptions["never-accepts.test"] = ("127.0.0.1", full.getsockname()[1])
    server.exceptions |= {f"{name}.test": server.exceptions["good.test"] for name in ("absent", *HEAVY)}
    server.exceptions["tls-never-answers.test"] = server.exceptions["never-answers.test"]
    try:
        yield server
    finally:
        for channel in (full, *waiting, *listeners):
            channel.close()


def add_heavy_images() -> None:
    """Serve the large good images as well: making them takes seconds, so nobody must wait for it."""
    for name, make in HEAVY.items():
        ANSWERS[name] = send(body=make())


def _never_accepts() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full: the kernel answers no further SYN."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for channel in waiting:
        channel.setblocking(False)
        channel.connect_ex(listener.getsockname())
    return listener, waiting


def _accept(server: HostileServer, listener: socket.socket, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):  # closed: the end
        while True:
            channel, _ = listener.accept()
            threading.Thread(target=_serve, args=(server, channel, context), daemon=True).start()


def _serve(server: HostileServer, channel: socket.socket, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), channel:
        channel.settimeout(10)
        if context is not None:
            channel = context.wrap_socket(channel, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            data = channel.recv(1 << 16)
            if not data:
                return
            head += data
            if head[:1] == b"\x16":  # somebody talks TLS to a server that does not
                sleep(channel) if b"never-answers" in head else channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
        path = head.split(b" ")[1].decode()
        host = next(line[6:].decode() for line in head.split(b"\r\n") if line.startswith(b"Host: "))
        server.asked.append(host + path)
        name = host.partition(".")[0].partition(":")[0]
        (ROBOTS if path == "/robots.txt" else ANSWERS).get(name, NOT_FOUND)(channel)
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_WR)
            channel.recv(1)  # until the other side has read it and leaves
