"""The planner: schedules, shares, order, choices, exactly once, and going on from a state."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_index import CountedIndex, made_plan, mixture_of, planner, share_of
from tiny_lmm import CODES
from token_store import make_store

from arm import config as configs
from arm.errors import UserError
from arm.model.documents import DROP_IMAGE, DROP_TEXT, KEEP_ALL, KINDS
from arm.model.token_shards import Shard, open_shards
from arm.training.config import EpochLimit, MixtureConfig, share_at
from arm.training.mixture import kind_schedules, plan
from arm.training.plan import kernel
from arm.training.plan.choices import draw_drops, draw_strides, draw_variants, reads_resolution
from arm.training.plan.rows import Rows
from arm.training.plan.shares import UNIT, parts_of_kinds, renormalised, tick_edges, tick_shares
from arm.training.plan.streams import Stream
from benchmarks._planner import plan_rows

LENGTH = 64
MIX = {"text": [3, 9, 20], "text_to_image": [11, 14], "caption": [12], "interleaved_web": [30, 5, 17]}
SHARES = {"text_only": 0.2, "text_to_image": 0.5, "image_to_text": 0.1, "interleaved_web": 0.2}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    store = make_store(tmp_path_factory.mktemp("store"))
    return open_shards(store["tokens"], tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)


def planned(shards: list[Shard], num_rows: int = 300, seed: int = 0, **changes: Any) -> Rows:
    return plan(shards, MixtureConfig(**changes), seed=seed, num_rows=num_rows, sequence_length=LENGTH).all_rows


def test_shares_of_kinds_are_parts_of_the_five_sources() -> None:
    schedules = kind_schedules(MixtureConfig())
    at_start = {kind: schedule[0][1] for kind, schedule in schedules.items()}
    assert at_start["caption"] == pytest.approx(0.03)
    assert at_start["question"] == pytest.approx(0.07)
    assert sum(at_start.values()) == pytest.approx(1.0)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(UserError, match=r"add up to 0\.9500"):
        MixtureConfig(text_only=((0.0, 0.0),))


def test_what_falls_and_what_rises_need_the_same_shape() -> None:
    """Halfway a cosine and a line agree; after a quarter they are .0268 and .05 into a change of .2."""
    with pytest.raises(UserError, match=r"add up to 1\.0207 at 0\.25"):
        MixtureConfig(text_to_image=((0.0, 0.7, "cosine"), (1.0, 0.5)), interleaved_web=((0.0, 0.05), (1.0, 0.25)))


def test_a_share_moves_along_a_line_a_cosine_or_jumps() -> None:
    assert share_at(((0.0, 0.7), (1.0, 0.5)), 0.25) == pytest.approx(0.65)
    assert share_at(((0.0, 0.7), (0.5, 0.5)), 0.9) == 0.5
    assert share_at(((0.0, 0.7, "cosine"), (1.0, 0.5)), 0.25) == pytest.approx(0.670711)
    assert share_at(((0.0, 0.7, "constant"), (0.5, 0.5)), 0.49) == 0.7


def test_a_schedule_crosses_json_with_and_without_a_shape() -> None:
    mixture = mixture_of({"text_only": ((0.0, 0.7, "cosine"), (1.0, 1.0)), "text_to_image": ((0.0, 0.3, "cosine"), (1.0, 0.0))},
        limits={"text": EpochLimit(max_epochs=2, at_end="stop")})  # fmt: skip
    assert configs.from_json(MixtureConfig, configs.to_json(mixture)) == mixture
    with pytest.raises(UserError, match="text_only"):
        configs.from_json(MixtureConfig, '{"text_only": [[0, 0.05, "sine"]]}')


def ticks(mixture: MixtureConfig, total: int, step: int = 1) -> np.ndarray:
    return tick_shares(list(parts_of_kinds(mixture).values()), mixture, step=step, total=total)


def test_ticks_hold_the_integral_of_every_shape_and_add_up_to_one() -> None:
    """.7 -> .5: .65 in the first half of a line, .65 + .2/π·½ = .6818 of a cosine, .7 of a jump at the half."""
    wanted = {"linear": 0.65, "cosine": 0.6 + 0.2 / np.pi, "constant": 0.7}
    for shape, first_half in wanted.items():
        end = 0.5 if shape == "constant" else 1.0
        falling, rising = ((0.0, 0.7, shape), (end, 0.5)), ((0.0, 0.3, shape), (end, 0.5))
        shares = ticks(mixture_of({"text_to_image": falling, "text_only": rising}), 10**12)
        image = shares[:, KINDS.index("text_to_image")]
        assert image[: len(image) // 2].sum() / UNIT / (len(image) // 2) == pytest.approx(first_half, abs=1e-9)
        assert image.sum() / UNIT / len(image) == pytest.approx(0.6, abs=1e-9)
        assert (shares.sum(axis=1) == UNIT).all()


def test_places_may_be_steps_or_tokens() -> None:
    """A jump after 3 of 4 steps of 100 tokens is one at .75, at 300 tokens, and at step 3."""
    made = []
    for unit, place in (("fraction", 0.75), ("tokens", 300.0), ("steps", 3.0)):
        shares = {
            "text_only": ((0.0, 1.0, "constant"), (place, 0.0)),
            "text_to_image": ((0.0, 0.0, "constant"), (place, 1.0)),
        }
        made.append(ticks(mixture_of(shares, schedule_unit=unit), 400, step=100))
    assert (made[0] == made[1]).all()
    assert (made[0] == made[2]).all()
    with pytest.raises(UserError, match="goes on to 5, beyond the end"):
        ticks(mixture_of({"text_only": ((0.0, 1.0), (5.0, 1.0))}, schedule_unit="steps"), 400, step=100)


def test_the_next_kind_is_the_one_that_the_schedule_finishes_first() -> None:
    """Shares .75 and .25 of documents of one token: in every four, the second comes once."""
    index = CountedIndex({"text": [1], "text_to_image": [1]})
    rows = made_plan(index, {"text_only": 0.75, "text_to_image": 0.25}, capacity=4, num_rows=10)
    assert [rows.kinds[rows.row(n)].tolist().count(KINDS.index("text_to_image")) for n in range(10)] == [1] * 10


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**32), st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 12), st.integers(1, 25)
)
def test_the_compiled_planner_makes_the_plan_of_the_plain_one(
    seed: int, lengths: list[int], window: int, segment: int
) -> None:
    index = CountedIndex({**MIX, "text": lengths})
    shares = SHARES | {
        "text_to_image": ((0.0, 0.5, "cosine"), (1.0, 0.2)), "interleaved_web": ((0.0, 0.2, "cosine"), (1.0, 0.5)),
    }  # fmt: skip
    mixture = mixture_of(shares, window_rows=window)
    table = ticks(mixture, 30 * 40)
    streams = [
        chain.from_iterable(block.lengths.tolist() for block in iter(Stream(index, kind, mixture, seed=seed, capacity=40).next_block, None))
        if table[:, number].any() else None
        for number, kind in enumerate(KINDS)
    ]  # fmt: skip
    chosen, wanted = plan_rows(
        table.tolist(), tick_edges(30 * 40, len(table)).tolist(), streams,
        capacity=40, max_open=window, segment_rows=segment, num_rows=30,
    )  # fmt: skip
    rows = made_plan(index, shares, capacity=40, num_rows=30, segment_steps=segment, seed=seed, window_rows=window)
    assert [rows.selected[rows.row(n)].tolist() for n in range(30)] == wanted
    assert rows.kinds.tolist() == [chosen[place][0] for place in rows.selected.tolist()]


EQUAL = {kind: [10] for kind in ("text", "caption", "text_to_image", "interleaved_web")}
TABLE_1 = {"text_only": 0.05, "text_to_image": 0.7, "image_to_text": 0.1, "interleaved_web": 0.15}


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["linear", "cosine", "constant"]),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from([(MIX, SHARES), (EQUAL, TABLE_1)]),
)
def test_shares_stay_within_one_longest_document_of_their_schedule(
    seed: int, shape: Any, late: float, data: tuple[dict[str, list[int]], dict[str, float]]
) -> None:
    """At every document in the order of selection, and at the end of every segment in the order of rows: never ahead by
    more than the kind's own longest document, nor behind by more than the longest of all. (The largest deficit alone
    falls behind by 1.3 documents of Table 1's mix.)"""
    mix, start = data
    end, image, web = (0.5 if shape == "constant" else 1.0), start["text_to_image"], start["interleaved_web"]
    shares = start | {
        "text_to_image": ((0.0, image, shape), (end, late)), "interleaved_web": ((0.0, web, shape), (end, image + web - late)),
    }  # fmt: skip
    num_rows, segment = 120, 24
    rows = made_plan(
        CountedIndex(mix), shares, capacity=LENGTH, num_rows=num_rows, segment_steps=segment, seed=seed, window_rows=8
    )
    table = ticks(mixture_of(shares), num_rows * LENGTH)
    edges = tick_edges(num_rows * LENGTH, len(table))
    integrals = np.concatenate([np.zeros((1, len(KINDS))), np.cumsum(table / UNIT * np.diff(edges)[:, None], axis=0)])
    taken = np.zeros((len(rows.kinds), len(KINDS)))
    taken[np.arange(len(taken)), rows.kinds] = rows.lengths
    ends = rows.starts[segment::segment] - 1
    by_choice, by_row = np.cumsum(taken[np.argsort(rows.selected)], axis=0), np.cumsum(taken, axis=0)[ends]
    assert sorted(rows.selected.tolist()) == list(range(len(taken)))
    assert len(by_row) == 5
    for placed in (by_choice, by_row):
        wanted = [np.interp(placed.sum(axis=1), edges, integrals[:, kind]) for kind in range(len(KINDS))]
        ahead = placed - np.transpose(wanted)
        own = np.asarray([max(mix.get(kind, [0])) for kind in KINDS])
        assert (ahead <= own + 1e-6).all()
        assert ahead.min() >= -own.max() - 1e-6


