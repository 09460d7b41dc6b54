"""Sequence parallelism: what heads allow, and how a batch is split. Equal losses on two ranks: tests/training/test_engine.py."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_lmm import tiny_lmm

from arm.errors import UserError
from arm.model.documents import Document
from arm.model.sequence import SequenceGroup, check_heads, sequence_group
from arm.training.loader import collate
from arm.training.sequence import split

QWEN_7B = SimpleNamespace(num_attention_heads=28, num_key_value_heads=4)


def test_qwen_7b_can_be_split_in_two_and_four_but_not_in_eight() -> None:
    for size in (1, 2, 4):
        check_heads(QWEN_7B, size)
    with pytest.raises(
        UserError, match=r"is 8, which does not divide .* 28 heads and 4 key-value heads; give one of \[1, 2, 4\]"
    ):
        check_heads(QWEN_7B, 8)


def test_a_group_of_one_is_none() -> None:
    assert sequence_group(1) is None


def test_each_rank_of_a_group_gets_its_span_and_what_it_predicts() -> None:
    """64 tokens in two documents of 30 and 34: the second half begins at token 32, the third of the second document."""
    *_, vocabulary = tiny_lmm()
    ids = np.arange(64) % 20 + 7
    documents = [Document(ids[:30], np.ones(30, np.bool_)), Document(ids[30:], np.ones(34, np.bool_))]
    whole = collate(documents, vocabulary)
    halves = [split(whole, SequenceGroup(2, rank, None)) for rank in range(2)]
    assert [half.ids_N.tolist() for half in halves] == [ids[:32].tolist(), ids[32:].tolist()]
    assert halves[1].positions_N[:2].tolist() == [2, 3]
    assert halves[1].lengths == whole.lengths == (30, 34)
    # the first token of a document is no target: 29 + 33 targets, of which those of tokens 0..31 are 29 + 2
    assert [len(half.text_targets_M) for half in halves] == [31, 31]
    assert halves[0].text_targets_M[-1] == ids[32]
    assert halves[0].text_sources_M[-1] == 31
    assert [half.num_tokens for half in halves] == [64, 0]
    assert [half.num_documents for half in halves] == [2, 0]
    assert halves[0].digest + halves[1].digest == whole.digest
