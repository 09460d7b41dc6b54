"""The large multimodal model: a stock `Qwen2ForCausalLM` whose vocabulary also holds shape tokens and visual codes.

    base checkpoint        rows: text                                  tied or not
    initialise(...)        rows: text | shape tokens | codes           embedding and head untied
    save(...)              a folder that plain transformers loads, with vocabulary.json and the text tokenizer

New rows start at the mean of the text rows plus a little noise. Code rows may start further apart, each as a fixed
random map of what its code means (`code_initialisation`), scaled like the text rows, so that codes alike start close:

    mean        nothing of it
    digits      the values of its FSQ digits: learns much faster at toy size
    features    what the visual tokenizer makes of it: a learned codebook's vector, or the FSQ values after the first
                trained map of the way out, where digits that matter more to the image stretch further
    captions    its embedding is the very vector that the tokenizer's caption loss (Eq. 1) taught this language model to
                read for it, its row of the head as for `digits`: the model reads images before it has seen a code
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2ForCausalLM

from arm.errors import UserError
from arm.model.vocabulary import Vocabulary

INDEX_ORDER = 1
"""The order of FSQ digits in an index that `code_values` implements: mixed radix, dimension 0 least significant."""
WAY_OUT = "project_out.inward.weight"
"""Tensor of a visual tokenizer of ours: from FSQ values to the width of its projection."""
CODEBOOK = "quantize.embedding.weight"
"""Tensor of an imported one: the vector of every code."""
CAPTION_VECTORS = "caption_vectors.safetensors"
"""File of a tokenizer trained with a caption loss: what its caption model reads for each code, `codes` (codes, C)."""
NOISE = 0.1
"""Noise of new rows against the spread of the text rows (ours)."""


@dataclass(frozen=True, slots=True)
class VisualCodes:
    """What training needs to know of an image tokenizer: which one it is, and the levels behind its codes."""

    fingerprint: str
    levels: tuple[int, ...]
    codebook: int = 0
    """Size of a learned codebook, whose codes have no digits and no levels; 0 for FSQ."""

    @classmethod
    def load(cls, folder: Path) -> "VisualCodes":
        """Read it from the `visual_tokenizer.json` of a saved or imported tokenizer."""
        record = json.loads((folder / "visual_tokenizer.json").read_text())
        if "model_type" in record:
            return cls(record["fingerprint"], (), int(record["num_codes"]))
        if record["index_order"] != INDEX_ORDER:
            raise UserError(f"{folder} has index order {record['index_order']}; this program reads {INDEX_ORDER}.")
        return cls(record["fingerprint"], tuple(record["quantizer"]["levels"]))

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return prod(self.levels) if self.levels else self.codebook

    @property
    def features_file(self) -> str:
        """The file of the tokenizer's folder that `features` are read from."""
        return "projections.safetensors" if self.levels else "model.safetensors"

    def check_initialisation(self, from_digits: bool) -> None:
        """Codes of a learned codebook cannot start from digits: they have none."""
        if from_digits and not self.levels:
            raise UserError(
                f"code_initialisation 'digits' needs the digits of FSQ codes; tokenizer {self.fingerprint[:12]} has a "
                "learned codebook: set code_initialisation to 'mean' or 'features'."
            )


def code_values(levels: tuple[int, ...]) -> Tensor:
    """The values in [-1, 1] of every code's digits: (codes, dimensions).

    levels (2, 2)  ->  [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    """
    index = torch.arange(VisualCodes("", levels).num_codes)
    columns = []
    for level in levels:
        columns.append((index % level).float() * 2 / (level - 1) - 1)
        index = index // level
    return torch.stack(columns, dim=1)


def initial_values(kind: str, codes: VisualCodes, weights: Path | None = None) -> Tensor | None:
    """What code rows start from, (codes, C): none for `mean`; `features` reads them from `weights` (`features_file`).

    For `captions` they are the head's alone: the embedding's are `caption_vectors`.
    """
    if kind == "mean":
        return None
    if kind in ("digits", "captions"):
        return code_values(codes.levels)
    assert weights is not None, "features are read from the tokenizer's weights"
    with safe_open(weights, framework="pt") as opened:
        weight: Tensor = opened.get_tensor(WAY_OUT if codes.levels else CODEBOOK).float()
    features = code_values(codes.levels) @ weight.T if codes.levels else weight
    centred = features - features.mean(dim=0, keepdim=True)
    return centred / centred.std(correction=0).clamp(min=1e-8)


