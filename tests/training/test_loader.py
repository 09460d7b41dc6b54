"""The loader: a batch depends on the step alone, and ranks share it out."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_lmm import CODES, tiny_lmm
from token_store import make_store
from transformers import AutoTokenizer

from arm.errors import UserError
from arm.model.documents import KEEP_ALL, TextEncoder, build
from arm.model.token_shards import Shard, open_shards
from arm.training.config import SOURCES, MixtureConfig
from arm.training.ledger.identity import MODULUS, identity_sum, shard_keys
from arm.training.loader import Loader, held_out_batches
from arm.training.mixture import find_held_out, plan

_, _, VOCABULARY = tiny_lmm()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Shard], TextEncoder]:
    folder: Path = tmp_path_factory.mktemp("store")
    tokens = make_store(folder)["tokens"]
    shards = open_shards(tokens, tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)
    return shards, TextEncoder(AutoTokenizer.from_pretrained(folder / "base" / "model"))


def loader(opened: tuple[list[Shard], TextEncoder], **changes: Any) -> Loader:
    shards, encode = opened
    made = plan(shards, MixtureConfig(), seed=0, num_rows=40, sequence_length=64)
    return Loader(shards, made, VOCABULARY, encode, rows_per_step=4, rows_per_micro_batch=2, **changes)


def test_a_batch_is_the_same_whatever_was_asked_before(opened: tuple[list[Shard], TextEncoder]) -> None:
    fresh, used = loader(opened), loader(opened)
    for step in (3, 0, 7):
        used.micro_batches(step)
    for a, b in zip(fresh.micro_batches(5), used.micro_batches(5), strict=True):
        assert a.ids_N.tolist() == b.ids_N.tolist()


def test_two_ranks_read_what_one_reads(opened: tuple[list[Shard], TextEncoder]) -> None:
    one, two = loader(opened), [loader(opened, rank=rank, num_ranks=2) for rank in (0, 1)]
    for step in range(10):
        assert sorted(two[0].rows_of(step) + two[1].rows_of(step)) == one.rows_of(step)
    digests = [sum(b.digest for part in loaders for b in part.micro_batches(4)) % 2**62 for loaders in ([one], two)]
    assert digests[0] == digests[1]
    found = one.documents_of(4)
    keys = shard_keys([shard.name for shard in opened[0]])[found.shards]
    listed = identity_sum(found.kinds, keys, found.rows, found.epochs)
    assert listed == sum(b.identity for loader in two for b in loader.micro_batches(4)) % MODULUS


def test_rows_that_do_not_divide_among_ranks_leave_padding_of_which_nothing_is_learned(
    opened: tuple[list[Shard], TextEncoder],
) -> None:
    """Four rows of a step to three ranks, at most two each; to six ranks, of which two have none."""
    one = sum(batch.digest for batch in loader(opened).micro_batches(2))
    for num_ranks in (3, 6):
        loaders = [loader(opened, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
        assert sorted(row for each in loaders for row in each.rows_of(2)) == [8, 9, 10, 11]
        parts = [each.micro_batches(2) for each in loaders]
        assert {len(part) for part in parts} == {1}
        assert sum(batch.digest for part in parts for batch in part) % 2**62 == one % 2**62
        empty = [batch for part in parts for batch in part if not batch.num_documents]
        assert len(empty) == (2 if num_ranks == 6 else 0)
        for batch in empty:
            assert (batch.lengths, batch.num_tokens, len(batch.code_targets_M)) == ((64,), 0, 0)
            assert len(batch.text_targets_M) == 0


def test_what_is_built_ahead_changes_nothing(opened: tuple[list[Shard], TextEncoder]) -> None:
    ahead, plain = loader(opened, prefetch=3), loader(opened, prefetch=0)
    for step in (0, 1, 2, 8, 9, 4):
        for a, b in zip(ahead.micro_batches(step), plain.micro_batches(step), strict=True):
            assert a.ids_N.tolist() == b.ids_N.tolist()
            assert a.digest == b.digest


def test_the_thread_ends_with_the_loader_and_after_an_error(opened: tuple[list[Shard], TextEncoder]) -> None:
    shards, _ = opened

    def broken(texts: Sequence[str]) -> list[Any]:
        raise RuntimeError("no such word")

    failing, whole = loader((shards, broken)), loader(opened)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no such word"):
        failing.micro_batches(0)
    whole.micro_batches(0)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
    assert len(threads) >= 2
    for each in (failing, whole):
        each.close()
        assert not each._builder._threads & {thread for thread in threads if thread.is_alive()}


def test_all_ranks_know_the_documents_of_a_step(opened: tuple[list[Shard], TextEncoder]) -> None:
    one, two = loader(opened).documents_of(3), loader(opened, rank=1, num_ranks=2).documents_of(3)
    assert one.digest() == two.digest()
    assert len(one) == 4
    batches = loader(opened).micro_batches(3)
    assert sum(batch.num_documents for batch in batches) == len(one.kinds)
    assert sum(batch.num_tokens for batch in batches) == one.lengths.sum()


def test_held_out_batches_hold_only_held_out_samples(opened: tuple[list[Shard], TextEncoder]) -> None:
    shards, encode = opened
    found = find_held_out(shards, MixtureConfig(), num_documents=1000, max_tokens=128)
    assert not found.too_long
    batches = held_out_batches(shards, found, VOCABULARY, encode, max_tokens=128)
    count = sum(batch.num_documents for batch in batches["edit"])
    assert count == sum(int((shard.held_out & (shard.tasks == "edit")).sum()) for shard in shards)
    assert all(len(batch.ids_N) <= 128 for group in batches.values() for batch in group)


def test_no_shard_is_opened_for_held_out_samples_of_a_kind_without_a_share(
    opened: tuple[list[Shard], TextEncoder],
) -> None:
    """All shards are asked for edits as long as edits have a share; without one the search ends before the last shard."""
    wanted = MixtureConfig(text_only=((0.0, 1.0),), **dict.fromkeys(SOURCES[1:], ((0.0, 0.0),)))
    for mixture, all_of_them in ((MixtureConfig(), True), (wanted, False)):
        asked: list[int] = []

        class Counted(list[Shard]):
            def __getitem__(self, number: Any) -> Any:
                asked.append(number)  # noqa: B023
                return super().__getitem__(number)

        wished = 1 if mixture is wanted else 1000
        found = find_held_out(Counted(opened[0]), mixture, num_documents=wished, max_tokens=128).places
        assert (len(asked) == len(opened[0])) == all_of_them
        assert bool(found["edit"]) == all_of_them
        assert found["text"]


def test_held_out_documents_longer_than_a_batch_are_counted_and_the_next_ones_take_their_place(
    opened: tuple[list[Shard], TextEncoder],
) -> None:
    shards, encode = opened
    everything = find_held_out(shards, MixtureConfig(), num_documents=1000, max_tokens=128).places
    for kind, places in everything.items():
        lengths = [len(build(kind, shards[s].parts(row), KEEP_ALL, VOCABULARY, encode).ids) for s, row in places]
        for longest in sorted(set(lengths)):
            fitting = [place for place, length in zip(places, lengths, strict=True) if length <= longest]
            for wished in (1, len(fitting), 1000):
                found = find_held_out(shards, MixtureConfig(), num_documents=wished, max_tokens=longest)
                assert found.places[kind] == fitting[:wished]
                seen = lengths if wished > len(fitting) else lengths[: places.index(fitting[wished - 1])]
                assert found.too_long.get(kind, 0) == sum(length > longest for length in seen)
    assert len({len(places) for places in everything.values()}) > 1


def test_codes_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    tokens = make_store(tmp_path)["tokens"]
    with pytest.raises(UserError, match="holds codes of visual tokenizer 'ffff"):
        open_shards(tokens, tokenizer_fingerprint="e" * 64, num_codes=8)
