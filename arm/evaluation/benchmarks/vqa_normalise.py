"""How VQA normalises answers before it compares them (github.com/GT-Vision-Lab/VQA, vqaEval.py; BSD-2-Clause, written anew).

"Two cats."      2 cats         number words are digits, articles go, a period goes unless a digit follows
"dont know"      don't know     a contraction gets its apostrophe
"none"           0              official quirk
"a.b.c" × 20     …              official quirk: only the first 32 periods go
"""

import re
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
PERIOD = re.compile(r"\.(?!\d)")
THOUSANDS = re.compile(r"\d,\d")
CACHED = 1 << 17
"""Answers that are remembered: of the two million of VQAv2 most are yes, no and a few thousand words."""
MAX_PERIODS = 32
"""The program passes a flag (re.UNICODE, 32) where `sub` takes a count."""
SPELLED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
    how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
    oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
    y'all'd've you'd you'd've you'll you're you've
    """
"""Contractions spelled right, separated by blanks."""


def without_one_apostrophe(word: str) -> list[str]:
    """couldn't've -> couldnt've, couldn'tve"""
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {wrong: word for word in SPELLED.split() for wrong in without_one_apostrophe(word)} | {
    "somebody'd": "somebodyd"
}
"""A contraction that lacks one apostrophe -> spelled right; `somebody'd` goes the wrong way in the official table."""


def trim(answer: str) -> str:
    """Line ends and tabs as blanks, none at the ends."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(answer: str, max_periods: int = MAX_PERIODS) -> str:
    """A mark beside a blank goes, and every mark where the answer has a number like 1,000; else it becomes a blank."""
    joined = THOUSANDS.search(answer) is not None
    text = answer
    for mark in PUNCTUATION:
        beside = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside or joined else " ")
    return PERIOD.sub("", text, count=max_periods)


def strip_articles(answer: str, numbers: dict[str, str] = NUMBERS) -> str:
    """Lower case, digits for number words, no articles, contractions spelled right."""
    words = [numbers.get(word, word) for word in answer.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=CACHED)
def normalise(answer: str) -> str:
    """As the official program does where annotators differ."""
    return strip_articles(strip_punctuation(answer))


@lru_cache(maxsize=CACHED)
def normalise_corrected(answer: str) -> str:
    """Every period goes, and `none` stays a word."""
    numbers = {word: digit for word, digit in NUMBERS.items() if word != "none"}
    return strip_articles(strip_punctuation(answer, max_periods=0), numbers)
