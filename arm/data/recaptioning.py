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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import RecaptionConfig
from arm.data.normalisation import normalise_caption
from arm.errors import UserError
from arm.posting import post
from arm.records import Image, Sample, Text
from arm.retries import Retries, ShutOutError, UnansweredError

CAPTIONS = pa.schema(
    [("uid", pa.string()), ("original", pa.string()), ("caption", pa.string()), ("failure", pa.string())]
)
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
MAX_REPLY_BYTES = 1 << 20
Row = dict[str, Any]


class FailedError(Exception):
    """Why a sample got no caption: the message is the reason that is counted."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where captions are asked for."""

    url: str
    key: str = field(repr=False)
    retries: Retries = field(default_factory=Retries)

    def ask(self, sample: Sample, config: RecaptionConfig) -> str:
        """The caption of a sample's image; FailedError when there is none after all attempts."""
        body = json.dumps(_question(sample, config)).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        call = partial(
            post, f"{self.url}/chat/completions", body, headers,
            timeout_seconds=config.timeout_seconds, max_bytes=MAX_REPLY_BYTES,
        )  # fmt: skip
        try:
            data = replace(self.retries, attempts=config.attempts).ask(call)
        except ShutOutError as error:
            raise UserError(
                f"{self.url} answers {error.status}; check ARM_CAPTION_ENDPOINT, ARM_CAPTION_KEY and "
                f"RecaptionConfig.model ({config.model!r})."
            ) from None
        except UnansweredError as error:
            silent = "timeout" if isinstance(error.__cause__, TimeoutError) else "connection"
            raise FailedError(f"http_{error.status}" if error.status else silent) from None
        return _caption_of(data, config)


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
