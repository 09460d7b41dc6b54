"""Rewards from a judge over HTTP. A call that fails makes its sample *missing* (masked later), never 0.

The judge service of a recipe:

    POST {"task": "text_to_image" | "edit", "prompt", "meta", "image": base64 PNG, "source": base64 PNG | null}
      -> {"outcome": "ok" | "unscorable" | "failed", "score": 0..1, "strict": bool, "parts": {name: 0..1}, "reason"}

429, 5xx, timeouts, broken connections and the outcome `failed` are tried again, with growing jittered waits and a
bound; `unscorable`, any other status and an unreadable reply are final. JSON only, nothing is guessed.
A model behind an OpenAI-compatible endpoint is asked by `arm.rl.rubrics`.
"""

import base64
import http.client
import json
import math
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from arm.errors import UserError
from arm.rl.config import RewardConfig

MAX_REPLY_BYTES = 1 << 20
MAX_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgeable:
    """One rendered image and what was asked for."""

    task: str
    """`text_to_image` or `edit`."""
    prompt: str
    meta: Mapping[str, Any]
    image: bytes
    """PNG."""
    source: bytes | None = None
    """The image that was to be edited, as found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The judge's verdict as one number; `value` is None when it is missing, and `reason` says why."""

    value: float | None
    parts: dict[str, float] = field(default_factory=dict)
    reason: str = ""


class Rewarder(Protocol):
    """Gives rewards, several at a time."""

    def submit(self, item: Judgeable) -> "Future[Reward]":
        """Start judging an image; the future never raises."""
        ...


class ByTask:
    """Sends each image to the rewarder of its task."""

    def __init__(self, rewarders: Mapping[str, Rewarder]) -> None:
        self._rewarders = rewarders

    def submit(self, item: Judgeable) -> "Future[Reward]":
        """Start judging an image; the future never raises."""
        return self._rewarders[item.task].submit(item)


class JudgeClient:
    """Sends images to one judge, several at a time."""

    def __init__(self, address: str, config: RewardConfig) -> None:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UserError(f"The judge's address {address!r} is no URL; give http://host:port.")
        self._url, self._config, self._local = url, config, threading.local()
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="judge")

    def submit(self, item: Judgeable) -> "Future[Reward]":
        """Start judging an image; the future never raises."""
        return self._pool.submit(self._judge, item)

    def close(self) -> None:
        """Drop what has not been sent."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _judge(self, item: Judgeable) -> Reward:
        body = encode(item)
        reason = ""
        for attempt in range(self._config.num_retries + 1):
            if attempt:
                _wait(self._config.retry_seconds * 2 ** (attempt - 1))
            try:
                status, data = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                self._drop_connection()
                reason = f"no answer ({type(error).__name__})"
                continue
            reward, again = read_reply(status, data, getattr(self._config, item.task))
            if not again:
                return reward
            reason = reward.reason
        return Reward(value=None, reason=reason)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", self._url.path or "/", body, headers)
        response = connection.getresponse()
        data = response.read(MAX_REPLY_BYTES)
        if not response.isclosed():
            self._drop_connection()
        return response.status, data

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            found = kind(self._url.hostname or "", self._url.port, timeout=self._config.timeout_seconds)
            self._local.connection = found
        return found

    def _drop_connection(self) -> None:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
        self._local.connection = None


def encode(item: Judgeable) -> bytes:
    """The body of a call."""
    source = base64.b64encode(item.source).decode() if item.source is not None else None
    image = base64.b64encode(item.image).decode()
    values = {"task": item.task, "prompt": item.prompt, "meta": dict(item.meta), "image": image, "source": source}
    return json.dumps(values).encode()


def read_reply(status: int, data: bytes, weights: Mapping[str, float]) -> tuple[Reward, bool]:
    """What a reply is worth, and whether the call should be tried again."""
    if status == 429 or status >= 500:
        return Reward(value=None, reason=f"status {status}"), True
    if status != 200:
        return Reward(value=None, reason=f"status {status}"), False
    try:
        values = json.loads(data)
        outcome = values["outcome"]
        if outcome != "ok":
            return Reward(value=None, reason=f"{outcome}: {values.get('reason', '')}"), outcome == "failed"
        parts = {name: float(value) for name, value in values.get("parts", {}).items()}
        parts |= {"score": float(values["score"]), "strict": float(values["strict"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        return Reward(value=None, reason="an unreadable reply"), False
    return combine(parts, weights), False


def combine(parts: dict[str, float], weights: Mapping[str, float]) -> Reward:
    """Weigh the parts into one reward in 0..1; a part that is absent or out of range makes it missing.

    {"score": .75, "strict": 1.0} with weights {"score": .5, "strict": .5}  ->  .875
    """
    for name in weights:
        if name not in parts:
            return Reward(value=None, parts=parts, reason=f"the reply has no part {name!r}")
        if not (math.isfinite(parts[name]) and 0 <= parts[name] <= 1):
            return Reward(value=None, parts=parts, reason=f"the part {name!r} is outside 0..1")
    return Reward(value=sum(weight * parts[name] for name, weight in weights.items()), parts=parts)


def _wait(seconds: float) -> None:
    """Sleep for half to one and a half of the time, so that clients do not return in step."""
    time.sleep(min(seconds, MAX_WAIT_SECONDS) * random.uniform(0.5, 1.5))
