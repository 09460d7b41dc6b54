"""The loss: by hand, by chunk, by modality."""

import math

import numpy as np
import pytest
import torch
from tiny_lmm import tiny_lmm

from arm.model.attention import NAME
from arm.model.documents import Document
from arm.training.config import StageConfig
from arm.training.loader import collate
from arm.training.loss import PackedModel, cross_entropy_sum, weighted
from arm.training.throughput import step_flops
from arm.training.trainer import learning_rate


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_rows() -> None:
    """Two targets over four rows with zero weights: 2 ln 4, and z² = 2 (ln 4)²."""
    total, squared = cross_entropy_sum(torch.ones(2, 3), torch.zeros(4, 3), torch.tensor([0, 3]), chunk=8, with_z=True)
    assert float(total) == pytest.approx(2 * math.log(4), rel=1e-6)
    assert float(squared) == pytest.approx(2 * math.log(4) ** 2, rel=1e-6)


def test_chunks_change_neither_loss_nor_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 9, (23,), generator=generator)
    results = []
    for chunk in (100, 5):
        hidden = torch.randn(23, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
        weight = torch.randn(9, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
        total, squared = cross_entropy_sum(hidden, weight, targets, chunk=chunk, with_z=True)
        (total + 0.1 * squared).backward()
        results.append((total.detach(), hidden.grad, weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("rows", ["modality", "all"])
def test_the_loss_is_that_of_plain_logits_over_the_declared_rows(rows: str) -> None:
    model, _, vocabulary = tiny_lmm()
    ids = np.asarray([7, 8, 3, 32, 32, 5, 40, 4, 9, 0])
    learned = np.zeros(10, dtype=bool)
    learned[[6, 8, 9]] = True
    batch = collate([Document(ids, learned)], vocabulary)
    config = StageConfig(loss_rows=rows, code_weight=2.0)  # type: ignore[arg-type]
    model.set_attn_implementation("sdpa")
    logits = model(torch.from_numpy(ids)[None]).logits[0]
    text, codes = (vocabulary.text_rows, vocabulary.code_rows) if rows == "modality" else (slice(0, 44), slice(0, 44))
    expected_code = torch.logsumexp(logits[5, codes], -1) - logits[5, 40]
    expected_text = sum(torch.logsumexp(logits[i, text], -1) - logits[i, ids[i + 1]] for i in (7, 8))
    model.set_attn_implementation(NAME)
    sums = PackedModel(model, vocabulary, config)(batch)
    assert (sums.num_codes, sums.num_text) == (1, 2)
    torch.testing.assert_close(sums.codes, expected_code, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sums.text, expected_text, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weighted(sums, config), 2 * expected_code + expected_text, atol=1e-4, rtol=1e-4)


def test_the_first_token_of_a_document_is_never_a_target() -> None:
    _, _, vocabulary = tiny_lmm()
    document = Document(np.asarray([7, 8]), np.ones(2, dtype=bool))
    batch = collate([document, document], vocabulary)
    assert batch.text_sources_M.tolist() == [0, 2]
    assert batch.positions_N.tolist() == [0, 1, 0, 1, *range(60)]
    assert (batch.num_tokens, batch.num_documents, batch.lengths) == (4, 2, (2, 2, 60))


def test_the_learning_rate_warms_up_stays_and_falls_where_declared() -> None:
    config = StageConfig(learning_rate=1.0, warmup_steps=10, steps=100, decay_fraction=0.5)
    assert [round(learning_rate(config, step), 2) for step in (0, 9, 50, 75)] == [0.1, 1.0, 1.0, 0.55]
    assert learning_rate(StageConfig(learning_rate=1.0, warmup_steps=0, steps=100), 99) == 1.0


def test_flops_count_documents_not_rows() -> None:
    assert step_flops(num_parameters=10, num_layers=1, width=2, lengths=(3, 1)) == 360
