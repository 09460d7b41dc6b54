"""Global batches: the same for any number of ranks, every pair at most once an epoch, sizes drawn, exact resume."""

from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.data.images import decode_image, encode_image
from arm.data.shards import read_shard, write_shard
from arm.errors import IntegrityError, UserError
from arm.records import Image, Sample, Text, make_uid
from arm.tokenizer.config import ResolutionConfig
from arm.tokenizer.resolution import Size
from arm.tokenizer.training.pairs import Batch, PairStream, PixelReader, deal_rows, draw_size, read_index

PATCH = 4
SIZES = [(8, 8), (8, 16), (24, 8)]
"""Sides of the images; the second resolution doubles them."""
RESOLUTIONS = (
    ResolutionConfig(min_short_side=8, max_long_side=24),
    ResolutionConfig(min_short_side=16, max_long_side=48),
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three shards of 21 images of three shapes."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    paths = []
    for shard in range(3):
        samples = []
        for index in range(21):
            pixels = rng.integers(0, 255, (*SIZES[index % 3], 3), dtype=np.uint8)
            parts = (encode_image(pixels), Text(text=f"caption {index}", role="caption"))
            meta = {"description": f"a long description {index}"} if index % 2 else {}
            uid = make_uid("pairs", f"{shard}/{index}")
            samples.append(Sample(uid=uid, task="caption", parts=parts, source="test", meta=meta))
        paths.append(folder / f"pairs-{shard:05d}.tar")
        write_shard(paths[-1], samples)
    return paths


def make(shards: list[Path], **options: int) -> PairStream:
    values = {"batch_size": 8, "seed": 0, "window_shards": 2, **options}
    return PairStream(shards, sizing=draw_size(RESOLUTIONS, PATCH, 0), **values)


def names(batch: Batch) -> list[str]:
    return [pair.uid for pair in batch.pairs]


def test_texts_and_pixels_are_those_of_the_shard(shards: list[Path]) -> None:
    pairs = [*read_index(shards[0], held_out=False), *read_index(shards[0], held_out=True)]
    samples = {sample.uid: sample for sample in read_shard(shards[0])}
    assert {pair.uid for pair in pairs} == set(samples)
    for pair in pairs:
        image, caption = samples[pair.uid].parts
        assert isinstance(image, Image)
        assert isinstance(caption, Text)
        assert pair.caption == caption.text
        assert pair.description == samples[pair.uid].meta.get("description", caption.text)
        read = PixelReader(0).read([pair], (image.height, image.width))
        assert torch.equal((read[0].permute(1, 2, 0) * 255).round().byte(), torch.tensor(decode_image(image)))


def test_every_pair_of_an_epoch_is_used_at_most_once_and_the_rest_is_counted(shards: list[Path]) -> None:
    stream = make(shards)
    total = sum(len(read_index(path, held_out=False)) for path in shards)
    seen: Counter[str] = Counter()
    while True:
        batch = stream.next_batch()
        if stream.epoch > 0:
            break
        seen.update(names(batch))
    assert max(seen.values()) == 1
    assert len(seen) + stream.left_over == total
    assert stream.left_over < 2 * 8


def test_an_epoch_draws_sizes_anew_and_batches_are_sorted_by_size(shards: list[Path]) -> None:
    sizing = draw_size(RESOLUTIONS, PATCH, 0)
    pairs = read_index(shards[0], held_out=False)
    first, second = ([sizing(pair, epoch) for pair in pairs] for epoch in (0, 1))
    assert first != second
    assert first == [sizing(pair, 0) for pair in pairs]
    assert {(8, 8), (16, 16)} <= set(first) | set(second)
    batch = make(shards).next_batch()
    assert batch.sizes == sorted(batch.sizes)
    assert len(set(batch.sizes)) > 1


def test_one_resolution_gives_square_images_of_that_side() -> None:
    square = (ResolutionConfig(min_short_side=36, max_long_side=36),)
    assert draw_size(square, 12, 0)(_pair(36, 36), 3) == (36, 36)


def test_a_stream_resumes_at_any_batch(shards: list[Path]) -> None:
    whole = make(shards)
    expected = [names(whole.next_batch()) for _ in range(14)]
    for cut in (0, 1, 5, 13):
        before = make(shards)
        for _ in range(cut):
            before.next_batch()
        after = make(shards)
        after.load_state_dict(before.state_dict())
        assert [names(after.next_batch()) for _ in range(14 - cut)] == expected[cut:]


def test_the_rows_of_all_ranks_are_the_batch_whatever_their_number(shards: list[Path]) -> None:
    batch = make(shards).next_batch()
    for num_ranks in (1, 2, 4, 8):
        dealt = deal_rows(batch.sizes, num_ranks, 3)
        rows = [row for rank in dealt for part in rank for row in range(part.start, part.stop)]
        assert rows == list(range(8))


@given(
    sizes=st.lists(st.sampled_from([(8, 8), (8, 16), (16, 8)]), min_size=4, max_size=40).map(sorted),
    num_ranks=st.sampled_from([1, 2, 4]),
    micro_batch=st.integers(0, 6),
)
@settings(max_examples=60, deadline=None)
def test_every_rank_computes_as_many_micro_batches_of_one_size_each(
    sizes: list[Size], num_ranks: int, micro_batch: int
) -> None:
    sizes = sizes[: len(sizes) // num_ranks * num_ranks]
    dealt = deal_rows(sizes, num_ranks, micro_batch)
    assert len({len(rank) for rank in dealt}) == 1
    assert [r for rank in dealt for part in rank for r in range(part.start, part.stop)] == list(range(len(sizes)))
    for rank in dealt:
        assert sum(part.stop - part.start for part in rank) == len(sizes) // num_ranks
        for part in rank:
            assert part.stop > part.start
            assert len(list(groupby(sizes[part]))) == 1
            assert micro_batch == 0 or part.stop - part.start <= micro_batch


def test_a_rank_with_fewer_sizes_splits_its_longest_run() -> None:
    a, b, c = (8, 8), (8, 16), (16, 8)
    assert deal_rows([a, a, a, b, c, c], 2, 0) == [[slice(0, 2), slice(2, 3)], [slice(3, 4), slice(4, 6)]]


def test_a_batch_that_does_not_divide_among_the_ranks_is_refused() -> None:
    with pytest.raises(UserError, match="does not divide among 2 ranks"):
        deal_rows([(8, 8)] * 3, 2, 0)


def test_pixels_are_kept_within_the_bound_and_read_again_beyond_it(shards: list[Path]) -> None:
    pairs = read_index(shards[0], held_out=False)
    bounded, all_read = PixelReader(3 * 8 * 8 * 3), PixelReader(0)
    for _ in range(2):
        assert torch.equal(bounded.read(pairs, (8, 8)), all_read.read(pairs, (8, 8)))
    assert len(bounded._cache) == 3
    assert not all_read._cache


def test_a_damaged_image_names_its_sample(tmp_path: Path) -> None:
    image = replace(encode_image(np.zeros((8, 8, 3), np.uint8)), data=b"no image")
    uid, path = make_uid("pairs", "bad"), tmp_path / "bad-00000.tar"
    sample = Sample(uid=uid, task="caption", parts=(image, Text(text="a caption", role="caption")), source="test")
    write_shard(path, [sample])
    pairs = [*read_index(path, held_out=False), *read_index(path, held_out=True)]
    with pytest.raises(IntegrityError, match=uid):
        PixelReader(0).read(pairs, (8, 8))


def test_threads_decode_the_same(shards: list[Path]) -> None:
    pairs = read_index(shards[0], held_out=False)
    assert torch.equal(PixelReader(0, threads=3).read(pairs, (8, 16)), PixelReader(0).read(pairs, (8, 16)))


def _pair(height: int, width: int):  # type: ignore[no-untyped-def]
    from arm.tokenizer.training.pairs import Pair

    image = Image(data=b"", format="png", height=height, width=width)
    return Pair(uid="00", path=Path("x"), span=(0, 0), image=image, caption="c", description="c")
