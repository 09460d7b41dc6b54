"""JSON as our evaluations write it; half an emoji, which a model, a judge or a service may say, becomes a question mark."""

import json
from collections.abc import Iterable
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> bytes:
    """One value, and the end of its line."""
    return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode(errors="replace")


def to_lines(rows: Iterable[Any]) -> bytes:
    """One row a line."""
    return b"".join(map(to_json, rows))