def test_units_do_not_overflow_at_two_and_a_half_trillion_tokens() -> None:
    """Documents of the longest row that the planner takes, near the end of 2.5T tokens: lags stay below it, in 64 bits."""
    longest = kernel.MAX_SEQUENCE_LENGTH - 1
    shares = {"text_only": ((0.0, 0.3), (1.0, 0.7)), "text_to_image": ((0.0, 0.7), (1.0, 0.3))}
    index = CountedIndex({"text": [longest, 1], "text_to_image": [longest, 7, 100_000]})
    steps = 2_500_000_000_000 // longest
    near_end = planner(index, shares, capacity=longest, num_rows=steps)
    near_end._clock[kernel.TOKENS] = 2_490_000_000_000
    rows = near_end.take(3_000)
    assert max(abs(lag) for lag in near_end.lags.values()) <= longest
    assert sum(near_end.lags.values()) == pytest.approx(0, abs=1)
    assert share_of(rows)["text"] == pytest.approx(0.6986, abs=0.03)  # the last 64 rows are open


def test_the_planner_goes_on_from_a_state_with_the_same_rows() -> None:
    def fresh() -> Any:
        index = CountedIndex(MIX, num_shards=40)
        return planner(index, SHARES, capacity=LENGTH, num_rows=400, segment_steps=80, shuffle_shards=4)

    whole, parts = fresh().take(400), fresh()
    for first in range(0, 400, 80):
        state = parts.state()
        assert whole.part(first, first + 80).digest() == parts.take(80).digest()
        again = fresh()
        again.put_back(state)
        assert whole.part(first, first + 80).digest() == again.take(80).digest()


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another(shards: list[Shard]) -> None:
    a, b, c = (planned(shards, 50, seed=seed) for seed in (0, 0, 1))
    assert a.digest() == b.digest() != c.digest()


