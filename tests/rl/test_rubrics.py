"""Rewards by rubric: weighted marks of a model behind an endpoint, missing where it gives none, the same when replayed."""

import base64
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from judge_server import Server, serving  # type: ignore[import-not-found]
from one_run import digests, make, manifest_of, run  # type: ignore[import-not-found]
from tiny_policy import tiny_config  # type: ignore[import-not-found]

from arm.config import from_dict, from_json, identity
from arm.errors import ServiceError, UserError
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.judge_ledger import JudgeLedger
from arm.rl import training
from arm.rl.benchmarks import write_benchmarks
from arm.rl.config import AskedRubric, PolicyConfig, RewardConfig, RubricConfig
from arm.rl.rewards import Judgeable, Reward
from arm.rl.rubrics import load_asked, rubric_clients, shared
from arm.storage import LocalFolder
from arm.tracking.rewarded import read_rewarded

EDITING = AskedRubric(rubric="editing", version=1, weights={"following": 0.4, "preservation": 0.2})
QUALITY = AskedRubric(rubric="viescore_quality", version=1, weights={"quality": 0.4})
OBJECTS = AskedRubric(rubric="text_to_image", version=1, weights={"objects": 0.5, "attributes": 0.5})
FAST = JudgeConfig(model="made", max_attempts=2, first_wait_seconds=0.01)


def asking(*asked: AskedRubric, **judge: Any) -> RubricConfig:
    return RubricConfig(judge=replace(FAST, **judge), asked=asked)


