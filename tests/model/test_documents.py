"""Documents: what each kind looks like, what is learned, and that lengths agree with the planner's."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from tiny_lmm import CODES, tiny_lmm
from token_store import make_store
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from arm.errors import UserError
from arm.model.documents import (
    DROP_BOTH,
    DROP_IMAGE,
    DROP_TEXT,
    KEEP_ALL,
    KINDS,
    TASKS_OF_KIND,
    Document,
    TextEncoder,
    build,
    check_text_tokenizer,
    document_lengths,
)
from arm.model.token_shards import Part, open_shards, text_fingerprint
from arm.model.vocabulary import Vocabulary, text_ids

_, TOKENIZER, VOCABULARY = tiny_lmm()
IMAGE = Part(codes=np.asarray([5], dtype=np.uint16), height=1, width=1)
OTHER = Part(codes=np.asarray([6], dtype=np.uint16), height=1, width=1)
FIVE, SIX = ([3, 32, 32, 5, 36 + code, 4] for code in (5, 6))
"""<|vision_start|> is id 3, <|image_pad|> 5, <|vision_end|> 4; side 1 is row 32; code 0 row 36."""
A, RED = 7, 8


def made(kind: str, *parts: Part, drop: int = KEEP_ALL) -> tuple[list[int], list[int]]:
    """(ids, the ids that are learned)."""
    document: Document = build(kind, parts, drop, VOCABULARY, TextEncoder(TOKENIZER))
    return document.ids.tolist(), document.ids[document.learned].tolist()


def test_text_learns_everything_and_ends() -> None:
    assert made("text", Part(text="a red")) == ([A, RED, 0], [A, RED, 0])


def test_a_caption_learns_its_text() -> None:
    assert made("caption", IMAGE, Part(text="a red")) == ([*FIVE, A, RED, 0], [A, RED, 0])


def test_questions_learn_their_answers_only() -> None:
    """<|im_start|> is id 1 and is given; <|im_end|> is id 2 and is learned."""
    parts = [IMAGE, Part(text="a"), Part(text="red", is_answer=True), Part(text="red"), Part(text="a", is_answer=True)]
    assert made("question", *parts) == ([*FIVE, A, 1, RED, 2, RED, 1, A, 2], [RED, 2, A, 2])


def test_text_to_image_learns_the_codes_and_a_dropped_text_leaves_the_shape_tokens() -> None:
    assert made("text_to_image", IMAGE, Part(text="a red")) == ([A, RED, *FIVE], [41])
    assert made("text_to_image", IMAGE, Part(text="a red"), drop=DROP_TEXT) == (FIVE, [41])


def test_an_edit_learns_the_last_image_and_has_three_drops() -> None:
    parts = (IMAGE, Part(text="a red"), OTHER)
    assert made("edit", *parts) == ([*FIVE, A, RED, *SIX], [42])
    assert made("edit", *parts, drop=DROP_TEXT) == ([*FIVE, *SIX], [42])
    assert made("edit", *parts, drop=DROP_IMAGE) == ([A, RED, *SIX], [42])
    assert made("edit", *parts, drop=DROP_BOTH) == (SIX, [42])


def test_interleaved_learns_texts_and_codes() -> None:
    ids, learned = made("interleaved_web", Part(text="a"), IMAGE, Part(text="red"))
    assert (ids, learned) == ([A, *FIVE, RED, 0], [A, 41, RED, 0])


def test_an_interleaved_document_holds_several_images_and_texts_in_their_order() -> None:
    parts = [IMAGE, Part(text="a"), Part(text="red"), OTHER, Part(text="a"), IMAGE]
    ids, learned = made("interleaved_video", *parts)
    assert ids == [*FIVE, A, RED, *SIX, A, *FIVE, 0]
    assert learned == [41, A, RED, 42, A, 41, 0]


@pytest.mark.parametrize("kind", ["interleaved_web", "caption", "text_to_image", "edit"])
def test_where_an_image_opens_is_learned_in_interleaved_documents_alone(kind: str) -> None:
    """<|vision_start|> and both sides; the pad and the end are the grammar's, and elsewhere an image is asked for."""
    parts = [Part(text="a"), IMAGE] if kind == "interleaved_web" else PARTS.get(kind, [IMAGE, Part(text="a")])
    some, openings = (
        build(kind, parts, KEEP_ALL, VOCABULARY, TextEncoder(TOKENIZER), loss_on=loss_on)
        for loss_on in ("targets", "openings")
    )
    more = openings.ids[openings.learned & ~some.learned].tolist()
    assert more == ([3, 32, 32] if kind == "interleaved_web" else [])
    assert openings.learned[some.learned].all()