def caption_vectors(file: Path) -> Tensor:
    """Embeddings of the codes, (codes, C) float32, that the caption loss taught a language model to read."""
    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor("codes").float()  # type: ignore[no-any-return]


def load_base(folder: Path) -> tuple[Any, Any]:
    """Load a language model in float32 and its text tokenizer."""
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def load_trained(folder: Path, codes: VisualCodes) -> tuple[Any, Any, Vocabulary]:
    """Load a model made here; codes of another visual tokenizer are refused."""
    vocabulary = Vocabulary.load(folder)
    if vocabulary.visual_fingerprint != codes.fingerprint:
        raise UserError(
            f"{folder} was trained on codes of visual tokenizer {vocabulary.visual_fingerprint[:12]}, "
            f"not {codes.fingerprint[:12]}; give that one."
        )
    model, tokenizer = load_base(folder)
    if model.config.vocab_size != vocabulary.size:
        raise UserError(
            f"{folder} has {model.config.vocab_size} rows, its vocabulary.json {vocabulary.size}: not of one model."
        )
    return model, tokenizer, vocabulary


def initialise(
    model: Any, tokenizer: Any, codes: VisualCodes, *, num_shapes: int, values: Tensor | None, added_layers: int,
    seed: int, embeddings: Tensor | None = None,
) -> Vocabulary:  # fmt: skip
    """Turn a language model into the start of pretraining, in place; returns its vocabulary.

    Its embedding and head are untied: text rows of both start as the base's, tied or not. `values`: `initial_values`;
    `embeddings`: `caption_vectors`, which take the place of the codes' embeddings.
    """
    assert values is None or len(values) == codes.num_codes
    assert embeddings is None or embeddings.shape == (codes.num_codes, model.config.hidden_size)
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary.create(
        tokenizer,
        num_text=model.config.vocab_size,
        num_shapes=num_shapes,
        num_codes=codes.num_codes,
        visual_fingerprint=codes.fingerprint,
    )
    embedding, head = model.model.embed_tokens.weight.data, model.lm_head.weight.data.clone()
    model.config.tie_word_embeddings = False
    model.config.vocab_size = model.vocab_size = model.model.vocab_size = vocabulary.size
    rows = _extended(embedding, vocabulary, values, generator)
    if embeddings is not None:
        rows[-codes.num_codes :] = embeddings
    model.model.embed_tokens = nn.Embedding(rows.shape[0], rows.shape[1], model.model.padding_idx)
    model.model.embed_tokens.weight = nn.Parameter(rows)
    model.lm_head = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    model.lm_head.weight = nn.Parameter(_extended(head, vocabulary, values, generator))
    _add_layers(model, added_layers, generator)
    return vocabulary


def save(model: Any, tokenizer: Any, vocabulary: Vocabulary, folder: Path) -> None:
    """Write a folder that plain transformers loads: weights, config, text tokenizer, vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    vocabulary.save(folder)


def _extended(old: Tensor, vocabulary: Vocabulary, values: Tensor | None, generator: torch.Generator) -> Tensor:
    """The old rows, then shape tokens, then codes."""
    mean, spread = old.mean(dim=0, keepdim=True), old.std()
    num_new = vocabulary.num_shapes + vocabulary.num_codes
    new = mean + torch.randn(num_new, old.shape[1], generator=generator) * spread * NOISE
    if values is not None:
        directions = torch.randn(values.shape[1], old.shape[1], generator=generator) / values.shape[1] ** 0.5
        new[vocabulary.num_shapes :] += values @ directions * spread
    return torch.cat([old, new])


def _add_layers(model: Any, number: int, generator: torch.Generator) -> None:
    """Put layers on top that change nothing at first: copies of the last shape with zero output projections."""
    config = model.config
    layer_type = type(model.model.layers[-1])
    for index in range(config.num_hidden_layers, config.num_hidden_layers + number):
        config.layer_types = [*config.layer_types, config.layer_types[-1]]
        layer = layer_type(config, index)
        for parameter in layer.parameters():
            if parameter.dim() == 2:
                parameter.data.normal_(0, config.initializer_range, generator=generator)
        for bias in (layer.self_attn.q_proj.bias, layer.self_attn.k_proj.bias, layer.self_attn.v_proj.bias):
            bias.data.zero_()
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
        model.model.layers.append(layer)
    config.num_hidden_layers += number
