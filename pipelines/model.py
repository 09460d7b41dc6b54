"""Model: the visual tokenizer and the detokenizer, three supervised stages, three stages of reinforcement learning.

images ── tokenizer ─┬─ tokens ── pretrain ── continue ── finetune ── t2i ── edit ── joint
                     └─ detokenizer ─────────────────────────────────┴───────┴───────┘
"""

from dataclasses import dataclass
from typing import Any

from components.model.tokenize_images import tokenize_images
from components.model.tokenize_part import tokenize_part
from components.model.train_detokenizer import train_detokenizer
from components.model.train_model import train_model
from components.model.train_policy import train_policy
from components.model.train_tokenizer import train_tokenizer
from pipelines.data import Ready
from pipelines.step import Step


@dataclass(frozen=True)
class Codes:
    """The tokenizer, its detokenizer, and every sample as codes."""

    tokenizer: Any
    tokens: Any
    detokenizer: Any


@dataclass(frozen=True)
class Models:
    """The codes and the model after each stage."""

    codes: Codes
    pretrained: Any
    continued: Any
    finetuned: Any
    t2i_policy: Any
    edit_policy: Any
    joint_policy: Any


def codes(step: Step, ready: Ready) -> Codes:
    """Train the tokenizer and the detokenizer, and turn every sample into codes."""
    tokenizer = step(
        "train-tokenizer", train_tokenizer,
        images=ready.images, encoder=ready.encoder, caption_model=ready.language_model,
    )  # fmt: skip
    tokens = step.in_parts(
        "tokenize-images", tokenize_images, tokenize_part,
        images=ready.images, tokenizer=tokenizer, text_tokenizer=ready.language_model,
    )  # fmt: skip
    detokenizer = step(
        "train-detokenizer", train_detokenizer,
        images=ready.images, tokenizer=tokenizer, autoencoder=ready.autoencoder, backbone=ready.backbone,
    )  # fmt: skip
    return Codes(tokenizer, tokens, detokenizer)


def model(step: Step, ready: Ready) -> Models:
    """Train the model: codes, then pretrain, continue, finetune, then t2i, edit and joint RL."""
    made = codes(step, ready)
    supervised = {"tokens": made.tokens, "tokenizer": made.tokenizer}
    pretrained = step("train-model-pretrain", train_model, base=ready.language_model, **supervised)
    continued = step("train-model-continue", train_model, base=pretrained, **supervised)
    finetuned = step("train-model-finetune", train_model, base=continued, **supervised)
    rewarded = {"prompts": ready.prompts, "tokenizer": made.tokenizer, "detokenizer": made.detokenizer}
    t2i = step("train-policy-t2i", train_policy, model=finetuned, **rewarded)
    edit = step("train-policy-edit", train_policy, model=t2i, **rewarded)
    joint = step("train-policy-joint", train_policy, model=edit, **rewarded)
    return Models(made, pretrained, continued, finetuned, t2i, edit, joint)
