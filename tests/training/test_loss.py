"""The loss: by hand, by chunk, by modality."""

import math
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_lmm import tiny_lmm

from arm.errors import UserError
from arm.model.attention import NAME
from arm.model.documents import KINDS, Document
from arm.training.config import KindWeights, StageConfig
from arm.training.loader import collate
from arm.training.loss import PackedModel, target_losses, target_weights
from arm.training.trainer import learning_rate


def test_the_loss_of_equal_logits_is_the_logarithm_of_the_rows() -> None:
    """Two targets over four rows with zero weights: ln 4 each, z = ln 4, and logits of size 0."""
    found = target_losses(torch.ones(2, 3), torch.zeros(4, 3), torch.tensor([0, 3]), chunk=8, measure=True)
    assert found.losses_M.tolist() == pytest.approx([math.log(4)] * 2, rel=1e-6)
    assert found.z_M.tolist() == pytest.approx([math.log(4)] * 2, rel=1e-6)
    assert found.squares_M.tolist() == [0, 0]


def test_normaliser_and_size_of_logits_by_hand() -> None:
    """Logits 3 and 1: z = ln(e³ + e), the loss of row 1 is z - 1, and the mean square (9 + 1) / 2."""
    found = target_losses(torch.ones(1, 1), torch.tensor([[3.0], [1.0]]), torch.tensor([1]), chunk=8, measure=True)
    z = math.log(math.exp(3) + math.exp(1))
    assert found.z_M.item() == pytest.approx(z, rel=1e-6)
    assert found.losses_M.item() == pytest.approx(z - 1, rel=1e-6)
    assert found.squares_M.item() == pytest.approx(5, rel=1e-6)


def test_the_gradient_of_z_is_that_of_the_log_sum_of_exponentials() -> None:
    hidden, weight = (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((5, 6), (9, 6)))
    gradients = []
    for ours in (True, False):
        leaf = hidden.clone().requires_grad_()
        found = target_losses(leaf, weight, torch.arange(5), chunk=2, learn_z=True).z_M
        (found if ours else torch.logsumexp(leaf @ weight.T, dim=-1)).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_without_a_weight_z_is_known_and_not_learned() -> None:
    hidden = torch.ones(2, 3, requires_grad=True)
    assert not target_losses(hidden, torch.ones(4, 3), torch.tensor([0, 3]), chunk=8).z_M.requires_grad


def test_chunks_change_neither_loss_nor_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 9, (23,), generator=generator)
    results = []
    for chunk in (100, 5):
        hidden = torch.randn(23, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
        weight = torch.randn(9, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
        found = target_losses(hidden, weight, targets, chunk=chunk, learn_z=True, measure=True)
        (found.losses_M.sum() + 0.1 * found.z_M.square().sum()).backward()
        results.append((found.losses_M.detach(), found.squares_M, hidden.grad, weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


CAPTION, EDIT = KINDS.index("caption"), KINDS.index("edit")
IDS = np.asarray([7, 8, 3, 32, 32, 5, 40, 4, 9, 0])
"""Two words, an image of the code in row 40, a word and the end."""


def learned(*places: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(IDS), dtype=bool)
    mask[list(places)] = True
    return mask


@pytest.mark.parametrize("rows", ["modality", "all"])
def test_the_loss_is_that_of_plain_logits_over_the_declared_rows(rows: str) -> None:
    """An edit learns its code, a caption its last two words: each sum lies under its modality and kind."""
    model, _, vocabulary = tiny_lmm()
    documents = [Document(IDS, learned(6), EDIT), Document(IDS, learned(8, 9), CAPTION)]
    weights = KindWeights(edit=3.0, caption=0.5)
    config = StageConfig(loss_rows=rows, code_weight=2.0, z_loss=0.1, kind_weights=weights)  # type: ignore[arg-type]
    model.set_attn_implementation("sdpa")
    logits = model(torch.from_numpy(IDS)[None]).logits[0]
    text, codes = (vocabulary.text_rows, vocabulary.code_rows) if rows == "modality" else (slice(0, 44), slice(0, 44))
    z_code, z_text = torch.logsumexp(logits[5, codes], -1), torch.logsumexp(logits[7:9, text], -1)
    code, words = z_code - logits[5, 40], z_text - torch.stack([logits[7, 9], logits[8, 0]])
    model.set_attn_implementation(NAME)
    found = PackedModel(model, vocabulary, config)(collate(documents, vocabulary), measure=True)
    expected = 2 * 3 * (code + 0.1 * z_code**2) + 0.5 * (words + 0.1 * z_text**2).sum()
    torch.testing.assert_close(found.weighted, expected, atol=1e-4, rtol=1e-4)
    edits, captions = found.sums_DKC[0, EDIT], found.sums_DKC[1, CAPTION]
    sizes = logits[5, codes].square().mean(), logits[7:9, text].square().mean(-1).sum()
    exact = {"atol": 1e-4, "rtol": 1e-4}
    for sums, loss, z, size, count in ((edits, code, z_code, sizes[0], 1), (captions, words, z_text, sizes[1], 2)):
        by_hand = [count, *(float(value.detach().sum()) for value in (loss, z, z**2)), count, float(size.detach())]
        torch.testing.assert_close(sums, torch.tensor(by_hand, dtype=torch.float64), **exact)
    assert found.sums_DKC[:, :, 0].sum() == 3


def test_weights_of_a_target_are_its_modalitys_times_its_kinds() -> None:
    assert [field.name for field in fields(KindWeights)] == list(KINDS)
    found = target_weights(StageConfig(code_weight=0.5, kind_weights=KindWeights(edit=4.0)))
    assert (found[0, EDIT], found[1, EDIT], found[0, CAPTION], found[1, CAPTION]) == (2.0, 4.0, 0.5, 1.0)


@pytest.mark.parametrize("wrong", [{"edit": -1.0}, dict.fromkeys(KINDS, 0.0)])
def test_weights_below_zero_or_all_zero_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="none may be below 0"):
        KindWeights(**wrong)
    with pytest.raises(UserError, match=r"z_loss is -0\.1; it must be at least 0"):
        StageConfig(z_loss=-0.1)
    with pytest.raises(UserError, match="both 0: nothing would be learned"):
        StageConfig(text_weight=0.0, code_weight=0.0)


def test_the_first_token_of_a_document_is_never_a_target() -> None:
    _, _, vocabulary = tiny_lmm()
    document = Document(np.asarray([7, 8]), np.ones(2, dtype=bool), CAPTION)
    batch = collate([document, document], vocabulary)
    assert batch.text_sources_M.tolist() == [0, 2]
    assert batch.positions_N.tolist() == [0, 1, 0, 1, *range(60)]
    assert (batch.num_tokens, batch.num_documents, batch.lengths) == (4, 2, (2, 2, 60))
    assert batch.text_kinds_M.tolist() == [CAPTION, CAPTION]
    assert (batch.tokens_by_kind[CAPTION], sum(batch.tokens_by_kind)) == (4, 4)  # padding is of no kind


def test_the_learning_rate_warms_up_stays_and_falls_where_declared() -> None:
    config = StageConfig(learning_rate=1.0, warmup_steps=10, steps=100, decay_fraction=0.5)
    assert [round(learning_rate(config, step), 2) for step in (0, 9, 50, 75)] == [0.1, 1.0, 1.0, 0.55]
    assert learning_rate(StageConfig(learning_rate=1.0, warmup_steps=0, steps=100), 99) == 1.0
