"""Generation: images as codes and answers as text, from one stock `Qwen2ForCausalLM` with a key-value cache.

    generator = Generator.from_pretrained("model")
    rollouts = generator.generate_images([("a red circle",)], (3, 3), Sampling(temperature=0.7, top_k=1000), seeds=[0])
    generator.generate_images([(codes_hw, "remove the circle")], (3, 3), Sampling(), seeds=[1])       an edit
    generator.answer([(codes_hw, "how many circles are there?")], max_tokens=8)
    generator.generate([("a day in the garden",)], [(3, 3)], Sampling(), seeds=[2], max_tokens=64)    texts and images

All guidance branches of a batch run as one. Noise belongs to (seed, position) alone. Logits of a sequence may differ in
their last bits from batch to batch, since the order of the sums inside a matrix product depends on its shape and on where
its numbers lie: the tokens are the same unless a uniform falls into that gap.

Shapes: B sequences, D width, N codes of an image, V rows the grammar allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoTokenizer, Qwen2ForCausalLM

from arm.device import rank_device
from arm.errors import UserError
from arm.model.attention import NAME as DOCUMENTS
from arm.model.decoding import Cache, check_decodable
from arm.model.grammar import Grammar, State
from arm.model.sampling import Sampling, counter_uniforms, draw, guide
from arm.model.vocabulary import Vocabulary, length_of_image, text_ids

GREEDY = Sampling(temperature=0.0)
"""Always the likeliest token."""
Prompt = tuple[str | npt.NDArray[Any], ...]
"""Ordered parts: text, or an image as an (h, w) array of codes."""

__all__ = ["Generator", "ImageRollouts", "Prompt", "Sampling"]


@dataclass(frozen=True, slots=True)
class ImageRollouts:
    """Generated codes (B, H, W) with the log-probability of each and the log of the mass kept (see `sampling`)."""

    codes_BHW: Tensor
    logp_BN: Tensor
    log_kept_BN: Tensor


class Generator:
    """A model ready to generate. `batch_size` bounds how many sequences (all branches) run at once, and so the memory:
    keys and values of one batch are taken once (`decoding.cache_bytes`)."""

    def __init__(self, model: Any, vocabulary: Vocabulary, tokenizer: Any, *, batch_size: int = 512) -> None:
        check_decodable(model.config)
        model.eval().set_attn_implementation(DOCUMENTS)
        self.model, self.vocabulary, self.tokenizer, self.batch_size = model, vocabulary, tokenizer, batch_size

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, dtype: torch.dtype = torch.bfloat16, *, batch_size: int = 512
    ) -> "Generator":
        """Load a model folder made by train-model or train-policy onto this rank's device."""
        model: Any = Qwen2ForCausalLM.from_pretrained(folder, dtype=dtype)
        model.to(rank_device())
        return cls(model, Vocabulary.load(folder), AutoTokenizer.from_pretrained(folder), batch_size=batch_size)

    @torch.no_grad()
    def generate_images(
        self, prompts: Sequence[Prompt], grid: tuple[int, int], sampling: Sampling, seeds: Sequence[int]
    ) -> ImageRollouts:
        """Draw one image of `grid` codes for each prompt; seed i decides image i, whatever else is in the batch."""
        seeds = _seeds(prompts, seeds)
        if not prompts:
            empty = torch.empty(0, grid[0] * grid[1], device=self.model.device)
            return ImageRollouts(empty.long().view(-1, *grid), empty, empty)
        branches = self._branches(prompts, sampling)
        size = max(1, self.batch_size // len(branches))
        parts = []
        for first in range(0, len(prompts), size):
            some = slice(first, first + size)
            texts = [[self.prompt_ids(p, grid) for p in branch[some]] for branch in branches]
            parts.append(self._draw_codes(texts, grid, sampling, seeds[some]))
        codes, logp, log_kept = (torch.cat(items) for items in zip(*parts, strict=True))
        return ImageRollouts(codes.view(-1, *grid), logp, log_kept)

    @torch.no_grad()
    def answer(
        self, prompts: Sequence[Prompt], max_tokens: int = 32, sampling: Sampling = GREEDY, seeds: Sequence[int] = ()
    ) -> list[str]:
        """The text after each prompt: the answer to a final question, or the caption of a final image.

        The likeliest one, or with a temperature one drawn by a seed each. It ends at an end token or before an image.
        """
        _refuse_guidance(sampling)
        seeds = _seeds(prompts, seeds or ([0] * len(prompts) if sampling.temperature == 0 else ()))
        answers: list[str] = []
        for first in range(0, len(prompts), self.batch_size):
            some = slice(first, first + self.batch_size)
            answers += self._answer(prompts[some], max_tokens, sampling, seeds[some])
        return answers

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], grids: Sequence[tuple[int, int]], sampling: Sampling, seeds: Sequence[int],
        *, max_tokens: int, text_sampling: Sampling = GREEDY,
    ) -> list[Prompt]:  # fmt: skip
        """What the model writes after each prompt, texts and images as it likes, until an end token or `max_tokens`.

        Codes are drawn by `sampling`, all else by `text_sampling`. Images have one of the `grids`, and are whole: none
        is opened when the largest no longer fits.
        """
        _refuse_guidance(sampling)
        _refuse_guidance(text_sampling)
        seeds, grammar = _seeds(prompts, seeds), Grammar.of(self.vocabulary, self.tokenizer, grids)
        written: list[Prompt] = []
        for first in range(0, len(prompts), self.batch_size):
            some = slice(first, first + self.batch_size)
            ids = [self._opened(prompt) for prompt in prompts[some]]
            made = self._write(ids, grammar, (sampling, text_sampling), seeds[some], max_tokens)
            written += [self._parts(row) for row in made]
        return written

    def prompt_ids(self, prompt: Prompt, grid: tuple[int, int] | None = None) -> list[int]:
        """The tokens of a prompt; with a grid, the opening of the image to come."""
        ids: list[int] = []
        for part in prompt:
            if isinstance(part, str):
                ids += text_ids(self.tokenizer, [part])[0]
            else:
                ids += self.vocabulary.image_ids(part, *part.shape).tolist()
        return ids + (self.vocabulary.image_prefix(*grid) if grid else [])

    def _branches(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Prompt]]:
        """The full prompts, and what guidance needs beside them: without text, and without anything."""
        branches = [list(prompts)]
        has_image = any(not isinstance(part, str) for prompt in prompts for part in prompt)
        guided_image = has_image and sampling.guidance_image != 1
        if sampling.guidance_text != 1 or guided_image:
            branches.append([tuple(part for part in prompt if not isinstance(part, str)) for prompt in prompts])
        if guided_image:
            branches.append([() for _ in prompts])
        return branches

    def _draw_codes(
        self, branches: list[list[list[int]]], grid: tuple[int, int], sampling: Sampling, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_codes = grid[0] * grid[1]
        head_VD = self.model.lm_head.weight[self.vocabulary.code_rows]
        cache = Cache([ids for branch in branches for ids in branch], num_codes - 1, self.model)
        hidden = cache.prefill()
        drawn: list[tuple[Tensor, Tensor, Tensor]] = []
        for position in range(num_codes):
            logits = (hidden @ head_VD.T).float().chunk(len(branches))
            uniforms_B = counter_uniforms(seeds, position).to(hidden.device)
            drawn.append(draw(guide(logits, sampling), sampling, uniforms_B))
            if position + 1 < num_codes:
                next_ids = drawn[-1][0] + self.vocabulary.first_code
                hidden = cache.extend(next_ids.repeat(len(branches)))
        codes, logp, log_kept = (torch.stack(items, dim=1) for items in zip(*drawn, strict=True))
        return codes, logp, log_kept

    def _opened(self, prompt: Prompt) -> list[int]:
        ids = self.prompt_ids(prompt)
        if not ids:
            raise UserError("The prompt is empty; give a text or an image to go on from.")
        return ids

    def _answer(
        self, prompts: Sequence[Prompt], max_tokens: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[str]:
        opening = [self.vocabulary.answer_start]
        opened = [self._opened(p) + (opening if isinstance(p[-1], str) else []) for p in prompts]
        device = self.model.device
        ends = (self.vocabulary.end_of_text, self.vocabulary.answer_end, self.vocabulary.vision_start)
        stops = torch.tensor(ends, device=device)
        cache = Cache(opened, max_tokens - 1, self.model)
        hidden = cache.prefill()
        done_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        columns: list[Tensor] = []
        for position in range(max_tokens):
            next_B = draw(self.answer_logits(hidden), sampling, counter_uniforms(seeds, position).to(device))[0]
            done_B |= torch.isin(next_B, stops)
            if bool(done_B.all()):
                break
            columns.append(next_B.masked_fill(done_B, -1))
            if position + 1 < max_tokens:
                hidden = cache.extend(next_B)
        rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in prompts]
        return [self.tokenizer.decode([index for index in row if index >= 0]).strip() for row in rows]

    def answer_logits(self, hidden_BD: Tensor) -> Tensor:
        """Logits (B, V) of an answer's next token over the rows of text; -inf for what an answer never holds."""
        head_VD = self.model.lm_head.weight[: self.vocabulary.num_text]
        logits_BV: Tensor = (hidden_BD @ head_VD.T).float()
        return logits_BV.masked_fill_(self._no_word, float("-inf"))

    @cached_property
    def _no_word(self) -> Tensor:
        """Rows (V,) of text that an answer never holds: spare rows of the base, and what belongs to images."""
        grammar = Grammar.of(self.vocabulary, self.tokenizer)
        return ~grammar.mask(State())[: self.vocabulary.num_text].to(self.model.device)

    def _write(
        self, ids: list[list[int]], grammar: Grammar, samplings: tuple[Sampling, Sampling], seeds: Sequence[int],
        max_tokens: int,
    ) -> list[list[int]]:  # fmt: skip
        """Tokens after each prompt; an end token is not among them."""
        ends = (self.vocabulary.end_of_text, self.vocabulary.answer_end)
        states: list[State] = [grammar.state(row) for row in ids]
        written: list[list[int]] = [[] for _ in ids]
        going = set(range(len(ids)))
        cache = Cache(ids, max_tokens - 1, self.model)
        hidden_BD = cache.prefill()
        for position in range(max_tokens):
            uniforms_B = counter_uniforms(seeds, position).to(hidden_BD.device)
            images = max_tokens - position >= grammar.longest_image
            next_B = self._next(hidden_BD, grammar, states, samplings, uniforms_B, images)
            for row, token in enumerate(next_B.tolist()):
                if token in ends:
                    going.discard(row)
                elif row in going:
                    written[row].append(token)
                states[row] = grammar.advance(states[row], token)
            if not going or position + 1 == max_tokens:
                return written
            hidden_BD = cache.extend(next_B)
        return written

    def _next(
        self, hidden_BD: Tensor, grammar: Grammar, states: list[State], samplings: tuple[Sampling, Sampling],
        uniforms_B: Tensor, images: bool,
    ) -> Tensor:  # fmt: skip
        """One token a sequence: a code where an image is open, else what the grammar allows among the other rows."""
        vocabulary, head_VD = self.vocabulary, self.model.lm_head.weight
        drawing = torch.tensor([state.phase == "code" for state in states], device=hidden_BD.device)
        next_B = torch.zeros(len(states), dtype=torch.long, device=hidden_BD.device)
        if any(state.phase == "code" for state in states):
            logits = hidden_BD[drawing] @ head_VD[vocabulary.code_rows].T
            next_B[drawing] = draw(logits, samplings[0], uniforms_B[drawing])[0] + vocabulary.first_code
        others = [state for state in states if state.phase != "code"]
        if others:
            allowed = torch.stack([grammar.mask(state, images=images)[vocabulary.text_rows] for state in others])
            logits = (hidden_BD[~drawing] @ head_VD[vocabulary.text_rows].T).float()
            logits.masked_fill_(~allowed.to(logits.device), float("-inf"))
            next_B[~drawing] = draw(logits, samplings[1], uniforms_B[~drawing])[0]
        return next_B

    def _parts(self, ids: Sequence[int]) -> Prompt:
        """Tokens of texts and whole images as ordered parts."""
        parts: list[str | npt.NDArray[Any]] = []
        text: list[int] = []
        rest = list(ids)
        while rest:
            if rest[0] != self.vocabulary.vision_start:
                text.append(rest.pop(0))
                continue
            height, width = (index - self.vocabulary.num_text + 1 for index in rest[1:3])
            parts += [self.tokenizer.decode(text)] if text else []
            codes = np.asarray(rest[4 : 4 + height * width]) - self.vocabulary.first_code
            parts.append(codes.reshape(height, width))
            text, rest = [], rest[length_of_image(height, width) :]
        return (*parts, *([self.tokenizer.decode(text)] if text else []))


def _seeds(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Sequence[int]:
    if len(prompts) != len(seeds):
        raise UserError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}.")
    return seeds


def _refuse_guidance(sampling: Sampling) -> None:
    if sampling.guidance_text != 1 or sampling.guidance_image != 1:
        raise UserError("Guidance needs an image to draw: it has an effect in generate_images alone; leave it at 1.")
