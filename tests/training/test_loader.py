"""The loader: a batch depends on the step alone, and ranks share it out."""

from pathlib import Path

import pytest
from tiny_lmm import CODES, tiny_lmm
from token_store import make_store
from transformers import AutoTokenizer

from arm.errors import UserError
from arm.model.documents import TextEncoder
from arm.model.token_shards import Shard, open_shards
from arm.training.config import MixtureConfig
from arm.training.ledger.identity import MODULUS, identity_sum, shard_keys
from arm.training.loader import Loader, held_out_batches
from arm.training.mixture import plan

_, _, VOCABULARY = tiny_lmm()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Shard], TextEncoder]:
    folder: Path = tmp_path_factory.mktemp("store")
    tokens = make_store(folder)["tokens"]
    shards = open_shards(tokens, tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)
    return shards, TextEncoder(AutoTokenizer.from_pretrained(folder / "base" / "model"))


def loader(opened: tuple[list[Shard], TextEncoder], *, rank: int = 0, num_ranks: int = 1) -> Loader:
    shards, encode = opened
    made = plan(shards, MixtureConfig(), seed=0, num_rows=40, sequence_length=64)
    return Loader(
        shards, made, VOCABULARY, encode, rows_per_step=4, rows_per_micro_batch=2, rank=rank, num_ranks=num_ranks
    )


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


def test_held_out_batches_hold_only_held_out_samples(opened: tuple[list[Shard], TextEncoder]) -> None:
    shards, encode = opened
    batches = held_out_batches(shards, MixtureConfig(), VOCABULARY, encode, num_documents=1000, max_tokens=128)
    count = sum(batch.num_documents for batch in batches["edit"])
    assert count == sum(int((shard.held_out & (shard.tasks == "edit")).sum()) for shard in shards)
    assert all(len(batch.ids_N) <= 128 for group in batches.values() for batch in group)


def test_codes_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    tokens = make_store(tmp_path)["tokens"]
    with pytest.raises(UserError, match="holds codes of visual tokenizer 'ffff"):
        open_shards(tokens, tokenizer_fingerprint="e" * 64, num_codes=8)
