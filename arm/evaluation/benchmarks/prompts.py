"""How understanding benchmarks put their questions: the wording decides the score, so it is theirs to the letter.

    short      Is there a dog in the image?⏎Answer the question using a single word or phrase.
    choice     What is it?⏎A. a cat⏎B. a dog⏎Answer with the option's letter from the given choices directly.

POPE, GQA, VQAv2 and MME are asked short, SEED-Bench by choice (LLaVA-1.5, arXiv 2310.03744); MMBench and MMMU as lmms-eval does.
"""

from collections.abc import Mapping, Sequence

SHORT = "Answer the question using a single word or phrase."
CHOICE = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCDEFGHIJ"


def short(question: str) -> str:
    """POPE, GQA, VQAv2, MME."""
    return f"{question}\n{SHORT}"


def choice(question: str, options: Sequence[str]) -> str:
    """SEED-Bench."""
    return f"{question}\n{_listed(options)}\n{CHOICE}"


def mmbench(question: str, options: Mapping[str, str], hint: str = "") -> str:
    """MMBench: hint, question and options in one line's flow; empty options are left out."""
    listed = "\n".join(f"{letter}. {text}" for letter, text in sorted(options.items()) if text)
    return f"{hint} {question}".strip() + f" There are several options:\n{listed}\n\n{CHOICE}"


def mmmu(question: str, options: Sequence[str] = ()) -> str:
    """MMMU: options for a choice, none for an open question; `<image 1>` stays where it stands."""
    return f"{question}\n{_listed(options)}\n\n{CHOICE}" if options else f"{question}\n\n{SHORT}"


def _listed(options: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))
