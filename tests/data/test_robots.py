"""robots.txt and opt-out headers: which rule forbids, and nothing that a site writes costs much."""

import pytest

from arm.data import robots
from arm.data.robots import Rules, RulesCache, forbidding_tag

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
    assert Rules.parse(text, "arm-platform").lines == ()


def test_rules_are_read_anew_after_a_day_and_a_failure_after_five_minutes() -> None:
    cache = RulesCache()
    cache.put("http://a.test", Rules.parse(TEXT, "a", read_at=1_000.0))
    cache.put("http://b.test", Rules.parse("", "a", origin="unreachable http_503", read_at=1_000.0))
    assert (cache.get("http://a.test", 87_400.0), cache.get("http://b.test", 1_300.0)) != (None, None)
    assert (cache.get("http://a.test", 87_401.0), cache.get("http://b.test", 1_301.0)) == (None, None)


def test_the_cache_forgets_the_sites_asked_longest_ago_when_their_rules_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(robots, "MAX_RULES", 40)  # 10 and twice its rules: a site of five counts 20
    cache, large = RulesCache(), "User-agent: *\n" + "".join(f"Disallow: /{n}\n" for n in range(5))
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
    ],
)
def test_robots_tags_count_for_everybody_or_for_us(header: str, forbidden: bool) -> None:
    assert forbidding_tag([header], AGENT) == (header if forbidden else None)
