"""Which option a free answer means, as VLMEvalKit and as lmms-eval infer it: by rule, without a judge.

    "(B)", "Answer: B", "B. red", "**B**"   B (both)
    "The answer is A"                       A (VLMEvalKit), none (lmms-eval: A may be an article in more than 3 words)
    "I think it is red."                    the only option whose text the answer holds
    "A dog is near B", "cannot determine"   none

Sources: open-compass/VLMEvalKit, vlmeval/utils/matching_util.py; EvolvingLMMs-Lab/lmms-eval, tasks/mmbench/mmbench_evals.py
and tasks/_task_utils/mcq_extract.py (both Apache-2.0 or MIT; written anew here).
"""

import re
from collections.abc import Mapping, Sequence

REFUSED = "Z"
"""What VLMEvalKit calls an answer that refuses."""
API_FAILURE = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
SAID = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)
LAST_WORDS = 4
"""VLMEvalKit believes a lone letter among the last so many words only."""
MARKS = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."),
    (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip
"""What lmms-eval allows before and behind a letter, in the order in which it looks."""


def infer_vlmevalkit(answer: str, options: Mapping[str, str]) -> str | None:
    """A letter, Z for a refusal, or None."""
    return _letter_vlmevalkit(answer, options) or _by_text(answer, options, bounded=True)


def infer_lmms(answer: str, options: Mapping[str, str]) -> str | None:
    """A letter or None; the letters A to E are looked for, whichever options there are."""
    return _letter_lmms(answer) or _by_text(answer, options, bounded=False)


def extract_lmms(answer: str, letters: Sequence[str]) -> str | None:
    """The letter that lmms-eval's static evaluation takes when `infer_lmms` finds none; the surest shape, then the last.

    start 10: "B, since"    end 9: "it is B"    after a phrase 7: "the answer is B"    (B) 6    B. 5    B: 4    B) 3    "B " 2
    """
    text = answer.strip()
    if not text:
        return None
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    core, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []
    for rank, shape in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        found += [(rank, place, one) for one in letters if (place := text.rfind(shape.format(one))) >= 0]
    lower = text.lower()
    for phrase in PHRASES:
        if (start := lower.find(phrase)) >= 0:
            places = [(text.find(one, start + len(phrase)), one) for one in letters]
            found += [(7, place, one) for place, one in places if place >= 0]
    for one in letters:
        if core.startswith(one) and not core[1:2].isalpha():
            found.append((10, 0, one))
        if core.endswith(one) and not core[-2:-1].isalpha():
            found.append((9, len(text) - 1, one))
    if not found:
        found = [(0, place, one) for one in letters if (place := text.rfind(one)) >= 0]
    best = max(found, key=lambda entry: entry[:2], default=None)  # the first of several that are equally sure
    return best[2] if best else None


PHRASES = (
    *(f"{lead}{kind} is" for kind in ("answer", "correct answer", "best answer") for lead in ("the ", "")),
    *(f"{lead}{kind} is" for kind in ("correct option", "best option", "choice", "correct choice") for lead in ("the ", "")),
    "i choose", "i select", "i pick", "my answer is", "my choice is",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip
"""What lmms-eval takes for the announcement of an answer, in three scripts more."""


def _letter_vlmevalkit(answer: str, options: Mapping[str, str]) -> str | None:
    if API_FAILURE in answer:
        return None
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(PUNCTUATION).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - LAST_WORDS - 1:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    said = SAID.search(answer)
    return said[1].upper() if said and said[1].upper() in options else None


def _letter_lmms(answer: str) -> str | None:
    if API_FAILURE in answer:
        return None
    words = set(answer.split())
    alone = [letter for letter in "ABCDE" if letter in words]
    if len(alone) == 1 and not ("A" in words and len(answer.split()) > 3):
        return alone[0]
    for before, behind in MARKS:
        marked = [letter for letter in "ABCDE" if f"{before}{letter}{behind}" in words]
        if len(marked) == 1:
            return marked[0]
    return None


def _by_text(answer: str, options: Mapping[str, str], *, bounded: bool) -> str | None:
    """The only option whose text stands in the answer; VLMEvalKit passes over answers twice as long as all options."""
    lower = answer.lower()
    if bounded and len(lower) > 2 * sum(len(text) for text in options.values()):
        return None
    held = [letter for letter, text in options.items() if text.lower() in lower]
    return held[0] if len(held) == 1 else None
