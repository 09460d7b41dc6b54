"""One client for every judge behind an OpenAI-compatible endpoint: for benchmarks and for rewards.

    judge = Judge(config, JudgeLedger("judge.sqlite"), endpoint_from_environment())
    judge.ask_all([Question(rubric, {"prompt": "two cats"}, (png,))])      one reply a question, in their order

record asks what the ledger does not hold; replay never asks: what was not recorded is failed. A reply's key is the content
of the question (model, rubric with version, text, pictures, settings), never the address. `arm.retries` says what is
asked again, and when.
"""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from random import Random
from typing import Any

from arm.errors import ServiceError, UserError
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.judge_ledger import JudgeLedger, JudgeReply
from arm.evaluation.rubric import Rubric, read_reply
from arm.posting import post
from arm.retries import Retries, ShutOutError, UnansweredError, reason_in

ADDRESS, KEY = "ARM_JUDGE_URL", "ARM_JUDGE_KEY"
MAX_REPLY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """What one judgement is about."""

    rubric: Rubric
    fields: Mapping[str, str]
    images: tuple[bytes, ...] = ()
    """PNG files."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the judge is asked: never part of a key, never written down."""

    url: str
    key: str = field(default="", repr=False)


@dataclass(slots=True)
class Clock:
    """Time and chance, so that tests need neither."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Random = field(default_factory=Random)


def endpoint_from_environment() -> Endpoint:
    """The address and the key in ARM_JUDGE_URL and ARM_JUDGE_KEY."""
    if not (url := os.environ.get(ADDRESS)):
        raise UserError(f"{ADDRESS} is not set; give the judge's address, such as https://api.openai.com/v1.")
    return Endpoint(url.rstrip("/"), os.environ.get(KEY, ""))


class Judge:
    """Asks questions, within a rate and a budget, and keeps what it is told."""

    def __init__(
        self, config: JudgeConfig, ledger: JudgeLedger, endpoint: Endpoint | None = None, clock: Clock | None = None
    ) -> None:
        if config.mode == "record" and endpoint is None:
            raise UserError("A judge that records needs an endpoint; use mode='replay' to ask nobody.")
        self.config, self.ledger, self.endpoint = config, ledger, endpoint
        self.clock = clock or Clock()
        self._retries = Retries(
            attempts=config.max_attempts, first_wait_seconds=config.first_wait_seconds,
            longest_wait_seconds=config.longest_wait_seconds, sleep=self.clock.sleep, chance=self.clock.random.random,
        )  # fmt: skip
        self._lock, self._next = threading.Lock(), 0.0
        self._asking: dict[str, Future[JudgeReply]] = {}

    def ask_all(self, questions: Sequence[Question]) -> list[JudgeReply]:
        """One reply a question, in the questions' order, whoever answers first."""
        with ThreadPoolExecutor(self.config.num_workers) as pool:
            return list(pool.map(self.ask, questions))

    def ask(self, question: Question) -> JudgeReply:
        """The recorded reply, or a new one; equal questions that are asked at once are one call."""
        rubric = question.rubric
        if len(question.images) != rubric.images:
            raise UserError(f"The rubric {rubric.name} shows {rubric.images} images, not {len(question.images)}.")
        body = request_body(question, self.config)
        key = content_key(question, body)
        with self._lock:
            asked = self._asking.get(key)
            mine = self._asking.setdefault(key, Future())
        if asked is not None:
            return asked.result()
        try:
            mine.set_result(self._find_or_call(key, body, rubric))
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._asking[key]
        return mine.result()

    def _find_or_call(self, key: str, body: Mapping[str, Any], rubric: Rubric) -> JudgeReply:
        config = self.config
        if found := self.ledger.find(key):
            return found
        if config.mode == "replay":
            return JudgeReply(outcome="failed", reason="not recorded")
        if config.max_dollars and self.ledger.dollars() >= config.max_dollars:
            return JudgeReply(outcome="failed", reason=f"the budget of ${config.max_dollars:g} is spent")
        answer, attempts, reason = self._call(body)
        reply = JudgeReply(outcome="failed", reason=reason) if answer is None else read_answer(answer, rubric)
        tokens = _tokens(answer or {})
        dollars = (tokens[0] * config.dollars_per_million_input + tokens[1] * config.dollars_per_million_output) / 1e6
        return self.ledger.record(
            key, reply, model=config.model, rubric=f"{rubric.name} {rubric.version}", attempts=attempts,
            tokens=tokens, dollars=dollars,
        )  # fmt: skip

    def _call(self, body: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int, str]:
        """The endpoint's answer, the attempts it took, and why there is none."""
        attempts = 0

        def call() -> dict[str, Any]:
            nonlocal attempts
            attempts += 1
            self._wait_for_turn()
            return self._post(body)

        try:
            return self._retries.ask(call), attempts, ""
        except ShutOutError as error:
            raise ServiceError(f"The judge refused ({error}); check {ADDRESS}, {KEY} and the model.") from None
        except UnansweredError as error:
            return None, attempts, str(error)

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        assert self.endpoint is not None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.endpoint.key}"}
        data = post(
            f"{self.endpoint.url}/chat/completions", json.dumps(body).encode(), headers,
            timeout_seconds=self.config.timeout_seconds, max_bytes=MAX_REPLY_BYTES,
        )  # fmt: skip
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise HTTPException(f"the answer is no JSON object: {data[:80]!r}")  # cut off: the next may be whole
        if answer.get("error") and not answer.get("choices"):  # gateways say so with status 200: nobody answered
            raise HTTPException(f"the answer is an error: {reason_in(data.decode(errors='replace'))[:80]}")
        return answer

    def _wait_for_turn(self) -> None:
        """Calls of all threads are spread evenly over the minute."""
        if not self.config.calls_per_minute:
            return
        with self._lock:
            turn = max(self._next, self.clock.now())
            self._next = turn + 60 / self.config.calls_per_minute
            wait = turn - self.clock.now()
        if wait > 0:
            self.clock.sleep(wait)


