"""How understanding benchmarks put their questions: the wording decides the score, so it is theirs to the letter.

    short      Is there a dog in the image?⏎Answer the question using a single word or phrase.
    mme        Is this a dog? Please answer yes or no.  ->  Is this a dog?⏎Answer the question using a single word or phrase.
    choice     What is it?⏎A. a cat⏎B. a dog⏎Answer with the option's letter from the given choices directly.
    mmbench    What is it? There are several options:⏎A. a cat⏎B. a dog⏎⏎Answer with the option's letter …
    mmmu       What is it?⏎A. a cat⏎B. a dog⏎⏎Answer with the option's letter …, or, without options, with a single word …

POPE, GQA and VQAv2 are asked short, SEED-Bench by choice (LLaVA-1.5, arXiv 2310.03744); MME, MMBench and MMMU as lmms-eval
does (github.com/EvolvingLMMs-Lab/lmms-eval; of the last two, its snapshots of rendered prompts). Standard library only.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

SHORT = "Answer the question using a single word or phrase."
CHOICE = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCDEFGHIJ"
Options = Mapping[str, str]
"""Letter -> what it stands for, in the order of the letters."""
NONE: Options = MappingProxyType({})


def plain(question: str, options: Options = NONE, hint: str = "") -> str:
    """Hint, question and options, a line each, and nothing after them."""
    return "\n".join([*([hint] if hint else []), question, *_listed(options)])


def short(question: str, options: Options = NONE, hint: str = "") -> str:
    """POPE, GQA, VQAv2."""
    return f"{plain(question, options, hint)}\n{SHORT}"


def mme(question: str, options: Options = NONE, hint: str = "") -> str:
    """MME: short, in place of the sentence that each of its questions ends with."""
    return short(question.strip().replace(" Please answer yes or no.", ""), options, hint)


def choice(question: str, options: Options = NONE, hint: str = "") -> str:
    """SEED-Bench."""
    return f"{plain(question, options, hint)}\n{CHOICE}"


def mmbench(question: str, options: Options = NONE, hint: str = "") -> str:
    """MMBench: hint, question and options in one line's flow; empty options are left out."""
    listed = "\n".join(_listed({letter: options[letter] for letter in sorted(options) if options[letter]}))
    return f"{hint} {question}".strip() + f" There are several options:\n{listed}\n\n{CHOICE}"


def mmmu(question: str, options: Options = NONE, hint: str = "") -> str:
    """MMMU: options for a choice, none for an open question; `<image 1>` stays where it stands."""
    return f"{plain(question, options, hint)}\n\n{CHOICE if options else SHORT}"


def _listed(options: Options) -> list[str]:
    return [f"{letter}. {text}" for letter, text in options.items()]


STYLES: Mapping[str, Callable[[str, Options, str], str]] = {
    "none": plain, "short": short, "choice": choice, "mme": mme, "mmbench": mmbench, "mmmu": mmmu,
}  # fmt: skip
"""Style -> (question, options, hint) -> what the model is asked."""
