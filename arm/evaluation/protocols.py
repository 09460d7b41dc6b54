"""When may two numbers of one benchmark be compared? Where what is named here is the same in both protocols.

    {"judge": "gpt-4.1", …}, {"judge": "gpt-4o", …}            judge: gpt-4.1 here, gpt-4o in the baseline
    {"data_files": {"a.json": "1f0a"}}, {"data_files": {"a.json": "93bb"}}
                                                               data files: a.json 1f0a here, 93bb in the baseline

The report's comparison with a baseline and the gates against the champion hold to it alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
"""A protocol, as scores.json of other authors' benchmarks and protocols.json of our own have it."""
OFFICIAL = (
    "mode", "judge", "judge_settings", "prompt_sha256", "prompt_style", "revision", "aggregation", "data_files",
)  # fmt: skip
"""Of other authors' benchmarks."""
OWN = ("dataset", "checker", "aggregation", "sampling", "images", "answer_tokens")
"""Of our own."""
CAUTIONS = ("judge_date", "notes", "checked")
"""Fields of other authors' benchmarks that may differ, and are named where they do."""
STATED = ("data_files", "dataset")
"""Where neither protocol has these, nothing shows that the same items were asked: older evaluations name no data files."""
MAX_NAMED = 3
"""Parts of one field that are named; the others are counted. MMMU has thirty data files."""


def apart(here: Record, there: Record, fields: Sequence[str], other: str) -> Iterator[str]:
    """What differs, with both values; `other` says where the second stands: `in the baseline`."""
    for name in fields:
        mine, its = (side.get(name) or None for side in (here, there))
        if mine == its and not (mine is None and name in STATED):
            continue
        if isinstance(mine, Mapping) and isinstance(its, Mapping):
            told = _parts_apart(mine, its, other)
        else:
            told = f"{said(mine)} here, {said(its)} {other}"
        yield f"{name.replace('_', ' ')}: {told}"


def _parts_apart(here: Record, there: Record, other: str) -> str:
    differing = [key for key in dict.fromkeys([*here, *there]) if here.get(key) != there.get(key)]
    told = [f"{key} {said(here.get(key))} here, {said(there.get(key))} {other}" for key in differing]
    more = [f"{len(told) - MAX_NAMED} more"] if len(told) > MAX_NAMED else []
    return "; ".join([*told[:MAX_NAMED], *more])


def said(value: Any) -> str:
    """A field in words: {"kind": "openai", "steps": None}  ->  kind openai, steps not stated"""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said(part)}" for name, part in value.items()) or "nothing"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or "nothing"
    return "not stated" if value in (None, "") else str(value)
