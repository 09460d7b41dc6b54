"""Generation: images as codes and answers as text, from one stock `Qwen2ForCausalLM` with a key-value cache.

    generator = Generator.from_pretrained("model")
    rollouts = generator.generate_images([("a red circle",)], (3, 3), Sampling(temperature=0.7, top_k=1000), seeds=[0])
    generator.generate_images([(codes_hw, "remove the circle")], (3, 3), Sampling(), seeds=[1])       an edit
    generator.answer([(codes_hw, "how many circles are there?")], max_tokens=8)

Prompts are prefilled packed, without padding; the cache is right-aligned, so that every sequence writes its next key
into the same column. All guidance branches run in one batch.

Shapes: B sequences, N codes of an image, V rows the grammar allows, K key-value heads, E head width, T cache columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoTokenizer, Qwen2ForCausalLM

from arm.device import rank_device
from arm.errors import UserError
from arm.model.attention import NAME as DOCUMENTS
from arm.model.attention import Columns, Documents
from arm.model.sampling import Sampling, counter_uniforms, draw, guide
from arm.model.vocabulary import Vocabulary, text_ids

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
    """A model ready to generate. `batch_size` bounds how many sequences (all branches) run at once."""

    def __init__(self, model: Any, vocabulary: Vocabulary, tokenizer: Any, *, batch_size: int = 512) -> None:
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
        if len(prompts) != len(seeds):
            raise UserError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}.")
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
    def answer(self, prompts: Sequence[Prompt], max_tokens: int = 32) -> list[str]:
        """The likeliest text after each prompt: the answer to a final question, or the caption of a final image."""
        answers: list[str] = []
        for first in range(0, len(prompts), self.batch_size):
            answers += self._answer(prompts[first : first + self.batch_size], max_tokens)
        return answers

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
        cache = Cache([ids for branch in branches for ids in branch], num_codes - 1, self.model.device)
        hidden = cache.prefill(self.model)
        drawn: list[tuple[Tensor, Tensor, Tensor]] = []
        for position in range(num_codes):
            logits = (hidden @ head_VD.T).float().chunk(len(branches))
            uniforms_B = counter_uniforms(seeds, position).to(hidden.device)
            drawn.append(draw(guide(logits, sampling), sampling, uniforms_B))
            if position + 1 < num_codes:
                next_ids = drawn[-1][0] + self.vocabulary.first_code
                hidden = cache.extend(self.model, next_ids.repeat(len(branches)))
        codes, logp, log_kept = (torch.stack(items, dim=1) for items in zip(*drawn, strict=True))
        return codes, logp, log_kept

    def _answer(self, prompts: Sequence[Prompt], max_tokens: int) -> list[str]:
        opened = [
            self.prompt_ids(p) + ([self.vocabulary.answer_start] if isinstance(p[-1], str) else []) for p in prompts
        ]
        device = self.model.device
        ends = (self.vocabulary.end_of_text, self.vocabulary.answer_end, self.vocabulary.vision_start)
        stops = torch.tensor(ends, device=device)
        head_VD = self.model.lm_head.weight[: self.vocabulary.num_text]
        cache = Cache(opened, max_tokens, device)
        hidden = cache.prefill(self.model)
        done_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        columns: list[Tensor] = []
        for _ in range(max_tokens):
            next_B = (hidden @ head_VD.T).float().argmax(dim=-1)
            done_B |= torch.isin(next_B, stops)
            if bool(done_B.all()):
                break
            columns.append(next_B.masked_fill(done_B, -1))
            hidden = cache.extend(self.model, next_B)
        rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in prompts]
        return [self.tokenizer.decode([index for index in row if index >= 0]).strip() for row in rows]


class Cache:
    """Keys and values of B sequences, right-aligned: sequence b owns the columns from `starts_B[b]` to `filled`.

        a b c          · · a b c | x y          the next token of every sequence goes into the same column
        d e f g h      d e f g h | x y
    """  # fmt: skip

    def __init__(self, sequences: Sequence[Sequence[int]], room: int, device: torch.device) -> None:
        self.lengths = [len(ids) for ids in sequences]
        self.ids_1N = torch.tensor([index for ids in sequences for index in ids], device=device)[None]
        self.longest = max(self.lengths)
        self.capacity = self.longest + room
        self.filled = 0
        lengths_B = torch.tensor(self.lengths, device=device)
        self.starts_B = self.longest - lengths_B
        total, rows_B = sum(self.lengths), torch.arange(len(self.lengths), device=device)
        self.row_N = torch.repeat_interleave(rows_B, lengths_B, output_size=total)
        first_N = (lengths_B.cumsum(0) - lengths_B)[self.row_N]
        self.position_N = torch.arange(total, device=device) - first_N
        self.last_B = lengths_B.cumsum(0) - 1
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def prefill(self, model: Any) -> Tensor:
        """Run the prompts packed; returns the hidden state (B, width) of each one's last token."""
        documents = Documents.of(self.lengths, model.dtype, model.device)
        hidden = self._run(model, self.ids_1N, self.position_N[None], documents)[0]
        self.filled = self.longest
        return hidden[self.last_B]

    def extend(self, model: Any, ids_B: Tensor) -> Tensor:
        """Append one token to every sequence; returns the hidden states (B, width)."""
        self.filled += 1
        columns = torch.arange(self.filled, device=model.device)[None] < self.starts_B[:, None]
        mask_BT = torch.zeros(columns.shape, dtype=model.dtype, device=model.device).masked_fill(columns, float("-inf"))
        position_B = self.filled - 1 - self.starts_B
        return self._run(model, ids_B[:, None], position_B[:, None], Columns(mask_BT))[:, 0]

    def update(self, key: Tensor, value: Tensor, layer: int, *unused: Any, **ignored: Any) -> tuple[Tensor, Tensor]:
        """What transformers' attention calls: store the new keys and values, return all that is to be attended to."""
        if self.filled == 0:
            self.keys[layer], self.values[layer] = (self._aligned(x) for x in (key, value))
            return key, value
        for store, new in ((self.keys, key), (self.values, value)):
            store[layer][:, :, self.filled - 1] = new[:, :, 0]
        return self.keys[layer][:, :, : self.filled], self.values[layer][:, :, : self.filled]

    def _aligned(self, packed_1KNE: Tensor) -> Tensor:
        heads, width = packed_1KNE.shape[1], packed_1KNE.shape[3]
        store = packed_1KNE.new_zeros(len(self.lengths), heads, self.capacity, width)
        store[self.row_N, :, self.starts_B[self.row_N] + self.position_N] = packed_1KNE[0].transpose(0, 1)
        return store

    def _run(self, model: Any, ids: Tensor, positions: Tensor, documents: Documents | Columns) -> Tensor:
        output = model.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask={"full_attention": None},
            past_key_values=self,
            use_cache=False,
            documents=documents,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden
