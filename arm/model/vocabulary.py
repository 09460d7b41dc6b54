"""The vocabulary: text ids, shape tokens and visual codes in one versioned layout, saved beside the checkpoint.

    0 ................ num_text   ids of the text tokenizer, its special tokens, and the base model's spare rows
    num_text ......... +num_shapes   shape tokens: grid sides 1..num_shapes, for heights and widths alike
    first_code ....... +num_codes    visual codes

One image of H×W codes, raster order (our format; the paper does not give one):

    <|vision_start|> H W <|image_pad|> codes... <|vision_end|>          H·W + 5 tokens

Codes are stored without an offset on disk; the offset is added here, at load.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arm.errors import UserError

VERSION = 1
FILE_NAME = "vocabulary.json"
IMAGE_OVERHEAD = 5
"""Tokens of an image beside its codes: start, height, width, pad, end."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Where each kind of token lies among the rows of the embedding."""

    num_text: int
    num_shapes: int
    num_codes: int
    vision_start: int
    vision_end: int
    image_pad: int
    end_of_text: int
    """Ends a document of text."""
    answer_start: int
    """Opens the model's answer to a question: Qwen's <|im_start|>."""
    answer_end: int
    """Closes it: Qwen's <|im_end|>."""
    visual_fingerprint: str
    """Fingerprint of the visual tokenizer whose codes these are."""

    @classmethod
    def create(
        cls, tokenizer: Any, *, num_text: int, num_shapes: int, num_codes: int, visual_fingerprint: str
    ) -> "Vocabulary":
        """Lay out a vocabulary over a text tokenizer with Qwen2.5's special tokens and a base of `num_text` rows.

        Qwen2.5-7B: ids 0..151,664 in 152,064 rows (0.5B: 151,936). Rows without an id stay where they are: no text
        holds them, and the grammar never allows them.
        """
        largest = max(tokenizer.get_vocab().values())
        if largest >= num_text:
            raise UserError(f"The text tokenizer has ids up to {largest}, the base model only {num_text} rows.")
        special = {
            "vision_start": "<|vision_start|>",
            "vision_end": "<|vision_end|>",
            "image_pad": "<|image_pad|>",
            "end_of_text": "<|endoftext|>",
            "answer_start": "<|im_start|>",
            "answer_end": "<|im_end|>",
        }
        return cls(
            num_text=num_text,
            num_shapes=num_shapes,
            num_codes=num_codes,
            visual_fingerprint=visual_fingerprint,
            **{name: _special_id(tokenizer, text) for name, text in special.items()},
        )

    @classmethod
    def load(cls, folder: Path | str) -> "Vocabulary":
        """Read `vocabulary.json` from a model folder; another version is refused."""
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise UserError(f"{folder} has no {FILE_NAME}: not a model trained here.")
        values = json.loads(path.read_text())
        version = values.pop("version", None)
        if version != VERSION:
            raise UserError(f"{path} has version {version}, this program reads {VERSION}.")
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(values) != expected:
            raise UserError(f"{path} is damaged: {', '.join(sorted(expected ^ set(values)))} missing or unknown.")
        return cls(**values)

    def save(self, folder: Path | str) -> None:
        """Write `vocabulary.json` into a model folder."""
        values = {"version": VERSION, **dataclasses.asdict(self)}
        (Path(folder) / FILE_NAME).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")

    @property
    def first_code(self) -> int:
        """The row of code 0."""
        return self.num_text + self.num_shapes

    @property
    def size(self) -> int:
        """All rows."""
        return self.first_code + self.num_codes

    @property
    def text_rows(self) -> slice:
        """Rows a text target is normalised over: text, special and shape tokens."""
        return slice(0, self.first_code)

    @property
    def code_rows(self) -> slice:
        """Rows a code target is normalised over."""
        return slice(self.first_code, self.size)

    def shape_id(self, side: int) -> int:
        """The token of a grid side of 1..num_shapes."""
        if not 1 <= side <= self.num_shapes:
            raise UserError(
                f"A grid side of {side} codes has no shape token; this vocabulary knows 1..{self.num_shapes}."
            )
        return self.num_text + side - 1

    def image_prefix(self, height: int, width: int) -> list[int]:
        """What stands before the codes of an image: <|vision_start|> H W <|image_pad|>."""
        return [self.vision_start, self.shape_id(height), self.shape_id(width), self.image_pad]

    def image_ids(self, codes: npt.ArrayLike, height: int, width: int) -> Ids:
        """The tokens of an image; refuses a wrong number of codes and codes out of range.

        codes [7 0], height 1, width 2  ->  vision_start H1 W2 image_pad first_code+7 first_code+0 vision_end
        """
        flat = np.asarray(codes, dtype=np.int64).reshape(-1)
        if flat.size != height * width:
            raise UserError(f"An image of {height}×{width} needs {height * width} codes, not {flat.size}.")
        if flat.size and not (flat.min() >= 0 and flat.max() < self.num_codes):
            raise UserError(f"A code lies outside 0..{self.num_codes - 1}: {flat.min()}..{flat.max()}.")
        prefix = self.image_prefix(height, width)
        return np.concatenate([prefix, flat + self.first_code, [self.vision_end]]).astype(np.int64)

    def is_code(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which ids are visual codes."""
        return ids >= self.first_code

    def check_text(self, ids: Ids) -> None:
        """Refuse ids of a text beyond the rows of text: they would be read as shapes or codes."""
        if ids.size and not (ids.min() >= 0 and ids.max() < self.num_text):
            raise UserError(
                f"A token of a text lies outside 0..{self.num_text - 1}: {ids.min()}..{ids.max()}; give the text tokenizer that "
                "the model was made with."
            )


def length_of_image(height: int, width: int) -> int:
    """Tokens of an image of H×W codes."""
    return height * width + IMAGE_OVERHEAD


def text_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of plain texts: no special token is added, and none is parsed out of what users wrote."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
    return [list(ids) for ids in encoded["input_ids"]]


def _special_id(tokenizer: Any, text: str) -> int:
    index = tokenizer.get_vocab().get(text)
    if index is None:
        raise UserError(f"The text tokenizer has no special token {text}; give one with Qwen2.5's special tokens.")
    return int(index)
