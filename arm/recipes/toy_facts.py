"""What the toy world gives to import, for `arm plan`, and what its recipes share."""

from typing import Any

from arm.recipes.facts import DataSet
from arm.toy.config import WorldConfig

SIDE = 36
"""Images of the toy world have 36 x 36 pixels; a code covers 12 x 12: 3 x 3 codes."""
PUBLIC_DOMAIN = "CC0-1.0"


def datasets(world: WorldConfig) -> dict[str, DataSet]:
    """What a world gives to import, for `arm plan`; lengths are rounded means of the toy's text tokenizer."""
    one: dict[str, Any] = {"licence": PUBLIC_DOMAIN, "sizes": ((SIDE, SIDE, 1.0),)}
    many = {"images": 3, **one}
    return {
        "crawl": DataSet(num_samples=world.num_images, text_tokens=20, **one),
        "toy-captions": DataSet(num_samples=world.num_captions, text_tokens=20, **one),
        "toy-questions": DataSet(num_samples=world.num_questions, text_tokens=40, answers=4, **one),
        "toy-edits": DataSet(num_samples=world.num_edits, text_tokens=12, **{**one, "images": 2}),
        "toy-pages": DataSet(num_samples=world.num_documents, text_tokens=60, **many),
        "toy-videos": DataSet(num_samples=world.num_videos, text_tokens=20, **many),
        "toy-text": DataSet(num_samples=world.num_texts, text_tokens=60, **{**one, "images": 0}),
    }