def request_body(question: Question, config: JudgeConfig) -> dict[str, Any]:
    """What is sent: one message with the rendered rubric and the pictures, and the schema of the answer."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question.rubric.render(question.fields)}]
    for image in question.images:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    body: dict[str, Any] = {
        "model": config.model, "temperature": config.temperature, config.length_field: config.max_tokens,
        "messages": [{"role": "user", "content": content}],
    }  # fmt: skip
    if question.rubric.schema:
        schema = {"name": question.rubric.name, "strict": True, "schema": question.rubric.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def content_key(question: Question, body: Mapping[str, Any]) -> str:
    """sha256 of everything that can change the answer."""
    text = json.dumps([question.rubric.name, question.rubric.version, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_answer(answer: Mapping[str, Any], rubric: Rubric) -> JudgeReply:
    """The scores in an answer; a refusal, a cut or filtered text, and what does not fit the schema are unscorable."""
    try:
        choice = answer["choices"][0]
        message, end = choice["message"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError):
        message = end = None
    if not isinstance(message, dict):
        return JudgeReply(outcome="unscorable", reason=f"no choice in {str(answer)[:80]}")
    if message.get("refusal") or not isinstance(message.get("content"), str):
        return JudgeReply(outcome="unscorable", reason=f"refused: {message.get('refusal') or end}")
    found = read_reply(message["content"], rubric.schema)
    if isinstance(found, str):
        return JudgeReply(outcome="unscorable", reason=f"{found} ({end})")
    return JudgeReply(outcome="ok", value=found)


def _tokens(answer: Mapping[str, Any]) -> tuple[int, int]:
    """Read and written; 0 where the endpoint says nothing, or null."""
    usage = answer.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
