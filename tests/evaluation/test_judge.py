"""The judge client against a server that fails as real ones do."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from judge_server import Server, serving  # type: ignore[import-not-found]

from arm.errors import ServiceError, UserError
from arm.evaluation.benchmarks import viescore
from arm.evaluation.judge import Clock, Endpoint, Judge, Question, endpoint_from_environment
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.judge_ledger import JudgeLedger, JudgeReply
from arm.evaluation.rubric import load_rubric, read_reply

GOOD = {"objects": 9, "attributes": 8, "relations": 10, "reason": "none"}
RUBRIC = load_rubric("text_to_image")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        found.script = [GOOD]
        yield found


def make(server: Server, folder: Path, **settings: Any) -> tuple[Judge, list[float]]:
    """A judge whose waits are noted, not waited."""
    waits: list[float] = []
    config = JudgeConfig(**{"model": "made", "num_workers": 1, **settings})
    clock = Clock(now=lambda: sum(waits), sleep=waits.append, random=Random(0))
    endpoint = Endpoint(server.url, "secret")
    return Judge(config, JudgeLedger(folder / "judge.sqlite"), endpoint, clock), waits


def ask(text: str = "two cats") -> Question:
    return Question(RUBRIC, {"prompt": text}, (b"png",))


def test_a_reply_is_asked_once_and_found_again_by_content(server: Server, tmp_path: Path) -> None:
    judge, _ = make(server, tmp_path)
    assert judge.ask(ask()).value == GOOD
    again, _ = make(server, tmp_path)
    found = again.ask(ask())
    assert (found.value, found.cached, len(server.calls)) == (GOOD, True, 1)
    judge.ask(ask("three cats"))
    other, _ = make(server, tmp_path, model="another")
    other.ask(ask())
    assert len(server.calls) == 3
    assert "two cats" in server.calls[0]["messages"][0]["content"][0]["text"]
    assert server.calls[0]["response_format"]["json_schema"]["schema"]["required"][0] == "objects"


def test_busy_servers_are_asked_again_after_a_random_wait_that_doubles(server: Server, tmp_path: Path) -> None:
    server.script = [(500, {}), (429, {"Retry-After": "7"}), "hang up", GOOD]
    judge, waits = make(server, tmp_path, first_wait_seconds=2.0)
    assert judge.ask(ask()).outcome == "ok"
    random = Random(0)
    assert waits == [random.uniform(0, 2), 7 + random.uniform(0, 4), random.uniform(0, 8)]
    assert judge.ledger.totals()["attempts"] == 4


def test_a_redirect_does_not_carry_the_key_elsewhere(server: Server, tmp_path: Path) -> None:
    server.script = [(302, {"Location": f"http://127.0.0.1:{server.server_address[1]}/elsewhere"})]
    judge, _ = make(server, tmp_path)
    reply = judge.ask(ask())
    assert (reply.outcome, reply.reason[:8], len(server.calls)) == ("failed", "HTTP 302", 1)
    assert "secret" not in repr(judge.endpoint)


def test_nobody_answers_is_failed_and_asked_again_by_the_next_run(server: Server, tmp_path: Path) -> None:
    server.script = [(503, {})]
    judge, _ = make(server, tmp_path, max_attempts=2)
    reply = judge.ask(ask())
    assert (reply.outcome, reply.reason.startswith("HTTP 503")) == ("failed", True)
    server.script = [GOOD]
    assert judge.ask(ask()).outcome == "ok"


@pytest.mark.parametrize(
    "reply", ["refuse", "no JSON", {"objects": 9}, {**GOOD, "objects": 11}, {**GOOD, "objects": True}]
)
def test_an_answer_without_scores_is_unscorable_and_kept(server: Server, tmp_path: Path, reply: Any) -> None:
    server.script = [reply]
    judge, _ = make(server, tmp_path)
    assert judge.ask(ask()).outcome == "unscorable"
    assert judge.ask(ask()).cached
    assert len(server.calls) == 1


@pytest.mark.parametrize("choice", [{"message": None, "finish_reason": "content_filter"}, {"message": "no"}])
def test_an_answer_without_a_message_or_counted_tokens_is_unscorable(
    server: Server, tmp_path: Path, choice: dict[str, Any]
) -> None:
    server.script = [{"choices": [choice], "usage": {"prompt_tokens": None, "completion_tokens": None}}]
    judge, _ = make(server, tmp_path)
    assert judge.ask(ask()).outcome == "unscorable"
    assert judge.ledger.totals()["calls"] == 1


def test_a_gateways_error_with_status_200_is_asked_again_and_never_kept(server: Server, tmp_path: Path) -> None:
    busy = {"error": {"message": "provider overloaded", "code": 502}}
    server.script = [busy, busy, busy, GOOD]
    judge, _ = make(server, tmp_path, max_attempts=2)
    found = judge.ask(ask())
    assert (found.outcome, "provider overloaded" in found.reason) == ("failed", True)
    assert judge.ask(ask()).value == GOOD


def test_replay_never_asks(server: Server, tmp_path: Path) -> None:
    make(server, tmp_path)[0].ask(ask())
    replay = Judge(JudgeConfig(model="made", mode="replay"), JudgeLedger(tmp_path / "judge.sqlite"))
    found = replay.ask_all([ask("unheard of"), ask()])
    assert [(reply.outcome, reply.reason) for reply in found] == [("failed", "not recorded"), ("ok", "")]
    assert len(server.calls) == 1


def test_the_budget_ends_the_asking_across_runs(server: Server, tmp_path: Path) -> None:
    """1,000 tokens at $2 and 100 at $10 a million are $0.003 a call; the third finds $0.006 spent."""
    prices = {"dollars_per_million_input": 2.0, "dollars_per_million_output": 10.0, "max_dollars": 0.005}
    judge, _ = make(server, tmp_path, **prices)
    assert [judge.ask(ask(text)).outcome for text in "ab"] == ["ok", "ok"]
    resumed, _ = make(server, tmp_path, **prices)
    assert resumed.ask(ask("c")).reason == "the budget of $0.005 is spent"
    assert judge.ledger.totals() == {
        "calls": 2, "attempts": 2, "input_tokens": 2000, "output_tokens": 200, "dollars": pytest.approx(0.006),
    }  # fmt: skip


def test_a_failure_does_not_shift_the_replies_of_others(server: Server, tmp_path: Path) -> None:
    judge, _ = make(server, tmp_path, num_workers=4)
    texts = [f"{n} cats" for n in range(12)]
    for n, text in enumerate(texts):
        server.script = ["no JSON"] if n % 3 == 0 else [{**GOOD, "objects": n % 10}]
        judge.ask(ask(text))
    found = judge.ask_all([ask(text) for text in reversed(texts)])[::-1]
    assert [reply.value.get("objects") for reply in found] == [None if n % 3 == 0 else n % 10 for n in range(12)]


def test_calls_are_spread_over_the_minute(server: Server, tmp_path: Path) -> None:
    judge, waits = make(server, tmp_path, calls_per_minute=30)
    for text in "abc":
        judge.ask(ask(text))
    assert waits == [2.0, 2.0]


def test_a_wrong_key_stops_the_run(server: Server, tmp_path: Path) -> None:
    server.script = [(401, {})]
    with pytest.raises(ServiceError, match=r"HTTP 401.*check ARM_JUDGE_URL, ARM_JUDGE_KEY"):
        make(server, tmp_path)[0].ask(ask())


def test_what_a_user_gets_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_JUDGE_URL", raising=False)
    with pytest.raises(UserError, match="ARM_JUDGE_URL is not set"):
        endpoint_from_environment()
    with pytest.raises(UserError, match="There is no rubric 'editin'; did you mean 'editing'"):
        load_rubric("editin")
    with pytest.raises(UserError, match="max_dollars is 5, but no price is given"):
        JudgeConfig(model="made", max_dollars=5)
    with pytest.raises(UserError, match="needs an endpoint"):
        Judge(JudgeConfig(model="made"), JudgeLedger(tmp_path / "judge.sqlite"))
    with pytest.raises(UserError, match=r"has the fields \['prompt'\], not \['text'\]"):
        RUBRIC.render({"text": "a"})
    judge = Judge(JudgeConfig(model="made", mode="replay"), JudgeLedger(tmp_path / "judge.sqlite"))
    with pytest.raises(UserError, match="text_to_image shows 1 images, not 0"):
        judge.ask(Question(RUBRIC, {"prompt": "a"}))


def test_lists_and_choices_of_a_schema_are_checked() -> None:
    items = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10}}
    schema = {"properties": {"score": items, "label": {"type": "string", "enum": ["yes", "no"]}}, "required": ["score"]}
    assert read_reply('Here: {"score": [1, 10]} done', schema) == {"score": [1, 10]}
    assert read_reply('{"score": [1, 11]}', schema) == "score is 11, outside 0 to 10"
    assert read_reply('{"score": [], "label": "maybe"}', schema) == "label is 'maybe', none of ['yes', 'no']"


def test_a_rubric_without_a_schema_gets_text_for_a_parser_of_its_own(server: Server, tmp_path: Path) -> None:
    server.script = ["[8, 7]"]
    judge, _ = make(server, tmp_path)
    reply = judge.ask(Question(load_rubric("viescore_quality"), {}, (b"png",)))
    assert (reply.outcome, viescore.parse(reply.value["text"])) == (
        "ok", {"score": [8, 7], "reasoning": "System: output is simply a list of scores"},
    )  # fmt: skip
    assert "response_format" not in server.calls[0]


def test_equal_questions_at_once_are_one_call_and_one_reply(server: Server, tmp_path: Path) -> None:
    server.script = [GOOD, {**GOOD, "objects": 1}]
    judge, _ = make(server, tmp_path, num_workers=8)
    found = judge.ask_all([ask()] * 8)
    assert ([reply.value for reply in found], len(server.calls)) == ([GOOD] * 8, 1)


def test_of_two_replies_to_one_question_the_first_stays(tmp_path: Path) -> None:
    """As two processes that share a ledger may get them."""
    ledgers = [JudgeLedger(tmp_path / "judge.sqlite") for _ in range(2)]
    call: dict[str, Any] = {"model": "made", "rubric": "r 1", "attempts": 1, "tokens": (0, 0), "dollars": 0.25}
    kept = [
        ledger.record("key", JudgeReply(outcome="ok", value={"objects": number}), **call)
        for number, ledger in enumerate(ledgers)
    ]
    assert [reply.value for reply in kept] == [{"objects": 0}] * 2
    assert [ledger.dollars() for ledger in ledgers] == [0.5, 0.5]


def test_the_budget_counts_what_others_spent_on_the_same_ledger(server: Server, tmp_path: Path) -> None:
    prices = {"dollars_per_million_input": 2.0, "dollars_per_million_output": 10.0, "max_dollars": 0.003}
    judge, other = (make(server, tmp_path, **prices)[0] for _ in range(2))
    assert judge.ask(ask("a")).outcome == "ok"
    assert other.ask(ask("b")).reason == "the budget of $0.003 is spent"
