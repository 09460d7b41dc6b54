"""Documents: what the model reads of one sample, as tokens and a mask of what it learns.

    text              t t t <eos>                                   learns all
    caption           [image] t t <eos>                             learns the text
    question          [image] q q <as> a <ae> q q q <as> a <ae>     learns the answers
    text_to_image     t t [image]                                   learns the codes     dropped text: [image]
    edit              [image] t t [image]                           learns the codes of the last image
    interleaved_*     [image] t t [image] t <eos>                   learns texts and codes

[image] = <|vision_start|> H W <|image_pad|> codes <|vision_end|>; <as>, <ae> = <|im_start|>, <|im_end|>. The frame of an
image is given, where an image is asked for, or fixed by the grammar, so it is not learned under `targets`. A model that is
to write texts and images as it likes must learn where an image opens, and of which shape: under `openings` interleaved
documents teach <|vision_start|> H W, too. Under `all` every token but a document's first is learned, whatever the kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.model.token_shards import Part, ShardLengths, text_fingerprint
from arm.model.vocabulary import Vocabulary, text_ids

KINDS = ("text", "caption", "question", "text_to_image", "interleaved_video", "edit", "interleaved_web")
"""Kinds of documents, in the order of the plan's numbers."""
TASKS_OF_KIND = {kind: (kind,) for kind in KINDS} | {
    "caption": ("caption", "text_to_image"),
    "text_to_image": ("text_to_image", "caption"),
}
"""Which samples a kind is made of: a captioned image serves in both directions."""
INTERLEAVED = ("interleaved_video", "interleaved_web")
"""Kinds in which the model itself opens images."""
KEEP_ALL, DROP_TEXT, DROP_IMAGE, DROP_BOTH = range(4)
"""What a document has lost, for guidance."""

OPENING = 3
"""Tokens that open an image: <|vision_start|> H W. The pad after them is fixed by the grammar."""

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens, and which of them the model learns to predict."""

    ids: Ids
    learned: Mask
    kind: int = 0
    """Its number in KINDS."""


class TextEncoder:
    """Ids of texts, remembered: captions and questions come back in every epoch."""

    def __init__(self, tokenizer: Any, capacity: int = 500_000) -> None:
        self._tokenizer, self._capacity, self._known = tokenizer, capacity, dict[str, Ids]()

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, without special tokens."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > self._capacity:
            self._known.clear()
            new = list(dict.fromkeys(texts))
        for text, ids in zip(new, text_ids(self._tokenizer, new), strict=True):
            self._known[text] = np.asarray(ids, dtype=np.int64)
        return [self._known[text] for text in texts]


def check_text_tokenizer(fingerprint: str, tokenizer: Any) -> None:
    """Refuse a model whose text tokenizer is not the one that counted the shards' lengths."""
    own = text_fingerprint(tokenizer)
    if own != fingerprint:
        raise UserError(
            f"The token shards' lengths were counted by text tokenizer {fingerprint[:12]}, the model has {own[:12]}; tokenize "
            "again with this model's."
        )


def document_lengths(
    shard: ShardLengths,
    rows: npt.NDArray[np.integer[Any]],
    kind: str,
    drops: npt.NDArray[np.int64],
    *,
    variants: npt.NDArray[np.int64] | None = None,
    strides: npt.NDArray[np.int64] | None = None,
) -> Ids:
    """Tokens of the documents that these rows give, from the lengths of the parts alone."""
    first, counts = shard.starts[rows], shard.starts[np.asarray(rows) + 1] - shard.starts[rows]
    ends = np.cumsum(counts)
    owners = np.repeat(np.arange(len(counts)), counts)
    parts = np.arange(len(owners)) + np.repeat(first - ends + counts, counts)
    is_text, lengths = shard.is_text[parts], _part_lengths(shard, parts, owners, variants)
    if strides is not None and np.any(strides != 1):
        frames = _frames(~is_text, ends, counts)
        lengths = np.where(frames % strides[owners] == 0, lengths, 0)
    texts, images = _sums(np.where(is_text, lengths, 0), ends), _sums(np.where(is_text, 0, lengths), ends)
    if kind == "text":
        return texts + 1
    if kind == "question":
        return images + texts + 2 * _sums(shard.is_answer[parts].astype(np.int64), ends)
    if kind not in ("text_to_image", "edit"):
        return images + texts + 1
    no_text = (drops == DROP_TEXT) | (drops == DROP_BOTH)
    no_image = (drops == DROP_IMAGE) | (drops == DROP_BOTH)
    last = lengths[ends - 1] if kind == "edit" else images
    return np.where(no_image, last, images) + np.where(no_text, 0, texts)


def strided(parts: Sequence[Part], stride: int) -> Sequence[Part]:
    """Every `stride`-th frame of a video, each with the texts that follow it.

    stride 2    image t t image t image t    ->    image t t image t
    """
    if stride == 1:
        return parts
    frames = _frames(np.asarray([part.codes is not None for part in parts]), np.asarray([len(parts)]), len(parts))
    return [part for part, frame in zip(parts, frames.tolist(), strict=True) if frame % stride == 0]


