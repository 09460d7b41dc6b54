"""A tiny model, a word tokenizer and a vocabulary for the tests of model and training."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from arm.model.lmm import VisualCodes, code_values, initialise

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
WORDS = [
    "a",
    "red",
    "blue",
    "circle",
    "square",
    "where",
    "is",
    "the",
    "left",
    "right",
    "remove",
    "garden",
    "how",
    "many",
    "one",
    "two",
]
CODES = VisualCodes("f" * 64, (2, 2, 2))


def word_tokenizer() -> Any:
    """One id a word."""
    known = {word: index for index, word in enumerate([*SPECIAL, "?", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    return fast


def tiny_model(*, seed: int = 0, spread: float = 0.3, vocab_size: int = 32) -> Any:
    """A Qwen2 of two layers, width 32, with grouped heads; large weights, so that mistakes show."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=spread,
        tie_word_embeddings=True,
        max_position_embeddings=512,
    )
    return Qwen2ForCausalLM(config).eval()


def tiny_lmm(*, seed: int = 0, from_digits: bool = False) -> tuple[Any, Any, Any]:
    """(model, tokenizer, vocabulary) at the start of pretraining: 32 text rows, 4 shapes, 8 codes."""
    model, tokenizer = tiny_model(seed=seed), word_tokenizer()
    values = code_values(CODES.levels) if from_digits else None
    vocabulary = initialise(model, tokenizer, CODES, num_shapes=4, values=values, added_layers=0, seed=seed)
    return model, tokenizer, vocabulary


def saved_base(folder: Path) -> Path:
    """A language model folder to start from."""
    tiny_model().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder
