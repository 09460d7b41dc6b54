"""A TCP proxy that counts the bytes that a server sends: what was really fetched, whatever the client says."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class CountingProxy:
    """Passes connections on to a server; `num_bytes` is what the server has answered so far, headers included."""

    def __init__(self, host: str, port: int) -> None:
        self.num_bytes = 0
        self.break_after: int | None = None
        """Cut the next answer after this many bytes, once."""
        self._server = (host, port)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for source, target, counted in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, target, counted), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if counted:
                    with self._lock:
                        self.num_bytes += len(data)
                        if self.break_after is not None and passed > self.break_after:
                            self.break_after = None
                            break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def counting_proxy(address: str) -> Iterator[CountingProxy]:
    """A proxy in front of `http://host:port`."""
    host, _, port = address.removeprefix("http://").partition(":")
    proxy = CountingProxy(host, int(port))
    try:
        yield proxy
    finally:
        proxy.close()