def test_a_longer_plan_begins_like_a_shorter_one(shards: list[Shard]) -> None:
    assert planned(shards, 20).digest() == planned(shards, 60).part(0, 20).digest()


def test_every_sample_comes_once_an_epoch_before_any_comes_again(shards: list[Shard]) -> None:
    made = planned(shards, 500)
    chosen = np.flatnonzero(made.kinds == KINDS.index("text"))
    chosen = chosen[np.argsort(made.selected[chosen])]
    seen = list(zip(made.epochs[chosen], made.shards[chosen], made.rows[chosen], strict=True))
    assert len(seen) == len(set(seen))
    assert np.all(np.diff(made.epochs[chosen]) >= 0)
    held_in = sum(int((~shard.held_out & (shard.tasks == "text")).sum()) for shard in shards)
    assert made.epochs.max() > 0
    assert int((made.epochs[chosen] == 0).sum()) == held_in


def test_held_out_samples_are_never_planned(shards: list[Shard]) -> None:
    made = planned(shards)
    assert not any(shards[s].held_out[r] for s, r in zip(made.shards, made.rows, strict=True))
    assert any(shard.held_out.any() for shard in shards)


def test_rows_hold_whole_documents_and_are_nearly_full(shards: list[Shard]) -> None:
    made = planned(shards)
    assert all(made.lengths[made.row(n)].sum() <= LENGTH for n in range(len(made)))
    assert made.fill(LENGTH) > 0.97


def test_only_the_shards_of_the_window_are_open() -> None:
    index = CountedIndex({"text": [10] * 100}, num_shards=50)
    made_plan(index, {"text_only": 1.0}, capacity=100, num_rows=20, shuffle_shards=3, window_rows=4)
    assert len(index.opened) < 16  # the first block has 1,024 documents: 10 shards, and 3 open