def png(*grey: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.array([[[value] * 3 for value in grey]], np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def images_of(body: Mapping[str, Any]) -> list[np.ndarray]:
    """The pictures in a request, as grey levels."""
    urls = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    return [np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[..., 0] for url in urls]


def likes_light(body: dict[str, Any]) -> Any:
    """Marks by the mean code, 7 at most; what shows code 5 first is refused."""
    codes = images_of(body)[-1] // 16
    if codes[0, 0] == 5:
        return "refuse"
    mark = int(10 * codes.mean() / 7)
    if "response_format" not in body:
        return f"[{mark}, 10]"
    return dict.fromkeys(body["response_format"]["json_schema"]["schema"]["required"], mark) | {"reason": "none"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as found:
        found.script = [likes_light]
        monkeypatch.setenv("ARM_JUDGE_URL", found.url)
        yield found


def rewards_of(config: RubricConfig, items: list[Judgeable], folder: Path) -> list[Reward]:
    task = items[0].task
    reward = RewardConfig(rubrics={task: config})
    ledger = JudgeLedger(folder / "judge.sqlite")
    with rubric_clients(reward, {task: load_asked(task, config)}, ledger, 1) as clients:
        return [future.result() for future in [clients[task].submit(one) for one in items]]


def edit(image: bytes = png(48, 48), prompt: str = "make it red", **meta: Any) -> Judgeable:
    return Judgeable(task="edit", prompt=prompt, meta=meta, image=image, source=png(0, 0))


def drawn(image: bytes = png(48, 48), prompt: str = "two cats", **meta: Any) -> Judgeable:
    return Judgeable(task="text_to_image", prompt=prompt, meta=meta, image=image)


def test_a_reward_is_the_weighted_mean_of_the_marks_in_0_to_1(server: Server, tmp_path: Path) -> None:
    server.script = [{"following": 8, "preservation": 5, "quality": 1, "reason": ""}, "[9, 4]"]
    (found,) = rewards_of(asking(EDITING, QUALITY), [edit()], tmp_path)
    # .4 · .8 + .2 · .5 + .4 · min(.9, .4)
    assert found.value == pytest.approx(0.58)
    assert found.parts == pytest.approx({
        "editing.following": 0.8, "editing.preservation": 0.5, "editing.quality": 0.1, "viescore_quality.quality": 0.4,
        "viescore_quality.naturalness": 0.9, "viescore_quality.artefacts": 0.4,
    })  # fmt: skip
    text = server.calls[0]["messages"][0]["content"][0]["text"]
    assert "Instruction: make it red" in text


def test_of_two_pictures_the_source_is_first_and_the_drawn_one_has_its_size(server: Server, tmp_path: Path) -> None:
    rewards_of(asking(replace(EDITING, weights={"following": 1.0})), [edit(image=png(48, 48, 48, 48))], tmp_path)
    source, image = images_of(server.calls[0])
    assert (source.tolist(), image.tolist()) == ([[0, 0]], [[48, 48]])


def test_fields_beside_the_prompt_come_from_its_meta(server: Server, tmp_path: Path) -> None:
    server.script = ["Score: 1"]
    config = asking(AskedRubric(rubric="wise_verified", version=1, weights={"score": 1.0}))
    found = rewards_of(config, [drawn(explanation="a tiger"), drawn()], tmp_path)
    assert [reward.value for reward in found] == [1.0, None]
    assert found[1].reason == "wise_verified: the prompt's meta has no 'explanation'"
    assert "a tiger" in server.calls[0]["messages"][0]["content"][0]["text"]


@pytest.mark.parametrize(
    ("entry", "reason", "calls"),
    [
        ("refuse", "text_to_image: unscorable: refused: I cannot.", 1),
        ({"objects": 9}, "text_to_image: unscorable: the reply lacks attributes (stop)", 1),
        ((503, {}), "text_to_image: failed: HTTP 503: {}", 2),
    ],
)
def test_no_marks_make_the_reward_missing_not_zero(
    server: Server, tmp_path: Path, entry: Any, reason: str, calls: int
) -> None:
    server.script = [entry]
    (found,) = rewards_of(asking(OBJECTS), [drawn()], tmp_path)
    assert (found.value, found.reason, len(server.calls)) == (None, reason, calls)


def test_a_broken_picture_or_ledger_is_a_missing_reward_and_never_raises(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(edit(), source=b"<html>")
    (found,) = rewards_of(asking(EDITING, QUALITY), [broken], tmp_path)
    assert found.value is None
    assert found.reason.startswith("editing: failed: an image cannot be read (cannot identify image file")
    (found,) = rewards_of(asking(EDITING, QUALITY), [replace(broken, source=None)], tmp_path)
    assert found.reason == "editing: failed: there is no source image"

    def locked(self: JudgeLedger, key: str) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(JudgeLedger, "find", locked)
    (found,) = rewards_of(asking(EDITING, QUALITY), [edit()], tmp_path)
    assert found.reason == "editing: failed: the ledger of replies cannot be read or written (database is locked)"
    assert not server.calls


def test_a_text_without_its_marks_is_unscorable(server: Server, tmp_path: Path) -> None:
    server.script = ["[9]"]
    (found,) = rewards_of(asking(replace(QUALITY, weights={"quality": 1.0})), [edit()], tmp_path)
    assert (found.value, found.reason) == (None, "viescore_quality: unscorable: no scores in '[9]'")


def test_a_rubric_without_marks_spares_the_rubrics_after_it(server: Server, tmp_path: Path) -> None:
    server.script = ["refuse"]
    rewards_of(asking(EDITING, QUALITY), [edit()], tmp_path)
    assert len(server.calls) == 1


def test_a_refused_key_is_told_of_every_image_and_asked_no_further(server: Server, tmp_path: Path) -> None:
    server.script = [(401, {})]
    found = rewards_of(asking(OBJECTS, num_workers=1), [drawn(prompt=str(n)) for n in range(5)], tmp_path)
    assert len(server.calls) == 1
    assert all(reward.value is None and "HTTP 401" in reward.reason for reward in found)


def test_a_spent_budget_makes_the_rest_missing(server: Server, tmp_path: Path) -> None:
    """$0.003 a call: two are within $0.005."""
    prices = {
        "dollars_per_million_input": 2.0,
        "dollars_per_million_output": 10.0,
        "max_dollars": 0.005,
        "num_workers": 1,
    }
    found = rewards_of(asking(OBJECTS, **prices), [drawn(prompt=str(n)) for n in range(4)], tmp_path)
    assert [reward.value for reward in found] == [0.4, 0.4, None, None]  # grey 48 is code 3: 30 / 7
    assert found[3].reason == "text_to_image: failed: the budget of $0.005 is spent"


def test_ranks_share_the_rate_and_machines_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    config = JudgeConfig(model="m", calls_per_minute=600, max_dollars=40, dollars_per_million_input=1)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    one = shared(config, 16)
    assert (one.calls_per_minute, one.max_dollars) == (37.5, 40)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # two machines of eight
    assert shared(config, 16).max_dollars == 20


@pytest.mark.parametrize(
    ("task", "asked", "sentence"),
    [
        ("edit", replace(EDITING, version=2), "editing is of version 1, but 2 is asked for"),
        (
            "edit",
            replace(EDITING, weights={"taste": 1.0}),
            "has no mark 'taste', only following, preservation, quality",
        ),
        ("text_to_image", EDITING, "editing shows 2 images, but text_to_image has 1 at most"),
        ("edit", replace(EDITING, rubric="editin"), "did you mean 'editing'"),
    ],
)
def test_a_rubric_that_cannot_reward_a_task_is_refused(task: str, asked: AskedRubric, sentence: str) -> None:
    weights = {name: 1 / len(asked.weights) for name in asked.weights}
    with pytest.raises(UserError, match=sentence):
        load_asked(task, asking(replace(asked, weights=weights)))


@pytest.mark.parametrize(
    ("stage", "reward", "sentence"),
    [
        ("joint", {"rubrics": {"edit": {}}}, "Nobody judges text_to_image in stage 'joint'"),
        ("edit", {"judge": "mine/1", "rubrics": {"edit": {}}}, "leave reward.judge and reward.module out"),
        (
            "t2i",
            {"judge": "mine/1", "rubrics": {"edit": {}}},
            "reward.rubrics has edit, which stage 't2i' does not draw",
        ),
        ("t2i", {}, "Nobody judges text_to_image"),
        ("edit", {"rubrics": {"edits": {}}}, "has no task 'edits'; did you mean 'edit'"),
        ("edit", {"edit": {"a": 1.0}, "rubrics": {"edit": {}}}, "but reward.rubrics rewards that task"),
        ("edit", {"rubrics": {"edit": {"judge": {}}}}, "has no model"),
        ("edit", {"rubrics": {"edit": {"asked": []}}}, "sum to 1"),
    ],
)
def test_a_reward_without_effect_or_judge_is_refused(stage: str, reward: dict[str, Any], sentence: str) -> None:
    whole = {
        "judge": {"model": "m"},
        "asked": [{"rubric": "viescore_quality", "version": 1, "weights": {"quality": 1}}],
    }
    reward = {**reward, "rubrics": {task: whole | part for task, part in reward.get("rubrics", {}).items()}}
    values = {"stage": stage, "reward": reward} | ({"edit_share": 0.5} if stage == "joint" else {})
    with pytest.raises(UserError, match=sentence):
        from_dict(PolicyConfig, values)


def test_model_sampling_and_rubrics_enter_the_key_and_a_run_without_rubrics_keeps_its_own() -> None:
    plain = identity(tiny_config(reward=RewardConfig(judge="t")))["reward"]
    assert plain == {"judge": "t", "module": "", "text_to_image": {"score": 1.0}, "edit": {"score": 1.0}}
    config = asking(OBJECTS, max_dollars=5, dollars_per_million_input=1, mode="replay")
    found = identity(tiny_config(reward=RewardConfig(rubrics={"text_to_image": config}, ledger="there.sqlite")))[
        "reward"
    ]
    assert found["rubrics"]["text_to_image"]["judge"] == {"model": "made", "temperature": 0.0, "max_tokens": 1024}
    assert found["rubrics"]["text_to_image"]["asked"][0]["version"] == 1
    assert "ledger" not in found


def test_a_rubric_of_the_users_own_is_an_outside_file_of_the_run(tmp_path: Path) -> None:
    mine = replace(OBJECTS, rubric=str(tmp_path / "mine.json"))
    config = tiny_config(reward=RewardConfig(rubrics={"text_to_image": asking(mine)}))
    assert config.outside_paths() == (str(tmp_path / "mine.json"),)
    assert tiny_config(reward=RewardConfig(rubrics={"text_to_image": asking(OBJECTS)})).outside_paths() == ()


def test_the_config_in_the_documentation_is_one_that_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "09-training.md").read_text()
    block = page.partition("## Reinforcement")[2].partition("```json")[2].partition("```")[0]
    config = from_json(PolicyConfig, block)
    loaded = {task: load_asked(task, asked) for task, asked in config.reward.rubrics.items()}
    assert {task: [rubric.name for rubric in rubrics] for task, rubrics in loaded.items()} == {
        "text_to_image": ["text_to_image"], "edit": ["editing", "viescore_quality"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Inputs, and the output of an undisturbed run in `whole`, whose replies are in judge.sqlite."""
    folder = tmp_path_factory.mktemp("rubrics")
    make(folder)
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        server.script = [likes_light]
        patch.setenv("ARM_JUDGE_URL", server.url)
        patch.setattr(training, "load_renderer", training.load_renderer)
        run(folder, folder / "whole", **job(folder / "judge.sqlite"))
        assert max(Counter(map(json.dumps, server.calls)).values()) == 1
        yield folder
    torch.use_deterministic_algorithms(False)


def job(ledger: Path | None = None, **judge: Any) -> dict[str, Any]:
    """Two steps of the joint stage, each task rewarded by rubrics of its own."""
    rubrics = {"text_to_image": asking(OBJECTS, **judge), "edit": asking(EDITING, QUALITY, **judge)}
    reward = RewardConfig(rubrics=rubrics, ledger=str(ledger or ""))
    return {"reward": reward, "steps": 2, "max_missing_share": 0.6, "std_floor": 0.01}


def test_a_policy_learns_from_rubrics_and_what_was_not_scored_is_masked(made: Path) -> None:
    first, last = (json.loads(line) for line in (made / "whole" / "curves.jsonl").read_text().splitlines())
    assert 0 < first["rewards/missing"] < 0.6
    assert {"edit/editing.following/mean", "edit/viescore_quality.quality/mean", "text_to_image/reward/mean"} <= set(
        first
    )
    assert first["edit/reward/std"] > 0
    weighed = 0.6 * first["edit/editing.following/mean"] + 0.4 * first["edit/viescore_quality.quality/mean"]
    assert first["edit/reward/mean"] == pytest.approx(weighed, abs=1e-5)
    assert last["kl"] > 0


def test_a_benchmark_whose_rubric_rewards_is_named_with_those_of_the_stages_before(made: Path, tmp_path: Path) -> None:
    asked = ["viescore_quality 1, asked of made, in joint"]
    assert read_rewarded(manifest_of(made / "whole")) == {"gedit_cn": asked, "gedit_en": asked}
    declared = RewardConfig(judge="detector/1", benchmarks={"text_to_image": ("geneval",), "edit": ("gedit_en",)})
    write_benchmarks(
        manifest_of(made / "whole"), tiny_config(stage="t2i", reward=declared), LocalFolder(tmp_path / "next")
    )
    expected = {"gedit_cn": asked, "gedit_en": asked, "geneval": ["detector/1 in t2i"]}
    assert read_rewarded(manifest_of(tmp_path / "next")) == expected


def test_nothing_is_said_where_no_benchmark_rewards(tmp_path: Path) -> None:
    model = manifest_of(tmp_path)
    write_benchmarks(model, tiny_config(reward=RewardConfig(judge="t")), LocalFolder(tmp_path / "next"))
    assert LocalFolder(tmp_path / "next").list() == []


def test_a_replay_asks_nobody_and_gives_the_same_bytes(
    made: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARM_JUDGE_URL")
    run(made, tmp_path / "replayed", **job(made / "judge.sqlite", mode="replay"))
    assert server.calls == []
    assert digests(tmp_path / "replayed") == digests(made / "whole")


def test_a_run_that_its_judge_stopped_goes_on_without_asking_twice(made: Path, server: Server, tmp_path: Path) -> None:
    answered: list[str] = []

    def tires(body: dict[str, Any]) -> Any:
        if len(answered) >= 3:
            return 503, {}
        answered.append(json.dumps(body))
        return likes_light(body)

    server.script = [tires]
    with pytest.raises(
        ServiceError, match=r"rewards are missing after 0 steps .*failed: HTTP 503.*mend the judge 'made'"
    ):
        run(made, tmp_path / "stopped", **job())
    server.script, server.calls = [likes_light], []
    run(made, tmp_path / "stopped", **job())
    assert len(answered) == 3
    assert not set(map(json.dumps, server.calls)) & set(answered)
    assert digests(tmp_path / "stopped") == digests(made / "whole")
