"""Addresses and captions in one spelling."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm.data import normalisation
from arm.data.normalisation import BaseAddress, canonical_url, is_private_host, normalise_caption


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Garden.TEST:80/a/./b/../c.png#x", "http://garden.test/a/c.png"),
        ("https://garden.test:443", "https://garden.test/"),
        ("http://garden.test:8080/a b.png", "http://garden.test:8080/a%20b.png"),
        ("http://bücher.test/ü.png", "http://xn--bcher-kva.test/%C3%BC.png"),
        ("http://user:secret@garden.test/a.png", "http://user@garden.test/a.png"),
        ("http://garden.test/a%20b.png?q=1", "http://garden.test/a%20b.png?q=1"),
        ("http://garden.test/../../a.png", "http://garden.test/a.png"),
        ("file:///etc/passwd", None),
        ("data:image/png;base64,AAAA", None),
        ("http:///a.png", None),
        ("http://[::1", None),
        ("http://garden.test./a.png", "http://garden.test/a.png"),
        ("http://garden.test/a.png?", "http://garden.test/a.png"),
        ("http://garden.test/a.png;?x=1", "http://garden.test/a.png?x=1"),
        ("http://garden.test/;", "http://garden.test/"),
        ("https://garden.test/a.png?w=3&h=4", "https://garden.test/a.png?w=3&h=4"),
    ],
)
def test_an_address_has_one_spelling(url: str, canonical: str | None) -> None:
    assert canonical_url(url) == canonical


@given(
    st.from_regex(r"https?://[a-zA-Z0-9.]{1,20}(:[0-9]{1,4})?/[a-zA-Z0-9./%~ é]{0,30}(\?[a-z=&]{0,9})?", fullmatch=True)
)
def test_a_canonical_address_stays_as_it_is(url: str) -> None:
    once = canonical_url(url)
    assert once is None or canonical_url(once) == once


WORDS = st.lists(
    st.sampled_from(["/", "..", ".", "a", "B-c", "d.png", "?", "w=3", "&", "%20", "é", " ", ":", "#", "//", ";"])
)
BASES = st.sampled_from(
    [
        "http://a.test/", "http://a.test/p/q/x.html", "https://a.test/p//q", "http://a.test:80/p/", "http://A.test/p/x",
        "http://a.test/p/./x", "http://a.test/p?x=/y/z", "http://a.test/p;a/b", "http://a.test", "file:///etc/x", "",
    ]
)  # fmt: skip


@given(BASES, WORDS, st.sampled_from(["", "http://a.test/", "https://b.test/p/", "http:", "//b.test/"]))
def test_the_shorter_ways_give_the_same_addresses(base: str, words: list[str], start: str) -> None:
    reference = start + "".join(words)
    expected = without_shorter_ways(reference, base)
    assert BaseAddress(base).canonical(reference) == canonical_url(reference, base) == expected


def without_shorter_ways(reference: str, base: str) -> str | None:
    """What the whole of canonical_url says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalisation, "_PLAIN", re.compile("(?!)"))
        return canonical_url(reference, base)


@given(st.text(st.sampled_from("ab &é\n\x1c\u200b;¶amp~"), max_size=12))
def test_captions_that_need_no_work_are_those_that_work_leaves_alone(text: str) -> None:
    once = normalise_caption(text)
    if normalisation._PLAIN_TEXT.fullmatch(text):
        assert normalisation._SPACE.sub(" ", normalisation._CONTROL.sub("", text)).strip(" ¶") == text == once


def test_captions_lose_what_nobody_sees() -> None:
    assert normalise_caption("  A&nbsp;red\n\u200bcircle &amp; more ¶") == "A red circle & more"
    assert normalise_caption("cafe\u0301") == "café"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "[::1]", "localhost", "nas.local", "2130706433"])
def test_private_hosts_are_told(host: str) -> None:
    assert is_private_host(host)
    assert not is_private_host("garden.test:8080")
