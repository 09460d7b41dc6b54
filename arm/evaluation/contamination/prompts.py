"""Evaluation prompts against training texts, three ways.

    equal    the same words: letters and digits alone, in lower case, white space single
    scene    GenEval's template: the same objects with the same counts, colours and relation
    ngrams   at least half of a long prompt's 8-grams stand in one training text (ours)

One prompt counts once, by the first of these that finds it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arm.evaluation.contamination.scenes import Scene, scene_of_meta, scene_of_text

WAYS = ("equal", "scene", "ngrams")
NGRAM = 8
MIN_WORDS = 13
"""A prompt of fewer words is compared by equality and scene alone: 8-grams of short sentences are common speech."""
MIN_SHARE = 0.5
MAX_SAMPLES = 5
"""Training samples named for each prompt."""
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One evaluation prompt."""

    uid: str
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)


def words_of(text: str) -> list[str]:
    """ "A photo of a Bench!" -> a photo of a bench"""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


class PromptIndex:
    """The prompts of one evaluation set, ready to meet training texts one by one."""

    def __init__(self, prompts: Sequence[Asked]) -> None:
        self.prompts = list(prompts)
        self.found: dict[str, dict[str, list[str]]] = {way: {} for way in WAYS}
        self._equal: dict[str, list[str]] = {}
        self._scenes: dict[Scene, list[str]] = {}
        self._ngrams: dict[int, list[int]] = {}
        self._num_ngrams: dict[int, int] = {}
        for index, prompt in enumerate(self.prompts):
            words = words_of(prompt.text)
            self._equal.setdefault(" ".join(words), []).append(prompt.uid)
            scene = scene_of_meta(prompt.meta) or scene_of_text(prompt.text)
            if scene is not None:
                self._scenes.setdefault(scene, []).append(prompt.uid)
            if len(words) >= MIN_WORDS:
                grams = set(_ngrams(words))
                self._num_ngrams[index] = len(grams)
                for gram in grams:
                    self._ngrams.setdefault(gram, []).append(index)

    def meet(self, sample: str, text: str, meta: Mapping[str, Any]) -> None:
        """Note every prompt that this training text, or the metadata beside it, gives away."""
        words = words_of(text)
        self._note("equal", self._equal.get(" ".join(words), ()) if words else (), sample)
        for scene in {scene_of_text(text), scene_of_meta(meta)} - {None}:
            assert scene is not None
            self._note("scene", self._scenes.get(scene, ()), sample)
        if self._ngrams and len(words) >= NGRAM:
            hits = Counter(index for gram in set(_ngrams(words)) for index in self._ngrams.get(gram, ()))
            long = [index for index, count in hits.items() if count >= MIN_SHARE * self._num_ngrams[index]]
            self._note("ngrams", [self.prompts[index].uid for index in sorted(long)], sample)

    def matches(self) -> dict[str, dict[str, list[str]]]:
        """Way -> prompt -> training samples; a prompt stands under the first way that found it."""
        seen: set[str] = set()
        sorted_out: dict[str, dict[str, list[str]]] = {}
        for way in WAYS:
            new = {uid: samples for uid, samples in self.found[way].items() if uid not in seen}
            seen |= new.keys()
            sorted_out[way] = dict(sorted(new.items()))
        return sorted_out

    def _note(self, way: str, uids: Iterable[str], sample: str) -> None:
        for uid in uids:
            samples = self.found[way].setdefault(uid, [])
            if len(samples) < MAX_SAMPLES and sample not in samples:
                samples.append(sample)


def _ngrams(words: Sequence[str]) -> Iterator[int]:
    """Hashes of all runs of NGRAM words; they stay in this process, so Python's own hash will do."""
    for start in range(len(words) - NGRAM + 1):
        yield hash(tuple(words[start : start + NGRAM]))
