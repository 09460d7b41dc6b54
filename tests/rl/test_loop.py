"""The loop on a tiny random model: it learns what the judge likes, resumes exactly, and pauses when judges fail."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_policy import build_rig, tiny_config  # type: ignore[import-not-found]

from arm.data.images import encode_image
from arm.errors import ServiceError, UserError
from arm.rl.grpo import group_advantages
from arm.rl.loop import State, check_missing, check_skipped, reward_metrics, rewards_of
from arm.rl.prompts import Draw, RolloutPrompt
from arm.rl.rewards import Judgeable, Reward
from arm.rl.rollout import Picture, Rollout, draw_sheet
from arm.tokenizer.config import ResolutionConfig


def codes_of(item: Judgeable) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(item.image)))[::2, ::2, 0] // 16


def likes_threes(item: Judgeable) -> Reward:
    share = float((codes_of(item) == 3).mean())
    return Reward(value=share, parts={"score": share})


def test_the_policy_learns_to_draw_what_the_judge_likes() -> None:
    rig = build_rig(likes_threes, tiny_config(steps=30, group_size=8, std_floor=0.01))
    rig.run()
    rewards = [row["text_to_image/reward/mean"] for row in rig.host.rows]
    assert np.mean(rewards[:3]) < 0.3
    assert np.mean(rewards[-3:]) > 0.8
    taught = [row for row in rig.host.rows if "entropy" in row]
    assert taught[-1]["entropy"] < taught[0]["entropy"]
    assert taught[-1]["kl"] > 0


def test_a_run_that_was_stopped_ends_as_one_that_was_not() -> None:
    whole = build_rig(likes_threes, tiny_config(steps=4, checkpoint_every=2))
    whole.run()
    first = build_rig(likes_threes, tiny_config(steps=2, checkpoint_every=2))
    first.run()
    second = build_rig(likes_threes, tiny_config(steps=4, checkpoint_every=2), model=first.model)
    second.learner._reference = first.learner._reference
    second.engine.optimizer.load_state_dict(first.engine.optimizer.state_dict())
    state = second.run(State.from_plain(first.host.saved[-1]))
    assert state.rows == [dict(row) for row in whole.host.rows]
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_rollouts_do_not_depend_on_how_many_ranks_or_batches_make_them() -> None:
    rig = build_rig(likes_threes, tiny_config())
    draws = rig.stream.take(0, 4)
    together = {(r.place, r.sample): r.codes.tolist() for r in rig.maker.make(draws)[0]}
    other = build_rig(likes_threes, tiny_config(rollout_batch=3))
    apart = [r for rank in (0, 1) for r in other.maker.make(draws[rank::2])[0]]
    assert {(r.place, r.sample): r.codes.tolist() for r in apart} == together


def test_samples_of_a_prompt_differ_and_a_second_visit_draws_anew() -> None:
    rig = build_rig(likes_threes, tiny_config(group_size=16))
    prompt = rig.stream.take(0, 1)[0].prompt
    first, second = (rig.maker.make([Draw(place=0, visit=visit, prompt=prompt)])[0] for visit in (0, 1))
    assert len({r.codes.tobytes() for r in first}) > 8
    assert [r.codes.tolist() for r in first] != [r.codes.tolist() for r in second]


def test_an_edit_is_drawn_from_its_source_and_shown_to_the_judge_with_it() -> None:
    seen: list[Judgeable] = []

    def judge(item: Judgeable) -> Reward:
        seen.append(item)
        return Reward(value=0.5)

    rig = build_rig(judge, tiny_config(image_size=8))
    pixels = np.full((8, 16, 3), 48, dtype=np.uint8)
    prompt = RolloutPrompt(
        uid="e" * 32, task="edit", text="go", meta={"operation": "move"}, source=encode_image(pixels)
    )
    rollouts, (picture,) = rig.maker.make([Draw(place=0, visit=0, prompt=prompt)], num_pictures=1)
    # 8×16 pixels become 4×8, a grid of 2×4: no side is longer than that of an image drawn from a text; grey 48 is code 3
    assert rollouts[0].prompt[0].tolist() == [[3, 3, 3, 3]] * 2
    assert rollouts[0].codes.shape == (2, 4)
    assert rollouts[0].prompt[1] == "go"
    assert np.asarray(PIL.Image.open(io.BytesIO(seen[0].source or b""))).tolist() == pixels.tolist()
    assert seen[0].meta == {"operation": "move"}
    assert len(picture.images) == 5


def test_a_source_has_the_grid_that_edits_were_trained_at() -> None:
    """8×6 pixels lie within (4, 8), so that nothing is resized: 4×3 codes of 2 pixels."""
    sizes = ResolutionConfig(min_short_side=4, max_long_side=8)
    config = tiny_config(stage="edit", edit_resolution=sizes, image_size=4)
    rig = build_rig(lambda item: Reward(value=0.5), config)
    source = encode_image(np.full((8, 6, 3), 48, dtype=np.uint8))
    prompt = RolloutPrompt(uid="e" * 32, task="edit", text="go", meta={}, source=source)
    rollouts, _ = rig.maker.make([Draw(place=0, visit=0, prompt=prompt)])
    assert {rollout.codes.shape for rollout in rollouts} == {(4, 3)}
    with pytest.raises(UserError, match="edit_resolution has no effect in stage 't2i'"):
        tiny_config(edit_resolution=sizes)


def test_groups_that_teach_nothing_are_counted_and_replaced_up_to_the_cap() -> None:
    def flat_for_odd(item: Judgeable) -> Reward:
        return Reward(value=0.5 if int(item.prompt[1:]) % 2 else float(codes_of(item).mean()) / 8)

    config = tiny_config(steps=1, refill_rounds=2, prompts_per_step=6)
    rig = build_rig(flat_for_odd, config)
    state = rig.run()
    order = [int(draw.prompt.text[1:]) for draw in rig.stream.take(0, 40)]
    rows = rig.host.rows[0]
    place, useful = 0, 0
    for _ in range(3):
        wanted = 6 - useful
        useful += sum(number % 2 == 0 for number in order[place : place + wanted])
        place += wanted
    assert state.place == place == rows["num_groups"]
    assert rows["groups/zero_variance"] == pytest.approx(1 - useful / place, abs=1e-6)


def test_a_step_without_any_useful_group_changes_nothing_and_says_so() -> None:
    rig = build_rig(lambda item: Reward(value=1.0), tiny_config(steps=1))
    before = rig.model.lm_head.weight.detach().clone()
    rig.run()
    assert rig.host.rows[0]["groups/zero_variance"] == 1.0
    assert "loss/policy" not in rig.host.rows[0]
    assert torch.equal(rig.model.lm_head.weight, before)


def test_missing_rewards_are_left_out_of_the_mean() -> None:
    values = [1.0, None, 0.5, None]
    rollouts = [
        Rollout(
            place=0, sample=i, task="edit", prompt=("a",), codes=np.array([[i]]), sampled=np.zeros(1, np.float32),
            log_kept=np.zeros(1, np.float32), reward=Reward(value=v, parts={} if v is None else {"score": v}),
        )
        for i, v in enumerate(values)
    ]  # fmt: skip
    row = reward_metrics(rollouts, group_advantages(rewards_of(rollouts, 4), 0.01))
    assert (row["edit/reward/mean"], row["edit/score/mean"], row["rewards/missing"]) == (0.75, 0.75, 0.5)
    assert row["diversity"] == 1.0


def test_a_part_that_a_judge_calls_reward_does_not_stand_for_the_reward() -> None:
    rig = build_rig(lambda item: Reward(value=0.25, parts={"reward": 1.0}), tiny_config(steps=1))
    rig.run()
    assert rig.host.rows[0]["text_to_image/reward/mean"] == 0.25


def test_an_update_whose_gradient_is_not_finite_is_counted_and_leaves_json(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build_rig(likes_threes, tiny_config(steps=2))
    backward, calls = rig.engine.backward, iter([float("inf"), 1.0, 1.0, 1.0])
    monkeypatch.setattr(rig.engine, "backward", lambda loss: backward(loss * next(calls, 1.0)))
    state = rig.run()
    assert [row["skipped_steps"] for row in state.rows] == [1, 1]
    assert "gradient_norm" not in state.rows[0]
    assert "gradient_norm" in state.rows[1]
    json.dumps(state.rows, allow_nan=False)


def test_a_run_that_skips_update_after_update_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build_rig(likes_threes, tiny_config(steps=9, max_skipped=2))
    backward = rig.engine.backward
    monkeypatch.setattr(rig.engine, "backward", lambda loss: backward(loss * float("nan")))
    with pytest.raises(UserError, match=r"^3 updates in a row up to step \d were skipped"):
        rig.run()
    assert rig.host.rows[-1]["skipped_steps"] == 3


def test_updates_are_skipped_in_a_row_across_steps_that_learned_nothing() -> None:
    rows = [{"step": step, "skipped_steps": count} for step, count in enumerate((0.0, 1.0, 1.0, 2.0), 1)]
    last = [{"step": 5.0}, {"step": 6.0, "skipped_steps": 3.0}]
    check_skipped([*rows, *last], most=2)
    check_skipped([], most=0)
    with pytest.raises(UserError, match=r"^2 updates in a row up to step 6 were skipped"):
        check_skipped([*rows, *last], most=1)


def test_too_many_missing_rewards_pause_the_run_at_a_checkpoint() -> None:
    calls = 0

    def dies_in_the_second_step(item: Judgeable) -> Reward:
        nonlocal calls
        calls += 1
        return likes_threes(item) if calls <= 16 else Reward(value=None, reason="status 503")

    rig = build_rig(dies_in_the_second_step, tiny_config(steps=3, checkpoint_every=10))
    with pytest.raises(ServiceError, match=r"16 of 16 rewards are missing after 1 steps \(16 times: status 503\)"):
        rig.run()
    assert [(saved["step"], saved["place"]) for saved in rig.host.saved] == [(1, 4)]


def test_a_few_missing_rewards_do_not_stop_the_run() -> None:
    rig = build_rig(likes_threes, tiny_config())
    rollouts, _ = rig.maker.make(rig.stream.take(0, 4))
    check_missing(rollouts, rig.config, 0)


def test_pictures_are_shown_at_the_first_step_at_intervals_and_at_the_last() -> None:
    rig = build_rig(likes_threes, tiny_config(steps=6, samples_every=2))
    rig.run()
    assert rig.host.shown == [0, 2, 4, 5]


def test_the_same_pictures_give_the_same_png() -> None:
    picture = Picture("a", (np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 9, np.uint8)), (0.5, None))
    assert draw_sheet([picture]) == draw_sheet([picture])
