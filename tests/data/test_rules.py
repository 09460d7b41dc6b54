"""Rules: one reason each, the first that objects decides."""

import pytest

from arm.data.config import FilterConfig
from arm.data.language import detect_languages
from arm.data.rules import RULES, Pair, judge
from arm.errors import UserError

CONFIG = FilterConfig(
    languages=("en",), private_hosts=("127.0.0.1:8771",), max_caption_characters=60, max_caption_words=10
)


def pair(
    caption: str = "a red circle and a square", url: str = "http://garden.test/a.png", language: str = "en"
) -> Pair:
    return Pair(url=url, caption=caption, language=language)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (pair("red"), "short_caption"),
        (pair("a " * 31), "long_caption"),
        (pair("my photo-1.JPG".replace(" ", "_")), "file_name_caption"),
        (pair("IMG_20190401"), "file_name_caption"),
        (pair("http://garden.test/about"), "address_caption"),
        (pair("red circle"), "few_words"),
        (pair("a b c d e f g h i j k"), "many_words"),
        (pair("$12.99 $10.99 (-15%)"), "few_letters"),
        (pair(url="http://10.0.0.1/a.png"), "private_host"),
        (pair(url="http://me@garden.test/a.png"), "private_host"),
        (pair(url="http://garden.test/a.SVG?x=1"), "vector_image"),
        (pair(url="http://garden.test/tracking_pixel.gif"), "tracking_pixel"),
        (pair(language="de"), "language"),
    ],
)
def test_each_rule_objects_to_its_case(bad: Pair, reason: str) -> None:
    assert judge(bad, CONFIG) == reason
    assert RULES[reason](bad, CONFIG) == reason


def test_a_blocklist_speaks_first_and_names_its_category() -> None:
    assert judge(Pair(url="http://bad.test/a.png", caption="red", blocked="adult"), CONFIG) == "blocklist_adult"


@pytest.mark.parametrize(
    "good",
    [
        pair(),
        pair(language="und"),
        pair("赤い円と青い四角がある"),
        pair(url="http://127.0.0.1:8771/a.png"),
        pair(url="http://garden.test/pixel_graphs_thumb.png"),
    ],
)
def test_good_pairs_pass_every_rule(good: Pair) -> None:
    assert judge(good, CONFIG) is None


def test_languages_are_told_when_the_caption_is_long_enough() -> None:
    captions = ["ein roter Kreis neben einem blauen Quadrat", "a red circle beside a blue square in the garden", "ok"]
    assert detect_languages(captions, ("en", "de"), 0.3) == ["de", "en", "und"]


def test_captions_that_differ_in_digits_and_signs_alone_are_one_to_the_detector() -> None:
    plain, signed = "ein roter Kreis neben einem Quadrat", "Ein roter Kreis - neben einem Quadrat (12)!"
    assert detect_languages([plain, signed, "!?", ""], ("en", "de"), 0.3) == ["de", "de", "und", "und"]


def test_an_unknown_candidate_language_is_named() -> None:
    with pytest.raises(UserError, match="xx"):
        detect_languages(["a"], ("en", "xx"), 0.3)
