"""The model: untied and extended, saved as a stock checkpoint."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_lmm import CODES, tiny_lmm, tiny_model, word_tokenizer

from arm.errors import UserError
from arm.model import lmm
from arm.model.attention import NAME
from arm.model.lmm import VisualCodes, code_values, initial_values, initialise


def test_digits_of_codes_are_mixed_radix_with_the_first_dimension_least() -> None:
    assert code_values((2, 2)).tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert code_values((3, 2))[4].tolist() == [0, 1]


def test_digits_agree_with_the_visual_tokenizers_own() -> None:
    from arm.tokenizer.fsq import INDEX_ORDER, index_to_values

    assert INDEX_ORDER == lmm.INDEX_ORDER
    levels = (2, 3, 5)
    torch.testing.assert_close(code_values(levels), index_to_values(torch.arange(30), levels))


def test_text_rows_are_kept_and_the_embedding_is_untied() -> None:
    base, (model, _, vocabulary) = tiny_model(), tiny_lmm()
    assert model.config.vocab_size == vocabulary.size == 32 + 4 + 8
    torch.testing.assert_close(model.model.embed_tokens.weight[:32], base.model.embed_tokens.weight)
    torch.testing.assert_close(model.lm_head.weight[:32], base.lm_head.weight)
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    assert not model.config.tie_word_embeddings


def test_text_logits_are_those_of_the_base() -> None:
    base, (model, _, _) = tiny_model(), tiny_lmm()
    base.set_attn_implementation("sdpa")
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([[1, 7, 9, 30]])
    torch.testing.assert_close(model(ids).logits[..., :32], base(ids).logits)


def test_codes_that_share_digits_start_close() -> None:
    """Codes 0 (---) and 1 (+--) differ in one digit, 0 and 7 (+++) in three."""
    model, _, vocabulary = tiny_lmm(from_digits=True)
    rows = model.model.embed_tokens.weight.detach()[vocabulary.code_rows]
    assert float((rows[0] - rows[1]).norm()) < float((rows[0] - rows[7]).norm())


def test_features_of_our_tokenizer_are_its_digits_after_the_first_map_out(tmp_path: Path) -> None:
    """Levels 2 2, the way out stretches the first digit by 3: codes 0..3 lie at (∓3, ∓1), mean 0, mean square 5."""
    path = tmp_path / "projections.safetensors"
    save_file({"project_out.inward.weight": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}, path)
    values = initial_values("features", VisualCodes("f", (2, 2)), path)
    assert values is not None
    torch.testing.assert_close(values * 5**0.5, torch.tensor([[-3.0, -1], [3, -1], [-3, 1], [3, 1]]))


def test_features_of_a_learned_codebook_are_its_vectors(tmp_path: Path) -> None:
    """Vectors 4 and 6: 5 is their mean, 1 their spread."""
    path = tmp_path / "model.safetensors"
    save_file({"quantize.embedding.weight": torch.tensor([[4.0], [6.0]])}, path)
    values = initial_values("features", VisualCodes("f", (), 2), path)
    assert values is not None
    assert values.tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize("values", [None, torch.randn(8, 64, generator=torch.Generator().manual_seed(1))])
def test_new_rows_lie_where_the_text_rows_lie(values: torch.Tensor | None) -> None:
    """Codes of unit spread are scaled like the text rows; without values new rows keep to their mean."""
    model = tiny_model()
    text = model.model.embed_tokens.weight.detach().clone()
    vocabulary = initialise(model, word_tokenizer(), CODES, num_shapes=4, values=values, added_layers=0, seed=0)
    rows = model.model.embed_tokens.weight.detach()[vocabulary.code_rows] - text.mean(dim=0)
    assert float(rows.std() / text.std()) == pytest.approx(1.0 if values is not None else 0.1, rel=0.25)


def test_the_embedding_of_a_code_is_the_vector_that_the_caption_loss_taught_and_its_head_that_of_its_digits(
    tmp_path: Path,
) -> None:
    path = tmp_path / lmm.CAPTION_VECTORS
    width = tiny_model().config.hidden_size
    taught = torch.arange(8 * width).view(8, width).bfloat16()
    save_file({"codes": taught}, path)
    by_digits, by_captions = tiny_model(), tiny_model()
    values = initial_values("captions", CODES)
    for model, embeddings in ((by_digits, None), (by_captions, lmm.caption_vectors(path))):
        vocabulary = initialise(
            model, word_tokenizer(), CODES, num_shapes=4, values=values, added_layers=0, seed=0, embeddings=embeddings
        )
    assert torch.equal(by_captions.model.embed_tokens.weight[vocabulary.code_rows], taught.float())
    assert torch.equal(by_captions.model.embed_tokens.weight[:36], by_digits.model.embed_tokens.weight[:36])
    assert torch.equal(by_captions.lm_head.weight, by_digits.lm_head.weight)


def test_added_layers_change_nothing_at_first() -> None:
    plain, (_, tokenizer, _) = tiny_lmm()[0], tiny_lmm()
    deeper = tiny_model()
    initialise(deeper, tokenizer, CODES, num_shapes=4, values=None, added_layers=2, seed=0)
    for model in (plain, deeper):
        model.set_attn_implementation("sdpa")
    ids = torch.tensor([[1, 7, 9, 30]])
    torch.testing.assert_close(deeper(ids).logits[..., :32], plain(ids).logits[..., :32])
    assert len(deeper.model.layers) == deeper.config.num_hidden_layers == 4


def test_a_saved_model_is_stock_and_gives_the_same_logits_without_our_code(tmp_path: Path) -> None:
    model, tokenizer, vocabulary = tiny_lmm()
    model.set_attn_implementation(NAME)
    lmm.save(model, tokenizer, vocabulary, tmp_path)
    ids = [[1, 7, 40, 30]]
    program = (
        "import sys, json, torch; from transformers import AutoModelForCausalLM, AutoTokenizer;"
        f"m = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}); t = AutoTokenizer.from_pretrained({str(tmp_path)!r});"
        f"print(json.dumps([type(m).__name__, t.get_vocab(), m(torch.tensor({ids})).logits.tolist(),"
        " any(name.split('.')[0] == 'arm' for name in sys.modules)]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    name, words, logits, uses_ours = json.loads(output.splitlines()[-1])
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(torch.tensor(logits), model(torch.tensor(ids)).logits, atol=1e-5, rtol=1e-5)
    assert (name, uses_ours) == ("Qwen2ForCausalLM", False)
    assert words == tokenizer.get_vocab()


def test_codes_of_another_visual_tokenizer_are_refused(tmp_path: Path) -> None:
    lmm.save(*tiny_lmm(), tmp_path)
    with pytest.raises(UserError, match="trained on codes of visual tokenizer ffff"):
        lmm.load_trained(tmp_path, VisualCodes("e" * 64, (2, 2, 2)))


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    model, tokenizer, vocabulary = tiny_lmm()
    lmm.save(model, tokenizer, vocabulary, tmp_path)
    dataclasses.replace(vocabulary, num_shapes=5).save(tmp_path)
    with pytest.raises(UserError, match=r"has 44 rows, its vocabulary\.json 45"):
        lmm.load_trained(tmp_path, CODES)


def test_saved_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lmm.save(*tiny_lmm(), tmp_path / name)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
