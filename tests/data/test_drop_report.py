"""The report says whom a filter hits, in numbers that can be added up by hand, and shows no crawled markup."""

import pyarrow as pa

from arm.data.drop_report import render
from arm.data.slices import count_slices, slices_table


def test_rows_are_counted_by_kind_language_and_the_site_of_their_page() -> None:
    pages = ["http://www.garden.test/a?b", "https://garden.test:8080/", None]
    table = pa.table({"kind": ["alt", "alt", "title"], "language": ["en", "de", "en"], "page_url": pages, "reason": [None, "few_words", None]})  # fmt: skip
    counts = count_slices(table)
    assert counts == {
        ("kind", "alt", ""): 1, ("kind", "alt", "few_words"): 1, ("kind", "title", ""): 1,
        ("language", "en", ""): 2, ("language", "de", "few_words"): 1,
        ("site", "garden.test", ""): 1, ("site", "garden.test", "few_words"): 1, ("site", "(unknown)", ""): 1,
    }  # fmt: skip
    assert {tuple(row.values())[:3]: row["pairs"] for row in slices_table(counts).to_pylist()} == counts


def test_the_page_names_who_is_hit_harder_than_the_whole() -> None:
    slices = {
        ("language", "en", ""): 800, ("language", "en", "few_words"): 100,
        ("language", "th", "few_words"): 150, ("language", "th", ""): 150,
        ("site", "<b>|x.test", ""): 950, ("site", "<b>|x.test", "few_words"): 250,
    }  # fmt: skip
    page = render(slices, {"pairs_read": 1_200, "pairs_kept": 950, "dropped/few_words": 250})
    assert "Of 1,200 pairs 950 were kept (79.2%)." in page
    assert "| few_words | 250 | 20.8% |" in page
    assert "| en | 900 | 88.9% | few_words 11.1% |" in page
    assert "| th | few_words | 150 | 50.0% | 20.8% |" in page  # 2.4 times as often
    assert "| en | few_words" not in page
    assert "| ?b??x.test | 1,200 |" in page
    assert "<b>" not in page
