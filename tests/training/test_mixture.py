"""The planner: shares, order, drops, exactly once."""

import numpy as np
import pytest
from tiny_lmm import CODES
from token_store import make_store

from arm.errors import UserError
from arm.model.documents import DROP_IMAGE, DROP_TEXT, KEEP_ALL, KINDS
from arm.model.token_shards import Shard, open_shards
from arm.training.config import MixtureConfig, share_at
from arm.training.mixture import _Deficits, draw_drops, kind_schedules, plan

LENGTH = 64


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    store = make_store(tmp_path_factory.mktemp("store"))
    return open_shards(store["tokens"], tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)


def test_shares_of_kinds_are_parts_of_the_five_sources() -> None:
    schedules = kind_schedules(MixtureConfig())
    at_start = {kind: schedule[0][1] for kind, schedule in schedules.items()}
    assert at_start["caption"] == pytest.approx(0.03)
    assert at_start["question"] == pytest.approx(0.07)
    assert sum(at_start.values()) == pytest.approx(1.0)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(UserError, match=r"add up to 0\.9500"):
        MixtureConfig(text_only=((0.0, 0.0),))


def test_a_share_moves_along_a_straight_line() -> None:
    assert share_at(((0.0, 0.7), (1.0, 0.5)), 0.25) == pytest.approx(0.65)
    assert share_at(((0.0, 0.7), (0.5, 0.5)), 0.9) == 0.5


def test_the_next_kind_is_the_one_that_lags_most() -> None:
    """Shares .75 and .25 of documents of one token: in every four, the second comes once."""
    deficits = _Deficits([((0.0, 0.75),), ((0.0, 0.25),)], total=100)
    order = []
    for _ in range(8):
        kind = deficits.largest()
        deficits.count(kind, 1)
        order.append(kind)
    assert order.count(1) == 2


def test_realised_shares_follow_a_linear_schedule(shards: list[Shard]) -> None:
    """.70 -> .50 over the plan: .60 overall, within one longest document; more in the first half than in the second."""
    falling, rising = ((0.0, 0.7), (1.0, 0.5)), ((0.0, 0.05), (1.0, 0.25))
    mixture = MixtureConfig(text_to_image=falling, interleaved_web=rising)
    made = plan(shards, mixture, seed=1, num_rows=400, sequence_length=LENGTH)
    tokens = np.cumsum(made.lengths)
    for end in (len(tokens) // 4, len(tokens) // 2, len(tokens) * 3 // 4):
        seen = made.lengths[: end + 1][made.kinds[: end + 1] == KINDS.index("text_to_image")].sum()
        place = tokens[end] / (400 * LENGTH)
        wanted = (0.7 * place - 0.1 * place * place) * 400 * LENGTH
        assert abs(seen - wanted) <= made.lengths.max()


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another(shards: list[Shard]) -> None:
    a, b, c = (plan(shards, MixtureConfig(), seed=s, num_rows=50, sequence_length=LENGTH) for s in (0, 0, 1))
    assert a.digest == b.digest != c.digest


def test_a_longer_plan_begins_like_a_shorter_one(shards: list[Shard]) -> None:
    short, long = (plan(shards, MixtureConfig(), seed=0, num_rows=n, sequence_length=LENGTH) for n in (20, 60))
    assert [short.row(i).tolist() for i in range(20)] == [long.row(i).tolist() for i in range(20)]


def test_every_sample_comes_once_an_epoch_before_any_comes_again(shards: list[Shard]) -> None:
    made = plan(shards, MixtureConfig(), seed=0, num_rows=500, sequence_length=LENGTH)
    chosen = made.kinds == KINDS.index("text")
    seen = list(zip(made.epochs[chosen], made.shards[chosen], made.rows[chosen], strict=True))
    assert len(seen) == len(set(seen))
    assert np.all(np.diff(made.epochs[chosen]) >= 0)
    held_in = sum(int((~shard.held_out & (shard.tasks == "text")).sum()) for shard in shards)
    assert int((made.epochs[chosen] == 0).sum()) == held_in


def test_held_out_samples_are_never_planned(shards: list[Shard]) -> None:
    made = plan(shards, MixtureConfig(), seed=0, num_rows=300, sequence_length=LENGTH)
    assert not any(shards[s].held_out[r] for s, r in zip(made.shards, made.rows, strict=True))
    assert any(shard.held_out.any() for shard in shards)


def test_rows_hold_whole_documents_and_are_nearly_full(shards: list[Shard]) -> None:
    made = plan(shards, MixtureConfig(), seed=0, num_rows=300, sequence_length=LENGTH)
    assert all(made.lengths[made.row(i)].sum() <= LENGTH for i in range(made.num_rows))
    assert made.fill(LENGTH) > 0.97


def test_drops_are_a_function_of_seed_uid_and_epoch() -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    mixture = MixtureConfig()
    drops = draw_drops(keys, "text_to_image", mixture, seed=0, epoch=0)
    assert float((drops == DROP_TEXT).mean()) == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(drops[7:9], draw_drops(keys[7:9], "text_to_image", mixture, seed=0, epoch=0))
    assert (drops != draw_drops(keys, "text_to_image", mixture, seed=0, epoch=1)).any()
    edits = draw_drops(keys, "edit", mixture, seed=0, epoch=0)
    assert float((edits == KEEP_ALL).mean()) == pytest.approx(0.85, abs=0.01)
    assert float((edits == DROP_IMAGE).mean()) == pytest.approx(0.05, abs=0.01)


def test_a_source_without_samples_is_refused(shards: list[Shard]) -> None:
    with pytest.raises(UserError, match="No text sample"):
        plan([s for s in shards if "text" not in s.tasks], MixtureConfig(), seed=0, num_rows=5, sequence_length=LENGTH)


def test_images_outside_the_grid_sides_are_left_out(shards: list[Shard]) -> None:
    with pytest.raises(UserError, match="No text_to_image sample"):
        plan(shards, MixtureConfig(grid_sides=(3, 9)), seed=0, num_rows=5, sequence_length=LENGTH)
