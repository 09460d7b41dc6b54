"""Documents that were taken down: the plan and the ledger stay, the documents are padding, the others learn as before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lmm import CODES, tiny_lmm
from token_store import make_store
from transformers import AutoTokenizer

from arm.errors import IntegrityError
from arm.model.attention import NAME
from arm.model.documents import KINDS, TextEncoder
from arm.model.token_shards import Shard, open_shards
from arm.storage import LocalFolder
from arm.training.config import MixtureConfig, StageConfig
from arm.training.ledger.attempts import Attempt, AttemptsLog, read_attempts
from arm.training.ledger.format import Steps
from arm.training.ledger.verification import _check_attempts
from arm.training.loader import Batch, Loader, held_out_batches
from arm.training.loss import PackedModel
from arm.training.mixture import Plan, find_held_out, plan
from arm.training.withdrawn import Withdrawn, padding_document

MODEL, _, VOCABULARY = tiny_lmm()
STEP = 3
Store = tuple[list[Shard], TextEncoder, Plan]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("store")
    tokens = make_store(folder, shards_per_task=1)["tokens"]
    shards = open_shards(tokens, tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)
    encode = TextEncoder(AutoTokenizer.from_pretrained(folder / "base" / "model"))
    return shards, encode, plan(shards, MixtureConfig(), seed=0, num_rows=24, sequence_length=64)


def loader(store: Store, **changes: Any) -> Loader:
    shards, encode, planned = store
    return Loader(shards, planned, VOCABULARY, encode, rows_per_step=4, rows_per_micro_batch=4, prefetch=0, **changes)


def chosen(store: Store) -> tuple[str, int, int]:
    """A document of a step: its sample's uid, and its shard and row."""
    rows = loader(store).documents_of(STEP)
    place = int(np.flatnonzero(rows.kinds == KINDS.index("text_to_image"))[0])
    shard, row = int(rows.shards[place]), int(rows.rows[place])
    return store[0][shard].uids[row].tobytes().hex(), shard, row


def batches_of(store: Store, **changes: Any) -> list[Batch]:
    made = loader(store, **changes)
    return [batch for step in range(6) for batch in made.micro_batches(step)]


def test_order_lengths_and_identities_of_every_step_stay(store: Store) -> None:
    uid, shard, row = chosen(store)
    before, after = batches_of(store), batches_of(store, refused={uid})
    for a, b in zip(before, after, strict=True):
        assert (a.lengths, a.num_documents, a.num_tokens) == (b.lengths, b.num_documents, b.num_tokens)
        assert (a.identity, a.tokens_by_kind) == (b.identity, b.tokens_by_kind)
    made = loader(store, refused={uid})
    fed_it = [step for step in range(6) if made.is_withdrawn(step)]
    documents = [made.documents_of(step) for step in range(6)]
    assert fed_it == [s for s, d in enumerate(documents) if np.any((d.shards == shard) & (d.rows == row))]
    assert [step for step in range(6) if before[step].digest != after[step].digest] == fed_it
    assert not any(loader(store).is_withdrawn(step) for step in range(6))


def test_a_document_that_was_taken_down_teaches_nothing_and_changes_no_other(store: Store) -> None:
    uid, _, _ = chosen(store)
    before, after = batches_of(store)[STEP], batches_of(store, refused={uid})[STEP]
    other = (before.ids_N != after.ids_N).nonzero()[:, 0]
    first, last = int(other.min()), int(other.max())
    starts = np.cumsum((0, *before.lengths))
    document = int(np.searchsorted(starts, first, side="right")) - 1
    span = slice(int(starts[document]), int(starts[document + 1]))
    assert span.start <= first <= last < span.stop
    assert after.ids_N[span].tolist() == [VOCABULARY.end_of_text] * (span.stop - span.start)
    outside = torch.ones(len(before.ids_N), dtype=torch.bool)
    outside[span] = False
    for name in ("code", "text"):
        sources, targets = getattr(before, f"{name}_sources_M"), getattr(before, f"{name}_targets_M")
        left, still = getattr(after, f"{name}_sources_M"), getattr(after, f"{name}_targets_M")
        assert left.tolist() == sources[outside[sources]].tolist()
        assert still.tolist() == targets[outside[sources]].tolist()
    MODEL.eval().set_attn_implementation(NAME)
    packed = PackedModel(MODEL, VOCABULARY, StageConfig(steps=1))
    with torch.no_grad():
        hidden = [packed.hidden(batch) @ MODEL.lm_head.weight.T for batch in (before, after)]
    assert torch.equal(hidden[0][outside], hidden[1][outside])


