"""Which language a caption is in, by the library lingua (offline, its n-gram models are in the wheel).

    detect_languages(["ein roter Kreis neben einem Quadrat", "red"], ("en", "de"), min_distance=0.3)  ->  ["de", "und"]

Its accurate mode: on 1,787 short English captions of the toy web it named another language for none, the low-accuracy
mode for 128. Nor does anything faster err as little (docs/log.md), so what is saved is the asking: captions that differ
in digits and punctuation alone, of which shops have many, are asked about once, and long ones by their beginning.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from arm.errors import UserError

UNDETERMINED = "und"
MAX_CHARACTERS = 500
"""A language shows in less."""
MAX_KNOWN = 200_000
"""Answers that a process remembers."""
_NO_LETTERS = re.compile(r"[\s\d!-/:-@\[-`{-~«»‹›“”„‘’–—…•·|©®™°×]+")
"""No `\\W`: it holds the vowel signs of Hindi and Thai."""


def detect_languages(captions: Sequence[str], candidates: tuple[str, ...], min_distance: float) -> list[str]:
    """ISO 639-1 code of each caption, `und` where the first guess leads the second by less than `min_distance`."""
    ask = _detector(candidates, min_distance)
    return [ask(_NO_LETTERS.sub(" ", caption[:MAX_CHARACTERS]).strip().lower()) for caption in captions]


@lru_cache(maxsize=1)
def _detector(candidates: tuple[str, ...], min_distance: float) -> Callable[[str], str]:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    known = {name: code for name in dir(IsoCode639_1) if isinstance(code := getattr(IsoCode639_1, name), IsoCode639_1)}
    unknown = [code for code in candidates if code.upper() not in known]
    if unknown:
        raise UserError(
            f"FilterConfig.candidate_languages holds {', '.join(unknown)}, which the detector does not know."
        )
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*(known[code.upper()] for code in candidates))
    detector = builder.with_minimum_relative_distance(min_distance).build()

    @lru_cache(maxsize=MAX_KNOWN)
    def ask(letters: str) -> str:
        language = detector.detect_language_of(letters)
        return language.iso_code_639_1.name.lower() if language else UNDETERMINED

    return ask
