"""robots.txt and opt-out headers: which rule forbids, and nothing that a site writes costs much."""

import pytest

from arm.data import robots
from arm.data.robots import Rules, RulesCache, forbidding_tag

BLANKS = " " * 500_000
AGENT = "arm-platform/0.1 (test)"
TEXT = """
User-agent: otherbot
Disallow: /

User-agent: *
Crawl-delay: 5

User-agent: thirdbot
User-agent: ARM-platform
Disallow: /secret  # ours
Disallow: /*.gif$
Allow: /secret/but/this
"""


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/a.png", None),
        ("/secret/a.png", "Disallow: /secret"),
        ("/secret/but/this.png", None),
        ("/b/c.gif", "Disallow: /*.gif$"),
        ("/b/c.gif?d", None),
    ],
)
def test_the_longest_rule_of_our_group_decides_and_is_named(path: str, rule: str | None) -> None:
    assert Rules.parse(TEXT, "arm-platform").verdict(f"http://a.test{path}") == rule


def test_without_a_group_of_ours_everybodys_counts_and_others_never_do() -> None:
    rules = Rules.parse(TEXT, "newbot")
    assert rules.verdict("http://a.test/secret") is None
    everybody = Rules.parse(TEXT.replace("Crawl-delay: 5", "Disallow: /b"), "newbot")
    assert everybody.verdict("http://a.test/b/c") == "Disallow: /b"


def test_a_site_that_cannot_say_what_it_wants_is_left_alone_and_one_without_wishes_is_not() -> None:
    assert Rules.parse("", "a", origin="http_404").verdict("http://a.test/") is None
    unreachable = Rules.parse("", "a", origin="unreachable http_500")
    assert (unreachable.verdict("http://a.test/"), unreachable.refusal) == (
        "unreachable http_500",
        "robots_unreachable",
    )
    assert Rules.parse("", "a", origin="unreachable tls_expired").refusal == "tls_expired"


def test_the_rules_of_other_agents_are_not_kept() -> None:
    """20,000 agents times 10,000 rules would be 200 million."""
    text = "".join(f"User-agent: {n:x}\n" for n in range(20_000)) + "".join(
        f"Disallow: /{n:x}\n" for n in range(10_000)
    )
    assert Rules.parse(text, "arm-platform").num_lines == 0


@pytest.mark.parametrize(
    "line",
    [
        f"User-agent: a{BLANKS}b", f"{BLANKS}x", f"User-agent{BLANKS}x", f"User-agent:{BLANKS}", f"User-agent: #{BLANKS}b",
        f"User-agent: *\nd{'l' * 500_000}", f"User-agent: *\nd{'al' * 250_000}", f"User-agent: *\nDisallow{BLANKS}/a",
        f"User-agent: *\nDisallow{': ' * 250_000}/a", f"User-agent: *\nDisallow: /{'*a' * 250_000}$",
    ],
    ids=range(10),
)  # fmt: skip
def test_a_line_of_half_a_megabyte_costs_no_more_than_reading_it(line: str) -> None:
    """Hours, where a pattern tries every blank as the first of the last ones; Python's lock is held meanwhile."""
    rules = Rules.parse(f"{line}\nUser-agent: *\nDisallow: /b", "arm-platform")
    assert rules.verdict("http://a.test/a") is None
    assert rules.verdict("http://a.test/b") == "Disallow: /b"


def test_a_comment_of_any_length_changes_nothing() -> None:
    text = f"User-agent: *  # {BLANKS}\n#{BLANKS}x\nDisallow: /a  #{BLANKS}x"
    assert Rules.parse(text, "a").verdict("http://a.test/a") == "Disallow: /a"


@pytest.mark.parametrize("line", ["Disallow /a", "disalow: /a", "DISALLOW :/a", "  Disallow:\t/a"])
def test_a_rule_that_is_spelt_oddly_counts_and_is_named(line: str) -> None:
    assert Rules.parse(f"User-agent: *\n{line}", "a").verdict("http://a.test/a/b") == "Disallow: /a"


def test_few_rules_are_tried_for_a_name_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, forbids = list[str](), robots._forbids

    def noted(pattern: str, url: str) -> bool:
        tried.append(pattern)
        return forbids(pattern, url)

    monkeypatch.setattr(robots, "_forbids", noted)
    text = "User-agent: *\n" + "".join(f"Disallow: /*/{n:x}\n" for n in range(1_000)) + "Disallow: /a\nDisallow: /b$"
    assert Rules.parse(text, "a").verdict("http://a.test/a") == "Disallow"
    assert len(tried) == 100
    assert Rules.parse(text, "a").verdict("http://a.test/b/100") == "Disallow: /*/100"


def test_rules_are_read_anew_after_a_day_and_a_failure_after_five_minutes() -> None:
    cache = RulesCache()
    cache.put("http://a.test", Rules.parse(TEXT, "a", read_at=1_000.0))
    cache.put("http://b.test", Rules.parse("", "a", origin="unreachable http_503", read_at=1_000.0))
    assert (cache.get("http://a.test", 87_400.0), cache.get("http://b.test", 1_300.0)) != (None, None)
    assert (cache.get("http://a.test", 87_401.0), cache.get("http://b.test", 1_301.0)) == (None, None)


def test_the_cache_forgets_the_sites_asked_longest_ago_when_their_rules_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(robots, "MAX_RULES", 48)  # 10 and twice its lines: seven, one of which ends the group before
    cache, large = RulesCache(), "User-agent: *\n" + "".join(f"{kind}: /a\n" for kind in ["Allow"] * 4 + ["Disallow"])
    for site in ("a", "b", "a", "c"):
        if cache.get(site, 0.0) is None:
            cache.put(site, Rules.parse(large, "x"))
    assert [cache.get(site, 0.0) is not None for site in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    ("header", "forbidden"),
    [
        ("noai", True),
        ("noimageai, nofollow", True),
        ("nofollow", False),
        ("otherbot: noai", False),
        ("otherbot: nofollow, noai", False),
        ("arm-platform: noindex", True),
        ("max-image-preview:large, noai", True),
        ("max-snippet:-1, noindex", True),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noimageai", True),
        ("unavailable_after: Friday, 25-Jun-30 15:00:00 GMT, noimageai", True),
        ("arm-platform: unavailable_after: Fri, 25 Jun 2030 15:00:00 GMT, noai", True),
        ("arm-platform: max-snippet:-1, noai", True),
        ("otherbot: max-snippet:-1, noai", False),
        ("otherbot: nofollow, max-video-preview: 0, noai", False),
        ("otherbot: unavailable_after: Friday, 25-Jun-30 15:00:00 GMT, noai", False),
        ("otherbot: nofollow, *: noai", True),
        ("unavailable_after: noai", False),
    ],
)
def test_robots_tags_count_for_everybody_or_for_us(header: str, forbidden: bool) -> None:
    assert forbidding_tag([header], AGENT) == (header if forbidden else None)
