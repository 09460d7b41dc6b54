"""How outputs came about, beside the outputs: a resumed run must be told the same, or it would mix two models."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from arm.errors import UserError
from arm.storage import Folder

Item = TypeVar("Item")


def claim(output: Folder, name: str, protocol: dict[str, Any]) -> None:
    """Write the protocol, or hold it against the one that is there; UserError names what differs."""
    text = (json.dumps(protocol, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    if not output.exists(name):
        output.write(name, text)
        return
    try:
        before = json.loads(output.read(name))
    except ValueError:
        raise UserError(f"{output.url}/{name} is damaged; delete it if the outputs there are not needed.") from None
    other = sorted(key for key in before.keys() | protocol.keys() if before.get(key) != protocol.get(key))
    if other:
        raise UserError(
            f"{output.url} holds outputs of another run: {other[0]} was {_short(before.get(other[0]))}, now "
            f"{_short(protocol.get(other[0]))}; give another --output."
        )


def batches_to_make(
    items: Sequence[Item], is_missing: Callable[[Item], bool], size: int, *, independent: bool
) -> Iterator[list[Item]]:
    """What to make, `size` at once: what is missing, or, where rounding depends on the batch, its whole batch.

    a b c d e f, b and e missing, size 2:  independent  b e        otherwise  a b, e f
    """
    wanted = [item for item in items if is_missing(item)] if independent else list(items)
    for start in range(0, len(wanted), size):
        batch = wanted[start : start + size]
        if any(is_missing(item) for item in batch):
            yield batch


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}…"
