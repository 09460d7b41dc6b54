"""One POST to a JSON service, tried again where trying helps. Standard library only.

    429, 5xx, no answer in time, no connection      again, after a random wait of up to base × 2^n seconds, or Retry-After
    any other status                                Refused: the same request would be refused again

A redirect is refused (`arm.posting`). The key is in no message.
"""

import contextlib
import json
import random
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from arm import posting
from arm.errors import ServiceError

MAX_BYTES = 256 << 20
MAX_WAIT_SECONDS = 120.0


class Refused(Exception):
    """The service will not do this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how long to wait; sleep and chance are arguments, so that tests take no time."""

    attempts: int = 6
    base_seconds: float = 1.0
    timeout_seconds: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def wait(self, attempt: int, asked: str | None) -> None:
        """Wait before the next attempt: what the service asks for, else at random up to base × 2^attempt."""
        drawn = self.chance() * self.base_seconds * 2**attempt
        with contextlib.suppress(ValueError):  # a date: the random wait will do
            drawn += float(asked or 0)
        self.sleep(min(drawn, MAX_WAIT_SECONDS))


def post(url: str, body: bytes, headers: Mapping[str, str], retries: Retries) -> dict[str, Any]:
    """The JSON object of the reply; Refused, or ServiceError after the last attempt."""
    problem = ""
    for attempt in range(retries.attempts):
        asked = None
        try:
            data = posting.post(url, body, headers, timeout_seconds=retries.timeout_seconds, max_bytes=MAX_BYTES)
            return _object(data, url)
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}: {error.read(2000).decode(errors='replace').strip()[:200]}"
            if error.code in posting.REFUSING:
                raise ServiceError(
                    f"{url} refuses to answer anything ({problem}); check the address, the key and the model."
                ) from None
            if error.code != 429 and error.code < 500:
                raise Refused(problem) from None
            asked = error.headers.get("Retry-After")
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        if attempt + 1 < retries.attempts:
            retries.wait(attempt, asked)
    raise ServiceError(f"{url} gave no answer in {retries.attempts} attempts (the last: {problem}).")


def _object(data: bytes, url: str) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise Refused(f"no JSON object came from {url}: {data[:80]!r}")
    return values
