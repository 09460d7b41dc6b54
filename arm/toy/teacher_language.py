"""A small Qwen2 that learns the toy language, to read what stands before a text, and to answer questions about it.

Captions and questions come after nine soft tokens, one per cell in reading order, from a table that is thrown away
afterwards: so the model has learned to read a prefix of vectors. Half of the batches have them bare, as the tokenizer's
caption loss gives them, half inside the frame of an image, as the big model's documents have codes. Texts of the world
come without. The tokenizer is a byte-level BPE with Qwen2.5's special-token strings: any UTF-8 text has ids.
"""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.device import autocast
from arm.toy.config import LanguageTeacherConfig, TeacherConfig
from arm.toy.language import ask, document
from arm.toy.scene import Scene
from arm.toy.teacher_training import CONTENTS, Report, Training, contents_of, draw_scenes

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Qwen2.5's, in its order."""
ADDED_TOKENS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
"""Qwen2.5's added tokens that are not special."""
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2.5 splits text before merging."""
IMAGE_FRAME = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
"""The first two stand before an image's tokens, the last behind them."""
ANSWER_FRAME = ("<|im_start|>", "<|im_end|>")
"""Before and behind an answer, as in the big model's documents."""
CAPTION_SHARE = 0.3
"""Captions among the texts with a context; the rest are questions: what the caption loss reads is learned sooner."""
NUM_QUESTIONS = 6
NUM_TEST = 256
TEXT_EVERY = 5
"""Every fifth batch holds documents without a context."""
MAX_POSITIONS = 4096