PARTS = {
    "text": [Part(text="a red")],
    "question": [IMAGE, Part(text="a"), Part(text="red", is_answer=True)],
    "edit": [IMAGE, Part(text="a red"), OTHER],
}
"""Parts of a sample of each kind; of the others an image and a text."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_of_any_kind_can_be_learned_instead(kind: str) -> None:
    """`all` changes what is learned and nothing that is read; a document knows its kind either way."""
    parts = PARTS.get(kind, [IMAGE, Part(text="a")])
    some, every = (
        build(kind, parts, KEEP_ALL, VOCABULARY, TextEncoder(TOKENIZER), loss_on=loss_on)
        for loss_on in ("targets", "all")
    )
    assert every.ids.tolist() == some.ids.tolist()
    assert every.learned.all()
    assert KINDS[some.kind] == KINDS[every.kind] == kind


def test_an_image_whose_codes_do_not_fit_its_grid_is_refused() -> None:
    with pytest.raises(UserError, match="2×1 needs 2 codes, not 1"):
        made("caption", IMAGE._replace(height=2), Part(text="a"))


def test_a_code_or_a_word_outside_its_rows_is_refused() -> None:
    """8 codes and 32 text rows: code 8 has no row, and word 32 would be a shape."""
    with pytest.raises(UserError, match=r"outside 0\.\.7"):
        made("caption", IMAGE._replace(codes=np.asarray([8], dtype=np.uint16)), Part(text="a"))

    def long(texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        return [np.asarray([32]) for _ in texts]

    with pytest.raises(UserError, match=r"outside 0\.\.31"):
        build("text", [Part(text="a")], KEEP_ALL, VOCABULARY, cast(TextEncoder, long))


def test_lengths_that_another_text_tokenizer_counted_are_refused(tmp_path: Path) -> None:
    """The same tokenizer, saved and loaded again, passes; one more word makes another."""
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    check_text_tokenizer(text_fingerprint(TOKENIZER), again)
    again.add_tokens(["green"])
    with pytest.raises(UserError, match="tokenize again"):
        check_text_tokenizer(text_fingerprint(TOKENIZER), again)


def test_special_tokens_written_by_users_stay_text() -> None:
    """'<|endoftext|>' in a caption must not end the document: its characters are bytes like any others."""
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end in tokenizer("a<|endoftext|>")["input_ids"]
    assert len(text_ids(tokenizer, ["a<|endoftext|>"])[0]) == len("a<|endoftext|>")


@pytest.mark.parametrize("kind", KINDS)
def test_planned_lengths_are_those_of_the_documents(kind: str, tmp_path: Path) -> None:
    store = make_store(tmp_path, shards_per_task=1)
    shards = open_shards(store["tokens"], tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)
    shard = next(shard for shard in shards if shard.tasks[0] in TASKS_OF_KIND[kind])
    encode = TextEncoder(AutoTokenizer.from_pretrained(tmp_path / "base" / "model"))
    rows = np.arange(12)
    for drop in (KEEP_ALL, DROP_TEXT) if kind == "text_to_image" else (KEEP_ALL, DROP_BOTH, DROP_IMAGE):
        planned = document_lengths(shard, rows, kind, np.full(12, drop))
        built = [len(build(kind, shard.parts(row), drop, VOCABULARY, encode).ids) for row in rows]
        assert planned.tolist() == built


def test_the_vocabulary_of_the_fixture_is_as_the_numbers_here_assume() -> None:
    assert isinstance(VOCABULARY, Vocabulary)
    assert (VOCABULARY.num_text, VOCABULARY.first_code) == (32, 36)
