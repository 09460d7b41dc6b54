"""The grammar: which tokens may follow a prefix, so that what a model writes is text and whole images, and nothing else.

    after text                              words, ends, <|vision_start|>        no shape, no code, no spare row
    after <|vision_start|>                  heights of the permitted grids
    after <|vision_start|> H                widths of the permitted grids of that height
    after <|vision_start|> H W              <|image_pad|>
    after <|image_pad|>, codes missing      codes
    after the last code                     <|vision_end|>

A base model has more rows than its tokenizer has ids (Qwen2.5-7B: 152,064 and 151,665): the spare rows mean nothing and
are never allowed. Users of plain transformers give `GrammarProcessor` or `prefix_allowed_tokens_fn` to `generate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arm.errors import UserError
from arm.model.vocabulary import IMAGE_OVERHEAD, Vocabulary

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class State:
    """Where in the grammar a sequence is. `height` and `width` are those of the image that is open."""

    phase: str = "text"
    """text, height, width, pad, code or end."""
    height: int = 0
    width: int = 0
    missing: int = 0
    """Codes that the image still needs."""


class Grammar:
    """The rules above over one vocabulary; `grids` are the (height, width) that may be drawn, none: all."""

    def __init__(self, vocabulary: Vocabulary, words: Sequence[int], grids: Sequence[Grid] | None = None) -> None:
        self.vocabulary = vocabulary
        sides = range(1, vocabulary.num_shapes + 1)
        self.widths = _widths_of_heights(grids if grids is not None else [(h, w) for h in sides for w in sides])
        for side in {side for height, widths in self.widths.items() for side in (height, *widths)}:
            vocabulary.shape_id(side)
        framing = {vocabulary.vision_end, vocabulary.image_pad, vocabulary.vision_start}
        self._words = sorted({index for index in words if index < vocabulary.num_text} - framing)
        self._masks: dict[tuple[str, int, bool], Tensor] = {}

    @classmethod
    def of(cls, vocabulary: Vocabulary, tokenizer: Any, grids: Sequence[Grid] | None = None) -> "Grammar":
        """The grammar of a vocabulary and its text tokenizer."""
        return cls(vocabulary, list(tokenizer.get_vocab().values()), grids)

    @classmethod
    def from_pretrained(cls, folder: Path | str, grids: Sequence[Grid] | None = None) -> "Grammar":
        """The grammar of a model folder."""
        from transformers import AutoTokenizer

        return cls.of(Vocabulary.load(folder), AutoTokenizer.from_pretrained(folder), grids)

    @property
    def longest_image(self) -> int:
        """Tokens of the largest image that may be drawn."""
        return max(height * max(widths) for height, widths in self.widths.items()) + IMAGE_OVERHEAD

    def state(self, prefix: Sequence[int]) -> State:
        """Where a prefix ends; an image in it that breaks the rules is a UserError. Only the last image is read.

        vision_start H1 W2 image_pad code  ->  State("code", 1, 2, missing=1)
        """
        opening = self.vocabulary.vision_start
        for back, index in enumerate(reversed(prefix)):
            if index == opening:
                state = State("height")
                for token in prefix[len(prefix) - back :]:
                    state = self.advance(state, token)
                return state
        return self.advance(State(), prefix[-1]) if len(prefix) else State()

    def advance(self, state: State, token: int) -> State:
        """The state after one more token; a token that the rules do not allow there is a UserError."""
        vocabulary, phase = self.vocabulary, state.phase
        side = token - vocabulary.num_text + 1
        is_shape, is_code = 1 <= side <= vocabulary.num_shapes, vocabulary.first_code <= token < vocabulary.size
        if phase == "text" and token == vocabulary.vision_start:
            return State("height")
        if phase == "text" and token < vocabulary.num_text:
            return state
        if phase == "height" and is_shape:
            return State("width", side)
        if phase == "width" and is_shape:
            return State("pad", state.height, side, state.height * side)
        if phase == "pad" and token == vocabulary.image_pad:
            return State("code", state.height, state.width, state.missing)
        if phase == "code" and is_code:
            left = state.missing - 1
            return State("code" if left else "end", state.height, state.width, left)
        if phase == "end" and token == vocabulary.vision_end:
            return State()
        raise UserError(f"Token {token} cannot stand where the grammar of images wants: {phase}.")

    def allowed(self, state: State, *, images: bool = True) -> Tensor:
        """The ids that may come next, ascending; with `images` false, text opens no image."""
        vocabulary = self.vocabulary
        if state.phase == "text":
            return torch.tensor(sorted([*self._words, *([vocabulary.vision_start] if images else [])]))
        if state.phase == "code":
            return torch.arange(vocabulary.first_code, vocabulary.size)
        sides = sorted(self.widths) if state.phase == "height" else self.widths.get(state.height, [])
        if state.phase in ("height", "width"):
            if not sides:
                raise UserError(f"No grid of height {state.height} may be drawn; known: {sorted(self.widths)}.")
            return torch.tensor([vocabulary.shape_id(side) for side in sides])
        return torch.tensor([vocabulary.image_pad if state.phase == "pad" else vocabulary.vision_end])

    def mask(self, state: State, *, images: bool = True) -> Tensor:
        """The same as a mask (V,), true where a row may come next; remembered, so not to be changed."""
        key = (state.phase, state.height if state.phase == "width" else 0, images)
        if key not in self._masks:
            mask = torch.zeros(self.vocabulary.size, dtype=torch.bool)
            mask[self.allowed(state, images=images)] = True
            self._masks[key] = mask
        return self._masks[key]

    def prefix_allowed_tokens_fn(self, batch_id: int, ids: Tensor) -> list[int]:
        """What `generate(prefix_allowed_tokens_fn=...)` of transformers asks for; `GrammarProcessor` is faster."""
        allowed: list[int] = self.allowed(self.state(ids.tolist())).tolist()
        return allowed


class GrammarProcessor:
    """A logits processor of transformers: `generate(logits_processor=LogitsProcessorList([GrammarProcessor(grammar)]))`.

    Call it before temperature, top-k and top-p, which is where `generate` puts it.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) of prefixes (B, T), −inf where the grammar does not go."""
        masks = [self.grammar.mask(self.grammar.state(ids)) for ids in input_ids.tolist()]
        return scores.masked_fill(~torch.stack(masks).to(scores.device), float("-inf"))


def _widths_of_heights(grids: Sequence[Grid]) -> dict[int, list[int]]:
    if not grids:
        raise UserError("No grid may be drawn; give at least one (height, width).")
    widths: dict[int, set[int]] = {}
    for height, width in grids:
        widths.setdefault(height, set()).add(width)
    return {height: sorted(found) for height, found in widths.items()}
