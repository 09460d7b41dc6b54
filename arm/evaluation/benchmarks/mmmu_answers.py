"""MMMU's reading of free text (github.com/MMMU-Benchmark/MMMU, mmmu/utils/eval_utils.py; Apache-2.0, written anew).

choice  "The answer is B."              B: a letter in brackets, else between blanks, else the text of an option in a long
                                        answer; of several the last; of none a random one
open    "so x = 3.14159"                3.14: what stands behind `so`, `is`, `=`, …, as text and as numbers to two decimals
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

EDGES = ",.!?;:'"
LONG = 5
"""Words above which the text of an option is looked for."""
SENTENCES = re.compile(r"\.\s(?=[A-Z])|\n")
ANNOUNCEMENTS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
TRIVIAL = frozenset(":,.!?;'")
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,000
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 2e-3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # 3.5, .5, 12
)
Normalised = str | float


def parse_choice(reply: str, letters: Sequence[str], options: Mapping[str, str]) -> str | None:
    """The letter that a reply means, or None where the official program draws one."""
    for mark in EDGES:
        reply = reply.strip(mark)
    text, lower = f" {reply} ", f" {reply} ".lower()
    for shape in ("({})", " {} "):
        if found := [letter for letter in letters if shape.format(letter) in text]:
            return max(found, key=lambda letter: text.rfind(shape.format(letter)))
    if len(text.split()) <= LONG:
        return None
    named = [letter for letter, option in options.items() if option.lower() in lower]
    return max(named, key=lambda letter: lower.rfind(options[letter].lower())) if named else None


def draw_choice(letters: Sequence[str], random: Random) -> str:
    """What the official program answers for a reply that it cannot read; it seeds with 42 when it starts."""
    return random.choice(letters)


def parse_open(reply: str) -> list[Normalised]:
    """What a reply may mean, without repetitions: texts in lower case and numbers."""
    keys = _key_parts(reply)
    texts = [*keys, *(number for key in keys for pattern in NUMBERS for number in pattern.findall(key))]
    return list(dict.fromkeys(value for text in texts for value in normalise(text)))


def normalise(text: str) -> list[Normalised]:
    """A number to two decimals, or text in lower case; one letter gets a blank, so that it does not stand in any word."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        pass
    text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def is_right_choice(wanted: str | Sequence[str], answer: str) -> bool:
    """Equality with the right letter, or with one of several."""
    return answer == wanted if isinstance(wanted, str) else answer in wanted


def is_right_open(wanted: str | Sequence[str], answers: Sequence[Normalised]) -> bool:
    """A right text stands in one of the answers, or a number equals a right number."""
    rights = [value for text in ([wanted] if isinstance(wanted, str) else wanted) for value in normalise(text)]
    texts = [right for right in rights if isinstance(right, str)]
    return any(
        any(text in answer for text in texts) if isinstance(answer, str) else answer in rights for answer in answers
    )


def _key_parts(reply: str) -> list[str]:
    """The shortest tail behind an announcement, sentence by sentence; the whole reply where nothing is announced.

    The program lowers the case before it splits at capitals: so it splits at line ends only, and so do we.
    """
    reply = reply.strip().strip(".").lower()
    sentences = SENTENCES.split(reply)
    found = []
    for number, sentence in enumerate(sentences):
        announced = ANNOUNCEMENTS + (("=",) if number == len(sentences) - 1 else ())
        tails = [sentence.split(word)[-1].strip() for word in announced if word in sentence]
        shortest = _shortest(tails)
        if shortest and shortest not in TRIVIAL:
            found.append(shortest)
    return found or [reply]


def _shortest(tails: Sequence[str]) -> str:
    """The first shortest tail; an empty one is taken only until another comes, as the program's `if not` has it."""
    kept = ""
    for tail in tails:
        if not kept or len(tail) < len(kept):
            kept = tail
    return kept
