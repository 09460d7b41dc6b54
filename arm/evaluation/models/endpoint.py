"""A model behind an OpenAI-compatible endpoint: chat with images, images/generations, images/edits.

    OPENAI_BASE_URL   http://127.0.0.1:8000/v1, https://api.openai.com/v1, …
    OPENAI_API_KEY    the key, where one is needed

A request that the service refuses is a failed item with its reason; a service that is away stops the run, which goes on
when it is started again. The images API has no seed: seeds number the samples there, and the protocol says so.
"""

import base64
import binascii
import io
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from arm.data.images import flatten
from arm.errors import ServiceError, UserError
from arm.evaluation.imaging import encode_png
from arm.evaluation.items import Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Question, Unable
from arm.posting import post
from arm.retries import RefusedError, Retries, ShutOutError, UnansweredError

Made = TypeVar("Made")
MAX_PIXELS = 50_000_000
MAX_REPLY_BYTES = 256 << 20
TIMEOUT_SECONDS = 300.0


class UnusableError(Exception):
    """A reply came, and holds no answer."""


class Endpoint(Unable):
    """One model at one address, `batch_size` requests in flight."""

    independent = True

    def __init__(self, config: ModelConfig, address: str, key: str, retries: Retries) -> None:
        self.config, self.name, self.retries = config, config.model, retries
        self._address, self._key = address.rstrip("/"), key

    def protocol(self) -> dict[str, Any]:
        """The model's name there; the address is no part of it."""
        size = self.config.image_size or None
        return {"endpoint_model": self.name, "max_tokens": self.config.max_tokens, "image_size": size, "seeded": False}

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        """One chat of one turn a question, images first, temperature 0."""
        return self._all(partial(self._answer, max_tokens=max_tokens or self.config.max_tokens), questions)

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """One request a prompt."""
        with clock.phase("all"):
            return self._all(self._draw, drawings)

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """One request a source."""
        return self._all(self._edit, drawings)

    def _all(self, ask: Callable[[Any], Made], items: Sequence[Any]) -> list[Made | Failed]:
        def one(item: Any) -> Made | Failed:
            try:
                return ask(item)
            except (RefusedError, UnusableError) as error:
                return Failed(str(error))

        with ThreadPoolExecutor(self.config.batch_size) as pool:
            return list(pool.map(one, items))

    def _answer(self, question: Question, max_tokens: int) -> str:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_base64(image)}"}}
            for image in question.images
        ]
        content.append({"type": "text", "text": question.text})
        reply = self._post_json(
            "chat/completions",
            messages=[{"role": "user", "content": content}], max_tokens=max_tokens, temperature=0,
        )  # fmt: skip
        try:
            text = reply["choices"][0]["message"]["content"]
        except (LookupError, TypeError):
            text = None
        if not isinstance(text, str):
            raise UnusableError(f"the reply holds no text: {json.dumps(reply)[:120]}")
        return text.strip()

    def _draw(self, drawing: Drawing) -> Pixels:
        settings = {**self._size(), **self._format()}
        return _image(self._post_json("images/generations", prompt=drawing.prompt, n=1, **settings))

    def _edit(self, drawing: Drawing) -> Pixels:
        assert drawing.source is not None, f"{drawing.uid} has no source image"
        fields = {"model": self.name, "prompt": drawing.prompt, "n": "1", **self._size(), **self._format()}
        body, boundary = _multipart(fields, encode_png(drawing.source))
        return _image(self._post("images/edits", body, f"multipart/form-data; boundary={boundary}"))

    def _size(self) -> dict[str, str]:
        side = self.config.image_size
        return {"size": f"{side}x{side}"} if side else {}

    def _format(self) -> dict[str, str]:
        """gpt-image models always send base64 and refuse the field; others send a link without it."""
        return {} if self.name.startswith("gpt-image") else {"response_format": "b64_json"}

    def _post_json(self, path: str, **values: Any) -> dict[str, Any]:
        return self._post(path, json.dumps({"model": self.name, **values}).encode(), "application/json")

    def _post(self, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        headers = {"Content-Type": content_type, "User-Agent": "arm-platform"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._address}/{path}"
        call = partial(post, url, body, headers, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_REPLY_BYTES)
        try:
            return _object(self.retries.ask(call))
        except RefusedError:
            raise  # this item alone fails
        except ShutOutError as error:
            raise ServiceError(
                f"{url} refuses to answer anything ({error}); check the address, the key and the model."
            ) from None
        except UnansweredError as error:
            raise ServiceError(f"{url} gave no answer in {error.attempts} attempts (the last: {error}).") from None


def load(config: ModelConfig, retries: Retries | None = None) -> Endpoint:
    """The endpoint that the environment names; nothing is asked of it yet."""
    address = os.environ.get("OPENAI_BASE_URL", "")
    if not address:
        raise UserError("OPENAI_BASE_URL is not set; give the endpoint's address, such as http://127.0.0.1:8000/v1.")
    return Endpoint(config, address, os.environ.get("OPENAI_API_KEY", ""), retries or Retries())


def _object(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UnusableError(f"the reply is no JSON object: {data[:80]!r}")
    return values


def _image(reply: Mapping[str, Any]) -> Pixels:
    try:
        data = base64.b64decode(reply["data"][0]["b64_json"], validate=True)
        with PIL.Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}×{picture.height} pixels")
            return np.asarray(flatten(picture))
    except (LookupError, TypeError, ValueError, binascii.Error, OSError, PIL.Image.DecompressionBombError) as error:
        raise UnusableError(f"the reply holds no image in b64_json ({error}): {json.dumps(reply)[:80]}") from None


def _base64(pixels: Pixels) -> str:
    return base64.b64encode(encode_png(pixels)).decode()


def _multipart(fields: Mapping[str, str], png: bytes) -> tuple[bytes, str]:
    """A form with one file; the boundary is drawn, so that no prompt can hold it."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return b"".join([*parts, head.encode(), png, f"\r\n--{boundary}--\r\n".encode()]), boundary