@pytest.mark.parametrize(("at_end", "rows"), [("stop", 20), ("renormalise", 60)])
def test_a_source_that_ends_stops_the_stage_or_gives_its_share_away(at_end: Any, rows: int) -> None:
    """Half texts: 2 epochs × 3 shards × 10 documents of 16 tokens = 960, so 1,920 tokens until they end: 20 rows of 96."""
    limits = {"text": EpochLimit(max_epochs=2, at_end=at_end)}
    index = CountedIndex({"text": [16] * 10, "caption": [16] * 10, "text_to_image": [16] * 7})
    shares = {"text_only": 0.5, "image_to_text": 0.2, "text_to_image": 0.3}
    made = planner(index, shares, capacity=96, num_rows=60, window_rows=4, limits=limits)
    whole = made.take(60)
    assert len(whole) == pytest.approx(rows, abs=1)
    texts = whole.kinds == KINDS.index("text")
    seen = set(zip(whole.epochs[texts], whole.shards[texts], whole.rows[texts], strict=True))
    assert len(seen) == int(texts.sum()) == 60
    assert made.stopped == (at_end == "stop")
    if at_end == "renormalise":  # of the other 4,800 tokens, two parts in five are captions, and three images
        later = whole.part(25, 60)
        assert share_of(later)["caption"] == pytest.approx(0.4, abs=0.02)
        assert share_of(later)["text_to_image"] == pytest.approx(0.6, abs=0.02)


def test_renormalised_shares_keep_their_proportions() -> None:
    shares = np.asarray([[UNIT // 2, UNIT // 4, UNIT // 4]])
    assert renormalised(shares, np.asarray([False, True, True])).tolist() == [[0, UNIT // 2, UNIT // 2]]
    with pytest.raises(UserError, match="Every kind of document with a share has ended"):
        renormalised(shares, np.zeros(3, np.bool_))


def test_a_kind_that_was_once_alone_may_end_later() -> None:
    """Images alone for a tenth of the stage, then half of all; they end, and the ticks behind say nothing against that."""
    shares = {"text_only": ((0.0, 0.0, "constant"), (0.1, 0.5)), "text_to_image": ((0.0, 1.0, "constant"), (0.1, 0.5))}
    index = CountedIndex({"text": [16] * 10, "text_to_image": [16] * 20})
    limits = {"text_to_image": EpochLimit(max_epochs=1, at_end="renormalise")}
    whole = planner(index, shares, capacity=96, num_rows=40, window_rows=4, limits=limits).take(40)
    assert len(whole) == 40
    assert int((whole.kinds == KINDS.index("text_to_image")).sum()) == 60
    declared = np.asarray([[0, UNIT], [UNIT // 2, UNIT // 2]])
    active = np.asarray([True, False])
    assert renormalised(declared, active, from_tick=1).tolist() == [[0, UNIT], [UNIT, 0]]
    with pytest.raises(UserError, match="Every kind of document with a share has ended"):
        renormalised(declared, active)


def test_documents_longer_than_a_row_are_dropped_and_counted_or_refused() -> None:
    index = CountedIndex({"text": [10, 200, 20]}, num_shards=2)
    made = planner(index, {"text_only": 1.0}, capacity=100, num_rows=2, window_rows=2)
    assert set(made.take(2).lengths.tolist()) == {10, 20}
    assert made.too_long["text"] > 0
    with pytest.raises(UserError, match=r"1 text samples of default/\d are longer than a row of 100 tokens"):
        made_plan(index, {"text_only": 1.0}, capacity=100, num_rows=2, too_long="refuse")


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


def test_variants_strides_and_resolutions_are_drawn_by_their_weights() -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    mixture = MixtureConfig(variant_share=0.5, frame_strides=(1, 2, 4))
    variants = draw_variants(keys, np.full(len(keys), 2), "caption", mixture, seed=0, epoch=0)
    assert (np.bincount(variants) / len(keys)).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.01)
    assert not draw_variants(keys, np.zeros(len(keys), np.int64), "caption", mixture, seed=0, epoch=0).any()
    strides = draw_strides(keys, "interleaved_video", mixture, seed=0, epoch=0)
    assert [float((strides == stride).mean()) for stride in (1, 2, 4)] == pytest.approx([1 / 3] * 3, abs=0.01)
    read = [reads_resolution(keys, "edit", (3.0, 1.0), chosen, seed=0, epoch=0) for chosen in (0, 1)]
    assert (read[0] ^ read[1]).all()
    assert float(read[0].mean()) == pytest.approx(0.75, abs=0.01)


def test_a_source_without_samples_is_refused(shards: list[Shard]) -> None:
    with pytest.raises(UserError, match="No text sample"):
        planned([shard for shard in shards if "text" not in shard.tasks], 5)


def test_images_outside_the_grid_sides_are_left_out(shards: list[Shard]) -> None:
    with pytest.raises(UserError, match="No caption sample"):
        planned(shards, 5, grid_sides=(3, 9))
