"""The frozen text side."""

from pathlib import Path

import pytest
import torch

from arm.tokenizer.text import CaptionTokens, TextTower
from tests.tokenizer import tiny


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_siglip(tmp_path_factory.mktemp("siglip")).local_folder("model")


def test_vectors_have_length_one_and_case_does_not_matter(tower: Path) -> None:
    vectors = TextTower(tower).embed(["A Red Square", "a red square", "a blue square"])
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2], atol=1e-4)


def test_a_vector_does_not_depend_on_the_texts_beside_it(tower: Path) -> None:
    names = [f"a square number {number}" for number in range(40)]
    together = TextTower(tower).embed(names)
    alone = TextTower(tower)
    assert torch.equal(torch.cat([alone.embed([name]) for name in reversed(names)]).flip(0), together)


def test_a_tower_stored_in_bfloat16_computes_in_float32(tower: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tower, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tower).save_pretrained(tmp_path)
    assert {value.dtype for value in TextTower(tmp_path).model.parameters()} == {torch.float32}


def test_captions_end_with_the_end_of_text_and_are_cut(tmp_path: Path) -> None:
    words = CaptionTokens(tiny.make_language_model(tmp_path).local_folder("model"), 4)
    ids, lengths = words(["a red square and a blue square", "a"])
    end = words.tokenizer.eos_token_id
    assert lengths.tolist() == [4, 2]
    assert ids.shape == (2, 4)
    assert ids[0, 3] == end
    assert ids[1, 1:].tolist() == [end] * 3