def build(
    kind: str,
    parts: Sequence[Part],
    drop: int,
    vocabulary: Vocabulary,
    encode: TextEncoder,
    *,
    loss_on: str = "targets",
) -> Document:
    """The document of a sample; `drop` is one of KEEP_ALL, DROP_TEXT, DROP_IMAGE, DROP_BOTH; `loss_on`: targets, openings
    or all."""
    texts = iter(encode([part.text for part in parts if part.codes is None]))
    made = [(part, _ids(part, vocabulary, texts)) for part in parts]
    pieces = _BUILDERS[kind](made, drop, vocabulary)
    ids = np.concatenate([piece for piece, _ in pieces])
    if loss_on == "all":
        return Document(ids, np.ones(len(ids), dtype=np.bool_), KINDS.index(kind))
    opening = OPENING if loss_on == "openings" and kind in INTERLEAVED else 0
    learned = [
        _learned(piece, vocabulary, opening) if learn else np.zeros(len(piece), np.bool_) for piece, learn in pieces
    ]
    return Document(ids, np.concatenate(learned), KINDS.index(kind))


Made = list[tuple[Part, Ids]]
Pieces = list[tuple[Ids, bool]]


def _text(made: Made, drop: int, vocabulary: Vocabulary) -> Pieces:
    return [(ids, True) for _, ids in made] + [(np.asarray([vocabulary.end_of_text]), True)]


def _caption(made: Made, drop: int, vocabulary: Vocabulary) -> Pieces:
    images, texts = _split(made)
    return (
        [(ids, False) for ids in images]
        + [(ids, True) for ids in texts]
        + [(np.asarray([vocabulary.end_of_text]), True)]
    )


def _question(made: Made, drop: int, vocabulary: Vocabulary) -> Pieces:
    pieces: Pieces = []
    for part, ids in made:
        if part.is_answer:
            pieces += [(np.asarray([vocabulary.answer_start]), False), (np.append(ids, vocabulary.answer_end), True)]
        else:
            pieces.append((ids, False))
    return pieces


def _text_to_image(made: Made, drop: int, vocabulary: Vocabulary) -> Pieces:
    images, texts = _split(made)
    kept = [] if drop in (DROP_TEXT, DROP_BOTH) else texts
    return [(ids, False) for ids in kept] + [(ids, True) for ids in images]


def _edit(made: Made, drop: int, vocabulary: Vocabulary) -> Pieces:
    images, texts = _split(made)
    sources = [] if drop in (DROP_IMAGE, DROP_BOTH) else images[:-1]
    kept = [] if drop in (DROP_TEXT, DROP_BOTH) else texts
    return [(ids, False) for ids in (*sources, *kept)] + [(images[-1], True)]


_BUILDERS: dict[str, Callable[[Made, int, Vocabulary], Pieces]] = {
    "text": _text,
    "caption": _caption,
    "question": _question,
    "text_to_image": _text_to_image,
    "interleaved_video": _text,
    "edit": _edit,
    "interleaved_web": _text,
}


def _ids(part: Part, vocabulary: Vocabulary, texts: Any) -> Ids:
    if part.codes is None:
        found: Ids = next(texts)
        vocabulary.check_text(found)
        return found
    return vocabulary.image_ids(part.codes, part.height, part.width)


def _split(made: Made) -> tuple[list[Ids], list[Ids]]:
    return [ids for part, ids in made if part.codes is not None], [ids for part, ids in made if part.codes is None]


def _learned(ids: Ids, vocabulary: Vocabulary, opening: int) -> Mask:
    """Of a learned part: every token of a text, the codes of an image and its first `opening` tokens."""
    if len(ids) and ids[0] == vocabulary.vision_start:
        learned = vocabulary.is_code(ids)
        learned[:opening] = True
        return learned
    return np.ones(len(ids), dtype=np.bool_)


def _part_lengths(shard: ShardLengths, parts: Ids, owners: Ids, variants: Ids | None) -> Ids:
    """Tokens of parts; of a text that is exchanged for a variant, the variant's."""
    own: Ids = shard.lengths[parts].astype(np.int64)
    if variants is None or not variants.any():
        return own
    first = shard.variant_starts[parts]
    chosen = variants[owners] % (shard.variant_starts[parts + 1] - first + 1)
    exchanged = np.flatnonzero(chosen)
    lengths = own.copy()
    lengths[exchanged] = shard.variant_lengths[first[exchanged] + chosen[exchanged] - 1]
    return lengths


def _frames(is_image: npt.NDArray[np.bool_], ends: Ids, counts: Ids | int) -> Ids:
    """Per part, the number of its frame: of the last image at or before it; texts before the first belong to it."""
    images = np.concatenate([[0], np.cumsum(is_image)])
    before = np.repeat(images[ends - counts], counts)
    frames: Ids = np.maximum(images[1:] - before - 1, 0)
    return frames


def _sums(values: npt.NDArray[np.int64], ends: Ids) -> Ids:
    """Per row, the sum over its parts, which end at `ends`."""
    totals = np.concatenate([[0], np.cumsum(values)])
    sums: Ids = np.diff(totals[ends], prepend=0)
    return sums