def test_its_gradient_is_zero(store: Store) -> None:
    """A step of which everything was taken down: no target, no loss, no gradient."""
    rows = loader(store).documents_of(STEP)
    places = zip(rows.shards.tolist(), rows.rows.tolist(), strict=True)
    uids = {store[0][shard].uids[row].tobytes().hex() for shard, row in places}
    (batch,) = loader(store, refused=uids).micro_batches(STEP)
    assert len(batch.code_targets_M) == len(batch.text_targets_M) == 0
    MODEL.eval().set_attn_implementation(NAME)
    MODEL.zero_grad()
    found = PackedModel(MODEL, VOCABULARY, StageConfig(steps=1))(batch)
    found.weighted.backward()
    assert found.weighted.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in MODEL.parameters())


def test_a_held_out_document_is_left_out_and_nothing_takes_its_place(store: Store) -> None:
    shards, encode, _ = store
    found = find_held_out(shards, MixtureConfig(), num_documents=3, max_tokens=64)
    before = held_out_batches(shards, found, VOCABULARY, encode, max_tokens=64)
    shard = next(s for s in shards if "text" in s.task_names)
    uid = shard.uids[int(np.flatnonzero(shard.held_out)[0])].tobytes().hex()
    after = held_out_batches(shards, found, VOCABULARY, encode, max_tokens=64, refused={uid})
    counts = [{kind: sum(b.num_documents for b in group) for kind, group in made.items()} for made in (before, after)]
    assert counts[1] == counts[0] | {"text": counts[0]["text"] - 1}


def test_rows_are_found_by_the_whole_uid(store: Store) -> None:
    shards = store[0]
    uid = shards[0].uids[2].tobytes()
    alike = (uid[:8] + bytes(8)).hex()
    assert Withdrawn(shards, {uid.hex(), alike}).rows(0) == {2}
    assert Withdrawn(shards, {alike}).rows(0) == frozenset()
    assert not Withdrawn(shards, ())
    assert padding_document(3, 1, 7).ids.tolist() == [7, 7, 7]


def test_steps_done_again_under_other_tombstones_may_feed_other_tokens_but_no_other_documents(tmp_path: Path) -> None:
    log = AttemptsLog(LocalFolder(tmp_path), num_ranks=1)
    log.begin(0)
    log.note(0, 10, 20)
    log.note(1, 11, 21)
    later = AttemptsLog(LocalFolder(tmp_path), num_ranks=1, tombstones="ab")
    later.begin(1)
    later.note(1, 99, 21)
    later.publish()
    attempts = read_attempts(LocalFolder(tmp_path))
    assert [attempt.tombstones for attempt in attempts] == ["", "ab"]
    assert '"tombstones": ""' not in (tmp_path / "view" / "attempts.jsonl").read_text()
    _check_attempts(attempts, _steps([10, 99], [20, 21]))
    with pytest.raises(IntegrityError, match="step 1 fed other tokens when it was done again"):
        _check_attempts(attempts, _steps([10, 99], [20, 22]))
    same = [Attempt(0, 1, 0, 2, [[1, 11, 21]]), Attempt(1, 1, 1, 2)]
    with pytest.raises(IntegrityError, match="step 1 fed other tokens when it was done again"):
        _check_attempts(same, _steps([10, 99], [20, 21]))


def _steps(digests: list[int], identities: list[int]) -> Steps:
    counts = np.ones(2, np.int64)
    return Steps(np.arange(2), counts, counts, np.asarray(digests, np.uint64), np.asarray(identities, np.uint64))