def train(folder: Path, config: TeacherConfig) -> Report:
    """Train, save model and tokenizer, and measure what the model reads in a context."""
    own, rng = config.language_model, random.Random(f"{config.seed}/texts")
    drawn = draw_scenes(config, "language", config.num_scenes + NUM_TEST)
    seen = [caption if rng.random() < CAPTION_SHARE else questions(scene, rng) for scene, caption in drawn]
    unseen = [document(scene, rng) for scene, _ in drawn[: config.num_scenes // 4]]
    tokenizer = make_tokenizer([*seen, *unseen], own.vocabulary_size)
    reader = Reader(make_model(own, tokenizer), tokenizer)
    contents = contents_of(scene for scene, _ in drawn)
    with_context = Batches(tokenizer, seen[:-NUM_TEST], contents, own.batch_size, config.seed)
    without = Batches(tokenizer, unseen, None, own.batch_size, config.seed)

    def compute(step: int) -> Tensor:
        batch = without if step % TEXT_EVERY == TEXT_EVERY - 1 else with_context
        with autocast(torch.device("cpu"), "auto"):
            loss: Tensor = reader(*batch.draw(), framed=step % 2 == 1)
        return loss

    training = Training("language_model", list(reader.parameters()), own.num_steps, own.learning_rate)
    training.run(compute)
    reader.eval()
    reader.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    test = Batches(tokenizer, seen[-NUM_TEST:], contents[-NUM_TEST:], NUM_TEST, 0)
    return Report(metrics=measure(reader, *test.all()), curve=training.curve)


class Reader(nn.Module):
    """The language model with the table of soft tokens that stand for the cells."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.contents = nn.Parameter(torch.randn(len(CONTENTS), model.config.hidden_size) * 0.02)
        self.frame, self.answer_frame = (
            tokenizer.convert_tokens_to_ids(list(tokens)) for tokens in (IMAGE_FRAME, ANSWER_FRAME)
        )

    def forward(self, ids_BT: Tensor, lengths_B: Tensor, contents_BN: Tensor | None, *, framed: bool = False) -> Tensor:
        """Mean cross-entropy of the texts; with contents, their first token too is predicted."""
        logits, targets = self.predict(ids_BT, lengths_B, contents_BN, framed=framed)
        return F.cross_entropy(logits, targets)

    def predict(
        self, ids_BT: Tensor, lengths_B: Tensor, contents_BN: Tensor | None, *, framed: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits (M, vocabulary) of the M tokens that are predicted, and those tokens (M)."""
        inputs = self.model.get_input_embeddings()(ids_BT)
        targets_BT = ids_BT if contents_BN is not None else ids_BT[:, 1:]
        if contents_BN is not None:
            inputs = torch.cat([self._context(contents_BN, framed), inputs], dim=1)
        hidden = self.model.model(inputs_embeds=inputs).last_hidden_state[:, -targets_BT.shape[1] - 1 : -1]
        first = ids_BT.shape[1] - targets_BT.shape[1]
        real = torch.arange(first, ids_BT.shape[1]) < lengths_B[:, None]
        return self.model.lm_head(hidden[real]).float(), targets_BT[real]

    def is_answer(self, ids_T: Tensor) -> Tensor:
        """Which of a row's tokens are the words of an answer."""
        start, end = self.answer_frame
        opened, closed = (torch.cumsum(torch.eq(ids_T, mark), 0) for mark in (start, end))
        return torch.eq(opened - closed, 1) & torch.ne(ids_T, start)

    def _context(self, contents_BN: Tensor, framed: bool) -> Tensor:
        soft = self.contents[contents_BN]
        if not framed:
            return soft
        frame = self.model.get_input_embeddings()(torch.tensor(self.frame)).expand(len(soft), -1, -1)
        return torch.cat([frame[:, :2], soft, frame[:, 2:]], dim=1)


class Batches:
    """Texts of similar length together, so that little is padding."""

    def __init__(self, tokenizer: Any, texts: list[str], contents: Tensor | None, batch_size: int, seed: int) -> None:
        self.rows = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts)["input_ids"]]
        self.order = sorted(range(len(self.rows)), key=lambda index: len(self.rows[index]))
        self.contents, self.batch_size, self.rng = contents, batch_size, random.Random(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """A random run of the texts sorted by length: ids (B, T), lengths (B,), contents (B, 9) or None."""
        start = self.rng.randrange(len(self.order) - self.batch_size + 1)
        return self._pad(self.order[start : start + self.batch_size])

    def all(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Everything as one batch."""
        return self._pad(self.order)

    def _pad(self, chosen: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        rows = [self.rows[index] for index in chosen]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, lengths, None if self.contents is None else self.contents[chosen]


def questions(scene: Scene, rng: random.Random) -> str:
    """Several questions with their answers, as a document of the big model has them."""
    start, end = ANSWER_FRAME
    return "".join(f"{question}{start}{answer}{end}" for question, answer, _ in ask(scene, rng, NUM_QUESTIONS))


def make_tokenizer(texts: list[str], vocabulary_size: int) -> Any:
    """A byte-level BPE as Qwen2.5's: NFC, its splitting pattern, its special tokens behind the merges."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocabulary_size, initial_alphabet=alphabet, show_progress=False)
    )
    inner.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    inner.add_tokens([AddedToken(token, normalized=False, special=False) for token in ADDED_TOKENS])
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=inner, eos_token=SPECIAL_TOKENS[0], pad_token=SPECIAL_TOKENS[0],
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
    )  # fmt: skip


def make_model(config: LanguageTeacherConfig, tokenizer: Any) -> Any:
    """A Qwen2ForCausalLM from its config."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    end = tokenizer.eos_token_id
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=config.width, intermediate_size=config.mlp_width,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads, max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=False, bos_token_id=end, eos_token_id=end,
        )
    )  # fmt: skip
    model.set_attn_implementation("eager")
    return model


@torch.no_grad()
def measure(reader: Reader, ids: Tensor, lengths: Tensor, contents: Tensor | None) -> dict[str, float]:
    """The loss with each text's own context and with another's, and the share of answer tokens that are likeliest."""
    assert contents is not None
    right, wrong = reader(ids, lengths, contents), reader(ids, lengths, contents.roll(1, 0))
    logits, targets = reader.predict(ids, lengths, contents, framed=True)
    answers = torch.cat([reader.is_answer(row[:length]) for row, length in zip(ids, lengths.tolist(), strict=True)])
    share = (logits.argmax(-1) == targets)[answers].float().mean()
    return {
        "loss/own_context": round(float(right), 4),
        "loss/wrong_context": round(float(wrong), 4),
        "answers/framed": round(float(share), 4),
    }
