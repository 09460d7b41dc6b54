"""New captions by a vision model behind an OpenAI-compatible endpoint: vLLM, SGLang, a vendor.

    ARM_CAPTION_ENDPOINT=http://127.0.0.1:8000/v1  ARM_CAPTION_KEY=…        never in a config, a key or an artifact

    captions/part-00000.parquet     uid, original, caption (null: failed), failure
    [image, 'IMG_1234 red thing']  ->  [image, 'A red circle on …'], meta {'description': 'IMG_1234 red thing'}

The original stays as a variant of the text. A reply is cached under what was asked (model, prompt, image), so that a run
which is repeated or cut short asks nothing twice; what failed is counted by reason and keeps its caption.
"""

import base64
import hashlib
import json
import os
import sqlite3
import time
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import RecaptionConfig
from arm.data.normalisation import normalise_caption
from arm.errors import UserError
from arm.posting import REFUSING, post
from arm.records import Image, Sample, Text

CAPTIONS = pa.schema(
    [("uid", pa.string()), ("original", pa.string()), ("caption", pa.string()), ("failure", pa.string())]
)
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
MAX_REPLY_BYTES = 1 << 20
MAX_WAIT_SECONDS = 60.0
Row = dict[str, Any]


class FailedError(Exception):
    """Why a sample got no caption: the message is the reason that is counted."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where captions are asked for."""

    url: str
    key: str = field(repr=False)
    pause: Callable[[float], None] = time.sleep

    def ask(self, sample: Sample, config: RecaptionConfig) -> str:
        """The caption of a sample's image; FailedError when there is none after all attempts."""
        body = json.dumps(_question(sample, config)).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        address, seconds = f"{self.url}/chat/completions", config.timeout_seconds
        for attempt in range(config.attempts):
            try:
                data = post(address, body, headers, timeout_seconds=seconds, max_bytes=MAX_REPLY_BYTES)
                return _caption_of(data, config)
            except urllib.error.HTTPError as error:
                reason, wait = f"http_{error.code}", _retry_after(error)
                if error.code in REFUSING:
                    raise UserError(
                        f"{self.url} answers {error.code}; check ARM_CAPTION_ENDPOINT, ARM_CAPTION_KEY and "
                        f"RecaptionConfig.model ({config.model!r})."
                    ) from None
                if error.code not in RETRIED:
                    raise FailedError(reason) from None
            except (OSError, ValueError) as error:  # no connection, time-out, an answer that breaks off
                reason, wait = "timeout" if isinstance(error, TimeoutError) else "connection", None
            if attempt + 1 < config.attempts:
                self.pause(min(MAX_WAIT_SECONDS, wait if wait is not None else 2.0**attempt))
        raise FailedError(reason)


def find_endpoint() -> Endpoint:
    """The endpoint that the environment names."""
    url = os.environ.get("ARM_CAPTION_ENDPOINT", "").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"CurateConfig.recaption needs ARM_CAPTION_ENDPOINT, which is {url!r}; set it to an address such as "
            "http://127.0.0.1:8000/v1."
        )
    return Endpoint(url, os.environ.get("ARM_CAPTION_KEY", ""))


def recaption(samples: Iterable[Sample], endpoint: Endpoint, config: RecaptionConfig, cache: Path) -> Iterator[Row]:
    """Rows of CAPTIONS for the captioned images of the sources, in order; `concurrency` are asked at once."""
    wanted = (sample for sample in samples if sample.source in config.sources and _is_captioned(sample))
    with closing(sqlite3.connect(cache)) as known, ThreadPoolExecutor(config.concurrency) as pool:
        known.execute("create table if not exists captions (question text primary key, caption text not null)")
        while window := list(islice(wanted, 8 * config.concurrency)):
            keys = [_key(sample, config) for sample in window]
            cached = [
                known.execute("select caption from captions where question = ?", (key,)).fetchone() for key in keys
            ]
            waiting = [
                None if found else pool.submit(endpoint.ask, sample, config)
                for sample, found in zip(window, cached, strict=True)
            ]
            for sample, key, found, asked in zip(window, keys, cached, waiting, strict=True):
                caption: str | None = found[0] if found else None
                failure: str | None = None
                if asked is not None:
                    try:
                        caption = asked.result()
                        known.execute("insert or ignore into captions values (?, ?)", (key, caption))
                        known.commit()
                    except FailedError as error:
                        failure = str(error)
                yield {"uid": sample.uid, "original": _text(sample).text, "caption": caption, "failure": failure}


def with_caption(sample: Sample, caption: str) -> Sample:
    """The sample under its new caption; the old one stays as a variant."""
    old = _text(sample)
    meta = sample.meta if sample.meta.get("description") else sample.meta | {"description": old.text}
    return replace(sample, parts=(sample.parts[0], replace(old, text=caption)), meta=meta)


def _is_captioned(sample: Sample) -> bool:
    kinds = [type(part) for part in sample.parts]
    return kinds == [Image, Text] and _text(sample).role == "caption"


def _text(sample: Sample) -> Text:
    part = sample.parts[-1]
    assert isinstance(part, Text)
    return part


def _prompt(sample: Sample, config: RecaptionConfig) -> str:
    return config.prompt.replace("{caption}", _text(sample).text)


def _key(sample: Sample, config: RecaptionConfig) -> str:
    """What is asked, as one digest: another model, prompt or image is another question."""
    image = sample.parts[0]
    assert isinstance(image, Image)
    digest = hashlib.sha256(image.data).hexdigest()
    text = json.dumps([config.model, _prompt(sample, config), config.max_tokens, digest])
    return hashlib.sha256(text.encode()).hexdigest()


def _question(sample: Sample, config: RecaptionConfig) -> Row:
    image = sample.parts[0]
    assert isinstance(image, Image)
    data = f"data:{MEDIA_TYPES[image.format]};base64,{base64.b64encode(image.data).decode()}"
    content = [
        {"type": "text", "text": _prompt(sample, config)},
        {"type": "image_url", "image_url": {"url": data}},
    ]
    messages = [{"role": "user", "content": content}]
    return {"model": config.model, "messages": messages, "max_tokens": config.max_tokens, "temperature": 0, "seed": 0}


def _caption_of(data: bytes, config: RecaptionConfig) -> str:
    """The caption in an answer: one line, not empty, not cut off, not endless."""
    try:
        choice = json.loads(data)["choices"][0]
        caption = normalise_caption(str(choice["message"]["content"] or ""))
    except (LookupError, TypeError, ValueError):
        raise FailedError("malformed_reply") from None
    if choice.get("finish_reason") == "length":
        raise FailedError("cut_off")
    if not config.min_characters <= len(caption) <= config.max_characters:
        raise FailedError("length")
    return caption


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "") if error.headers else ""
    return float(value) if value.isdigit() else None
