"""Tokens of every text and every variant of it: the lengths of the sidecar, made with the loader's own ids."""

from collections.abc import Sequence
from typing import Any

from arm.model.token_shards import SPECIALS_PER_IMAGE, part_texts
from arm.model.vocabulary import text_ids
from arm.records import Sample
from arm.tokenizer.encoding.decoding import Codes


class Measure:
    """Counts tokens; what it has counted it remembers, because captions and questions come back: texts of up to
    `capacity` characters together."""

    def __init__(self, tokenizer: Any, capacity: int = 1 << 25) -> None:
        self._tokenizer, self._capacity, self._known = tokenizer, capacity, dict[str, int]()
        self._num_characters = 0

    def __call__(self, samples: Sequence[Sample], grids: Sequence[Codes]) -> list[list[list[int]]]:
        """Per sample and part: tokens of its text and of each variant, or of the image.

        [image 3 x 3, caption 'a cat' with a description]  ->  [[14], [2, 5]]
        """
        texts = part_texts(samples)
        self._learn([text for sample in texts for part in sample for text in part])
        images = iter(grids)
        return [
            [
                [self._known[text] for text in part] if part else [next(images).size + SPECIALS_PER_IMAGE]
                for part in sample
            ]
            for sample in texts
        ]

    def _learn(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if self._num_characters + sum(map(len, new)) > self._capacity:
            self._known.clear()
            self._num_characters = 0
            new = list(dict.fromkeys(texts))
        self._num_characters += sum(map(len, new))
        for text, ids in zip(new, text_ids(self._tokenizer, new), strict=True):
            self._known[text] = len(ids)
