"""Prompts: never altered, dealt in an order that only the seed decides."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from arm.data.images import encode_image, open_image
from arm.data.shards import write_shard
from arm.errors import UserError
from arm.manifest import Manifest, entries_of
from arm.records import Image, Sample, Text, make_uid
from arm.rl import rollout
from arm.rl.prompts import PromptStream, RolloutPrompt, noise_seed, prompt_of, read_prompts, sample_seed
from arm.rl.rollout import SourceRule, drop_bad_sources
from arm.storage import LocalFolder
from arm.tokenizer.config import ResolutionConfig

PIXELS = np.full((36, 36, 3), 200, dtype=np.uint8)


def t2i(text: str) -> Sample:
    return Sample(
        uid=make_uid(text), task="text_to_image", parts=(Text(text=text, role="caption"),), source="p", meta={"n": 1}
    )


def edit(text: str) -> Sample:
    return Sample(
        uid=make_uid("edit", text),
        task="edit",
        parts=(encode_image(PIXELS), Text(text=text, role="instruction")),
        source="p",
    )


def manifest_of(folder: Path, samples: list[Sample]) -> Manifest:
    (folder / "shards").mkdir(parents=True)
    write_shard(folder / "shards" / "p-00000.tar", samples)
    store = LocalFolder(folder)
    return Manifest(
        kind="image-shards", job="import-samples", version=1, key="k", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(store), folder=store,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["two cats", " <image> a cat ", "<|vision_start|>catsgame<|im_end|>", "ein Käfer 猫"])
def test_a_prompt_reaches_the_policy_as_it_was_written(tmp_path: Path, text: str) -> None:
    prompts = read_prompts(manifest_of(tmp_path, [t2i(text)]), 0.0)
    assert [prompt.text for prompt in prompts["text_to_image"]] == [text]


def test_an_edit_prompt_has_its_source_and_instruction(tmp_path: Path) -> None:
    found = read_prompts(manifest_of(tmp_path, [edit("remove the cat"), t2i("two cats")]), 1.0)
    assert list(found) == ["edit"]
    assert found["edit"][0].text == "remove the cat"
    assert found["edit"][0].source == encode_image(PIXELS)


def test_a_stage_without_prompts_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prompt of task 'edit'"):
        read_prompts(manifest_of(tmp_path, [t2i("two cats")]), 0.5)


def test_an_edit_sample_without_an_image_is_refused() -> None:
    sample = Sample(uid=make_uid("x"), task="edit", parts=(Text(text="a"), Text(text="b")), source="p")
    with pytest.raises(UserError, match="is no prompt of task 'edit'"):
        prompt_of(sample)


def edit_of(text: str, source: Image) -> RolloutPrompt:
    return RolloutPrompt(uid=make_uid(text), task="edit", text=text, meta={}, source=source)


def cut_in_half() -> Image:
    """A JPEG whose header is whole."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "jpeg")
    return open_image(buffer.getvalue()[: len(buffer.getvalue()) // 2])


RULE = SourceRule(resolution=ResolutionConfig(min_short_side=24, max_long_side=120), stride=12, num_shapes=8)
WIDE = encode_image(np.zeros((24, 108, 3), dtype=np.uint8))
"""9 codes wide, where 8 is the most that has a token."""


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_sources_that_no_rollout_can_start_from_are_dropped_and_counted(
    num_ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank keeps the same prompts, whichever it looked at."""
    good = [edit_of(f"good {i}", encode_image(PIXELS)) for i in range(3)]
    bad = [edit_of("torn", cut_in_half()), edit_of("torn, too", cut_in_half()), edit_of("wide", WIDE)]
    prompts = {"text_to_image": [prompt_of(t2i("two cats"))], "edit": [good[0], *bad[:2], good[1], bad[2], good[2]]}
    parts = [
        [
            {index: RULE.reason_against(found[index]) for index in range(rank, len(found), num_ranks)}
            for rank in range(num_ranks)
        ]
        for found in prompts.values()
    ]
    for rank in range(num_ranks):
        gathered = iter(parts)
        monkeypatch.setattr(
            rollout, "all_ranks", lambda mine, gathered=gathered, rank=rank: _with(next(gathered), rank, mine)
        )
        kept, dropped = drop_bad_sources(prompts, RULE, rank, num_ranks)
        assert kept == {"text_to_image": prompts["text_to_image"], "edit": good}
        assert dropped == {"bad_image": 2, "shape": 1}


def _with(parts: list[dict[int, str | None]], rank: int, mine: dict[int, str | None]) -> list[dict[int, str | None]]:
    assert parts[rank] == mine
    return parts


def test_a_task_without_a_source_that_can_be_used_is_refused_in_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"^No source of the 2 prompts of task 'edit' can be used \(bad_image 1, shape 1\)"
    ):
        drop_bad_sources({"edit": [edit_of("torn", cut_in_half()), edit_of("wide", WIDE)]}, RULE)


def stream(share: float, seed: int = 0, count: int = 5) -> PromptStream:
    prompts = {
        "text_to_image": [prompt_of(t2i(f"t{i}")) for i in range(count)],
        "edit": [prompt_of(edit(f"e{i}")) for i in range(count)],
    }
    return PromptStream(prompts, share, seed)


def test_edits_come_at_their_share_from_the_first_step() -> None:
    tasks = [draw.prompt.task[0] for draw in stream(0.25).take(0, 8)]
    assert tasks == ["t", "t", "t", "e", "t", "t", "t", "e"]
    assert sum(draw.prompt.task == "edit" for draw in stream(0.3).take(0, 100)) == 30


def test_each_epoch_holds_every_prompt_once_in_another_order() -> None:
    texts = [draw.prompt.text for draw in stream(0.0, count=20).take(0, 40)]
    assert sorted(texts[:20]) == sorted(texts[20:]) == sorted(f"t{i}" for i in range(20))
    assert texts[:20] != texts[20:]


def test_the_stream_goes_on_at_a_place_as_if_it_had_never_stopped() -> None:
    whole = stream(0.5).take(0, 30)
    assert stream(0.5).take(17, 13) == whole[17:]


def test_another_seed_deals_another_order() -> None:
    first, second = (stream(0.0, seed, count=20).take(0, 20) for seed in (0, 1))
    assert [d.prompt.uid for d in first] != [d.prompt.uid for d in second]


def test_noise_seeds_are_fixed_by_prompt_visit_and_sample() -> None:
    draws = stream(0.0).take(0, 10)
    seeds = {(d.prompt.uid, d.visit, k): sample_seed(0, d, k) for d in draws for k in range(4)}
    assert len(set(seeds.values())) == 40
    by_two_ranks = {
        (d.prompt.uid, d.visit, k): sample_seed(0, d, k) for rank in (1, 0) for d in draws[rank::2] for k in range(4)
    }
    assert by_two_ranks == seeds


def test_a_noise_seed_is_a_known_number() -> None:
    # the first 8 bytes of blake2b over "1", NUL, "a", big-endian, halved
    assert noise_seed(1, "a") == 2964678013723640713
