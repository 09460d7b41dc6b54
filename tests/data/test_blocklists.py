"""Blocklists of domains and addresses, as the University of Toulouse publishes them."""

import gzip
from pathlib import Path

import pytest

from arm.data.blocklists import blocked, compile_blocklists, load_blocklists
from arm.data.config import FilterConfig
from arm.errors import UserError
from arm.outside import content_digest
from arm.storage import LocalFolder


def listed(tmp_path: Path, files: dict[str, bytes], *categories: str) -> FilterConfig:
    for name, content in files.items():
        (tmp_path / "lists" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lists" / name).write_bytes(content)
    return FilterConfig(blocklists=str(tmp_path / "lists"), blocklist_categories=categories)


LISTS = {
    "adult/domains": "# a comment\n\nbad.test\nwww.worse.test\nmünchen.test\n".encode(),
    "ads/domains.gz": gzip.compress(b"ads.test\nbad.test\n"),
    "ads/urls": b"www.shop.test/gallery/17\n",
    "ads/usage": b"blacklist\n",
}


@pytest.mark.parametrize(
    ("url", "category"),
    [
        ("http://bad.test/a.png", "adult"),
        ("https://img.cdn.BAD.test:8080/a.png", "adult"),
        ("http://worse.test/", "adult"),
        ("http://xn--mnchen-3ya.test/a.png", "adult"),
        ("http://ads.test/a.png", "ads"),
        ("http://shop.test/gallery/17/a.png", "ads"),
        ("http://www.shop.test/gallery/17?size=1", "ads"),
        ("http://shop.test/gallery/171", ""),
        ("http://notbad.test/a.png", ""),
        ("http://bad.test.org/a.png", ""),
        ("http://[::1/a.png", ""),
    ],
)
def test_a_host_counts_with_all_below_it_and_an_address_with_all_below_it(
    tmp_path: Path, url: str, category: str
) -> None:
    config = listed(tmp_path, LISTS, "adult", "ads")
    assert compile_blocklists(config, LocalFolder(tmp_path / "work")) == {"blocklist/adult": 3, "blocklist/ads": 3}
    categories = load_blocklists(config, LocalFolder(tmp_path / "work"))
    assert blocked(categories, ["http://garden.test/", url]) == ["", category]
    assert blocked(categories, ["http://garden.test/", "http://garden.test/"], [None, url]) == ["", category]


def test_the_content_key_follows_the_lists_that_are_used(tmp_path: Path) -> None:
    config = listed(tmp_path, LISTS, "ads")
    (path,) = config.outside_paths()
    before = content_digest(path, None)
    listed(tmp_path, {"adult/domains": b"other.test\n"}, "adult")
    assert content_digest(path, None) == before
    listed(tmp_path, {"ads/urls": b"other.test/a\n"}, "ads")
    assert content_digest(path, None) != before


def test_a_category_that_is_absent_empty_or_broken_is_named(tmp_path: Path) -> None:
    work = LocalFolder(tmp_path / "work")
    with pytest.raises(UserError, match="lists/nothing"):
        compile_blocklists(listed(tmp_path, LISTS, "nothing"), work)
    with pytest.raises(UserError, match="neither `domains` nor `urls`"):
        compile_blocklists(listed(tmp_path, {"empty/usage": b"x"}, "empty"), work)
    with pytest.raises(UserError, match=r"domains\.gz cannot be read"):
        compile_blocklists(listed(tmp_path, {"broken/domains.gz": b"no gzip"}, "broken"), work)
    with pytest.raises(UserError, match="go together"):
        FilterConfig(blocklist_categories=("adult",))
    with pytest.raises(UserError, match=r"'\.\./adult'"):
        FilterConfig(blocklists="lists", blocklist_categories=("../adult",))
