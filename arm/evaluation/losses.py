"""Why items have no score: reasons by count, in words without what is particular to one item.

no score in 'Sorry, I cannot.'    no score in 'As an AI model …'    ->    {"no score in '…'": 2}
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from arm.evaluation.items import Verdict

NO_ANSWER = "no answer"
"""What a scorer says of an item whose place is there, but nobody's answer; who asked knows more."""
NO_RESULT = "no result"
"""The reason for items of which nothing is there: neither a result nor a word about why."""
OTHERS = "other reasons"
MAX_REASONS, MAX_LENGTH = 20, 120
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def account(reasons: Iterable[str], num_unscored: int, lost: Mapping[str, int] | None = None) -> dict[str, int]:
    """Reason -> items, the most frequent first: `reasons` of the scorer, `lost` before it, and those nobody gave one for."""
    counted = Counter(_general(reason) for reason in reasons)
    before = Counter[str]()
    for reason, number in (lost or {}).items():
        before[_general(reason)] += number
    counted[NO_ANSWER] -= before.total()
    counted = +counted + before
    counted[NO_RESULT] += num_unscored - counted.total()
    ordered = sorted((+counted).items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(number for _, number in ordered[MAX_REASONS:])
    return dict(ordered[:MAX_REASONS]) | ({OTHERS: rest} if rest else {})


def reasons_of(verdicts: Iterable[Verdict]) -> list[str]:
    """The first reason of each verdict without a score."""
    return [
        verdict.reasons[0] if verdict.reasons else verdict.outcome for verdict in verdicts if verdict.outcome != "ok"
    ]


def _general(reason: str) -> str:
    """A reason on one line, without what it quotes, shortened."""
    text = " ".join(QUOTED.sub("'…'", reason).split())
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
