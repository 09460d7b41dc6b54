"""One POST to a service that knows us by a key. Standard library only.

A redirect is not followed, since it would carry the key to another host: it is an HTTPError like any other status.
"""

import urllib.request
from collections.abc import Mapping
from http.client import IncompleteRead
from typing import Any

from arm.errors import UserError


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """Follow none."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The reply's first `max_bytes`; urllib's HTTPError for a status that is no success, else OSError or HTTPException, for
    a reply that was cut off too."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"The address {url!r} is neither http:// nor https://.")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):  # urllib's own error would show the key
            raise UserError(f"The header {name} holds a line break or a letter beyond ASCII; check the key's end.")
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    with _OPENER.open(request, timeout=timeout_seconds) as reply:
        data: bytes = reply.read(max_bytes)
        if len(data) < max_bytes and reply.length:  # http.client keeps quiet about it when told how much to read
            raise IncompleteRead(data, reply.length)
    return data
