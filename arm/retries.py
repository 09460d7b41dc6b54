"""Asking a service again: which failures another attempt may mend, how long to wait before it, and how many there are.

    Retries(attempts=4).ask(lambda: post(url, ...))    503                      waits U(0, 1) seconds
                                                       429, Retry-After: 7      waits 7 + U(0, 2)
                                                       no answer in time        waits U(0, 4)
                                                       the reply

No wait is longer than `longest_wait_seconds`, whatever the service asks for. Standard library only.
"""

import contextlib
import email.utils
import json
import math
import random
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

Answer = TypeVar("Answer")
PASSING = frozenset({408, 409, 425, 429})
"""Statuses that another attempt may mend, beside all from 500 on."""
REFUSING = frozenset({401, 403, 404})
"""Statuses that every request would meet: a wrong key, address or model."""
MAX_PROBLEM_CHARACTERS = 200
MAX_BODY_BYTES = 64 << 10
"""Of a refusal that is read: JSON that is cut off is no JSON."""
SAYING = ("message", "detail", "code", "type")
"""Fields that say why in the JSON of a refusal, the clearest first: of OpenAI's API, vLLM, FastAPI."""


class UnansweredError(Exception):
    """No answer came in all attempts. The message is the last failure: `HTTP 503: down`, `TimeoutError: timed out`."""

    def __init__(self, problem: str, *, status: int | None, attempts: int) -> None:
        super().__init__(problem)
        self.status, self.attempts = status, attempts


class RefusedError(UnansweredError):
    """The service refused this request, and would refuse it again."""


class ShutOutError(UnansweredError):
    """The service would refuse every request; see REFUSING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a service is asked, and how long to wait in between."""

    attempts: int = 6
    first_wait_seconds: float = 1.0
    """Longest random wait after the first attempt; it doubles from attempt to attempt."""
    longest_wait_seconds: float = 120.0
    """Longest wait of all, Retry-After included."""
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    now: Callable[[], float] = time.time

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """What the call returns; UnansweredError, from the last failure, when it fails to the end or cannot be mended.

        A failure is an OSError, an HTTPException, or urllib's HTTPError for a status; all else that is raised passes.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return call()
            except (OSError, HTTPException) as error:
                failure = _failure(error, attempt)
                if attempt == self.attempts or type(failure) is not UnansweredError:
                    raise failure from error
                header = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
                asked = retry_after(header, self.now()) or 0.0
            self.sleep(self._wait(attempt, asked))

    def _wait(self, attempt: int, asked: float) -> float:
        """The random part comes on top of what is asked for: clients that were sent away together return one by one."""
        longest = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** (attempt - 1))
        return min(self.longest_wait_seconds, asked + self.chance() * longest)


def retry_after(value: str, now: float) -> float | None:
    """Seconds that a Retry-After header asks to wait, given as seconds or as a date; None when it says nothing."""
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def reason_in(body: str) -> str:
    """Why a service refused, out of the body of its refusal; the body itself where it is not such JSON.

    {"error": {"message": "content policy", "code": "policy"}}  ->  content policy
    {"error": "busy"}                                           ->  busy
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return body.strip()
    if isinstance(found, dict):
        found = found.get("error") or found
    if isinstance(found, dict):
        found = next((found[name] for name in SAYING if isinstance(found.get(name), str | int) and found[name]), None)
    return str(found).strip() if isinstance(found, str | int) else body.strip()


def _failure(error: OSError | HTTPException, attempts: int) -> UnansweredError:
    if not isinstance(error, urllib.error.HTTPError):
        reason = getattr(error, "reason", None)  # urllib wraps what broke while it connected
        cause = reason if isinstance(reason, Exception) else error
        return UnansweredError(f"{type(cause).__name__}: {cause}", status=None, attempts=attempts)
    status, text = error.code, ""
    with error, contextlib.suppress(OSError, HTTPException):
        text = reason_in(error.read(MAX_BODY_BYTES).decode(errors="replace"))
    kind: type[UnansweredError] = RefusedError
    if status in REFUSING:
        kind = ShutOutError
    elif status in PASSING or status >= 500:
        kind = UnansweredError
    problem = f"HTTP {status}: {(text or str(error.reason))[:MAX_PROBLEM_CHARACTERS]}"
    return kind(problem, status=status, attempts=attempts)
