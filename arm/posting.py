"""One POST to a service that knows us by a key. Standard library only.

A redirect is not followed, since it would carry the key to another host: it is an HTTPError like any other status.
"""

import urllib.request
from collections.abc import Mapping
from typing import Any

from arm.errors import UserError

REFUSING = (401, 403, 404)
"""Statuses that every request would meet, and that asking on does not mend: a wrong key, address or model."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """Follow none."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The reply's first `max_bytes`; urllib's HTTPError for a status that is no success, else OSError or HTTPException."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"The address {url!r} is neither http:// nor https://.")
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    with _OPENER.open(request, timeout=timeout_seconds) as reply:
        data: bytes = reply.read(max_bytes)
    return data
