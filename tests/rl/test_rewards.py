"""The reward client against a real server on the loopback that fails, limits, hangs and talks nonsense."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from loopback import JsonHandler, serving

from arm.errors import ServiceError, UserError
from arm.rl.config import RewardConfig
from arm.rl.judging import check_health, judge_address
from arm.rl.rewards import Judgeable, JudgeClient, Reward, combine, read_reply

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]
WEIGHTS = {"score": 0.5, "strict": 0.5}
PATIENT = RewardConfig(judge="t", text_to_image=WEIGHTS, retry_seconds=0.01, num_retries=3, timeout_seconds=0.5)


def ok(score: float, strict: bool) -> dict[str, Any]:
    return {"outcome": "ok", "score": score, "strict": strict, "parts": {}, "reason": ""}


@contextmanager
def judge(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve `answer(request, number of calls so far with this prompt)`; yields the address and what was received."""
    received: list[dict[str, Any]] = []

    class Handler(JsonHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.read())
            before = sum(other["prompt"] == request["prompt"] for other in received)
            received.append(request)
            status, reply = answer(request, before)
            with suppress(BrokenPipeError):
                self.reply(reply, status)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", received


def item(prompt: str = "a circle", source: bytes | None = None) -> Judgeable:
    return Judgeable(task="text_to_image", prompt=prompt, meta={"n": 1}, image=b"png", source=source)


def rewards_of(address: str, items: list[Judgeable], config: RewardConfig = PATIENT) -> list[Reward]:
    client = JudgeClient(address, config)
    try:
        return [future.result() for future in [client.submit(one) for one in items]]
    finally:
        client.close()


def test_a_verdict_becomes_the_weighted_sum_of_its_parts() -> None:
    with judge(lambda request, before: (200, ok(0.5, True))) as (address, received):
        (reward,) = rewards_of(address, [item(source=b"src")])
    assert reward.value == 0.75
    assert reward.parts == {"score": 0.5, "strict": 1.0}
    assert base64.b64decode(received[0]["image"]) == b"png"
    assert base64.b64decode(received[0]["source"]) == b"src"
    assert received[0]["meta"] == {"n": 1}


def test_rewards_stay_with_their_images_when_some_calls_fail() -> None:
    def answer(request: dict[str, Any], before: int) -> tuple[int, Any]:
        number = int(request["prompt"])
        return (500, {}) if number % 3 == 0 else (200, ok(number / 20, False))

    with judge(answer) as (address, _):
        rewards = rewards_of(address, [item(str(n)) for n in range(20)])
    expected = [None if n % 3 == 0 else pytest.approx(n / 40) for n in range(20)]
    assert [reward.value for reward in rewards] == expected


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_judge_is_asked_again(status: int) -> None:
    with judge(lambda request, before: (status, {}) if before < 2 else (200, ok(1, True))) as (address, received):
        (reward,) = rewards_of(address, [item()])
    assert (reward.value, len(received)) == (1.0, 3)


def test_a_judge_that_stays_busy_makes_the_reward_missing_after_bounded_tries() -> None:
    with judge(lambda request, before: (429, {})) as (address, received):
        (reward,) = rewards_of(address, [item()])
    assert (reward.value, reward.reason, len(received)) == (None, "status 429", 4)


def test_a_hanging_judge_times_out_and_is_asked_again() -> None:
    def answer(request: dict[str, Any], before: int) -> tuple[int, Any]:
        time.sleep(0 if before else 2)
        return 200, ok(1, True)

    with judge(answer) as (address, received):
        (reward,) = rewards_of(address, [item()])
    assert (reward.value, len(received)) == (1.0, 2)


def test_a_judge_that_is_gone_makes_the_reward_missing() -> None:
    with judge(lambda request, before: (200, ok(1, True))) as (address, _):
        pass
    (reward,) = rewards_of(address, [item()])
    assert reward.value is None
    assert "ConnectionRefusedError" in reward.reason


def test_a_refused_request_is_final() -> None:
    with judge(lambda request, before: (400, {})) as (address, received):
        (reward,) = rewards_of(address, [item()])
    assert (reward.value, len(received)) == (None, 1)


@pytest.mark.parametrize(
    ("outcome", "calls"), [("unscorable", 1), ("failed", 4)], ids=["unscorable is final", "failed is tried again"]
)
def test_an_image_without_a_score_is_missing_not_zero(outcome: str, calls: int) -> None:
    reply = {"outcome": outcome, "score": 0.0, "strict": False, "parts": {}, "reason": "why"}
    with judge(lambda request, before: (200, reply)) as (address, received):
        (reward,) = rewards_of(address, [item()])
    assert (reward.value, reward.reason, len(received)) == (None, f"{outcome}: why", calls)


@pytest.mark.parametrize(
    "reply",
    [b"not json", b"[]", b'{"outcome": "ok"}', b'{"outcome": "ok", "score": "high", "strict": true}', b"null"],
)
def test_an_unreadable_reply_is_missing_and_nothing_is_guessed(reply: bytes) -> None:
    reward, again = read_reply(200, reply, WEIGHTS)
    assert (reward.value, again) == (None, False)


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan"), float("inf")])
def test_a_score_outside_its_range_is_missing(score: float) -> None:
    assert combine({"score": score, "strict": 1.0}, WEIGHTS).value is None


def test_a_part_that_the_judge_does_not_give_is_missing_and_named() -> None:
    found = combine({"score": 1.0}, {"preservation": 1.0})
    assert (found.value, found.reason) == (None, "the reply has no part 'preservation'")


def test_weights_must_sum_to_one() -> None:
    with pytest.raises(UserError, match="sum to 1"):
        RewardConfig(judge="t", edit={"score": 0.7})


def test_a_judge_without_address_or_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_JUDGE_ADDRESS", raising=False)
    with pytest.raises(UserError, match="ARM_JUDGE_ADDRESS"), judge_address(RewardConfig(judge="o3")):
        pass


def test_a_judge_that_does_not_answer_stops_the_run_before_it_starts() -> None:
    with pytest.raises(ServiceError, match="/health"):
        check_health("http://127.0.0.1:9")


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(UserError, match="is no URL"):
        JudgeClient("localhost:80", PATIENT)
