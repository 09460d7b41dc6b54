"""Which addresses may be reached: every address of a host must be public, and the one that was checked is connected to.

    resolve("garden.test")   ->  ("93.184.216.34",)   or Refused("private_address")

Checking a name and connecting to the name again would let a second DNS answer through (rebinding).
"""

import contextlib
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

Resolver = Callable[[str], tuple[str, ...]]
"""Host name -> IP addresses; raises OSError when there are none."""

CACHE_SECONDS, ABSENT_SECONDS = 300.0, 60.0
"""How long the addresses of a host are remembered, and that it has none."""
MAX_KNOWN = 50_000
"""Hosts that are remembered."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that carry an IPv4 address in their last 32 bits."""


class Refused(Exception):
    """The guard does not fetch this; the reason goes to the failures table."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, embedded IPv4 addresses included."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.is_site_local:  # fec0::/10, deprecated by RFC 3879 and still routed inside a site; `is_global` says yes
            return False
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


def system_resolver(host: str) -> tuple[str, ...]:
    """The addresses that the operating system knows for a host."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class PublicResolver:
    """Resolves hosts, remembers the answers for five minutes, and refuses hosts with any address that is not public."""

    def __init__(self, resolver: Resolver = system_resolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver, self._clock, self._lock = resolver, clock, threading.Lock()
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._asking = tuple(threading.Lock() for _ in range(64))

    def __call__(self, host: str) -> tuple[str, ...]:
        """The public addresses of a host; Refused("dns") or Refused("private_address")."""
        with self._asking[hash(host) % len(self._asking)]:  # one question, however many threads want the answer
            addresses = self._known_addresses(host)
            if addresses is None:
                addresses = self._ask(host)
                self._remember(host, addresses)
        if not addresses:
            raise Refused("dns")
        if not all(is_public(address) for address in addresses):
            raise Refused("private_address")
        return addresses

    def _known_addresses(self, host: str) -> tuple[str, ...] | None:
        with self._lock:
            until, addresses = self._known.get(host, (0.0, ()))
        return addresses if self._clock() < until else None

    def _remember(self, host: str, addresses: tuple[str, ...]) -> None:
        with self._lock:
            self._known[host] = (self._clock() + (CACHE_SECONDS if addresses else ABSENT_SECONDS), addresses)
            self._known.move_to_end(host)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _ask(self, host: str) -> tuple[str, ...]:
        with contextlib.suppress(ValueError):
            return (str(ipaddress.ip_address(host)),)
        try:
            return self._resolver(host)
        except (OSError, UnicodeError):
            return ()
