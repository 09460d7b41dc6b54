"""Records of WARC and WAT files become pairs; a bad one costs itself alone."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm.data.config import ExtractConfig
from arm.data.crawl_files import crawl_files
from arm.data.extraction import extract_file, extract_pairs
from arm.data.tables import read_counts
from arm.data.warc import Skipped, read_pages
from arm.data.wat import IMAGE_LINK, _cut, _parse
from arm.errors import UserError
from arm.records import make_uid
from arm.storage import LocalFolder

PAGE = b'<html lang="en"><title>T</title><p>words</p><img src="a.png" alt="A red  circle"><img src="b.png"><img src="data:x" alt="d"></html>'


def record(kind: str, url: str, block: bytes, content: str) -> bytes:
    """A WARC record in a gzip member of its own."""
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: {content}\r\nContent-Length: {len(block)}\r\n\r\n"
    return gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)


def response(url: str, body: bytes, status: str = "200 OK", kind: str = "text/html") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return record("response", url, head.encode() + body, "application/http; msgtype=response")


def metadata(url: str, links: list[dict[str, str]], **head: str) -> bytes:
    html = {"Head": head, "Links": links}
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": url},
        "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}},
    }
    return record(
        "metadata", url, json.dumps({"Envelope": envelope}, separators=(",", ":")).encode(), "application/json"
    )


def extracted(tmp_path: Path, name: str, *records: bytes) -> tuple[list[dict[str, object]], dict[str, int]]:
    (tmp_path / name).write_bytes(b"".join(records))
    unit = {"index": 0, "name": name, "path": str(tmp_path / name)}
    counts = extract_file(unit, str(tmp_path / "out"), ExtractConfig(paths=(name,)))
    path = tmp_path / "out/pairs/part-00000.parquet"
    assert read_counts(path) == counts
    return pq.read_table(path).to_pylist(), counts


def test_a_page_gives_its_pairs_with_uid_and_provenance(tmp_path: Path) -> None:
    first = response("http://garden.test/x", b"not found", "404 Not Found")
    rows, counts = extracted(
        tmp_path,
        "c.warc.gz",
        first,
        response("http://garden.test/p/", PAGE),
        response("http://garden.test/i", b"\x89PNG", kind="image/png"),
    )
    assert len(rows) == 1
    assert rows[0] == {
        "uid": make_uid("http://garden.test/p/a.png", "A red circle"), "url": "http://garden.test/p/a.png", "caption": "A red circle",
        "kind": "alt", "attribute": "src", "position": 0, "surrounding_text": "words", "page_url": "http://garden.test/p/", "page_title": "T", "page_language": "en",
        "charset": "utf-8", "warc": "c.warc.gz", "warc_offset": len(first), "file": "c.warc.gz", "offset": len(first),
    }  # fmt: skip
    assert counts == {
        "records_read": 3, "pages_read": 1, "skipped/status": 1, "skipped/not_html": 1, "candidates_found": 3,
        "pairs_extracted": 1, "dropped/no_caption": 1, "dropped/inline_image": 1, "documents_found": 1,
        "documents_extracted": 0, "documents_dropped/few_words": 1,
    }  # fmt: skip


def test_a_wat_record_gives_the_same_pair_and_records_without_images_are_not_parsed(tmp_path: Path) -> None:
    links = [{"path": "A@/href", "url": "x"}, {"path": "IMG@/src", "url": "../a.png", "alt": "A red circle"}]
    rows, counts = extracted(
        tmp_path, "c.wat.gz", metadata("http://garden.test/p/q/", links, Title="T", Base="/p/z/"),
        metadata("http://garden.test/none", []), record("metadata", "http://a.test/", b'{"IMG@/src": "path":"IMG@/src"', "application/json"),
    )  # fmt: skip
    assert [(row["url"], row["caption"]) for row in rows] == [("http://garden.test/p/a.png", "A red circle")]
    assert (counts["skipped/no_image"], counts["skipped/broken"], counts["pages_read"]) == (1, 1, 1)


def test_what_had_a_caption_and_is_no_pair_stands_in_the_table_of_the_dropped(tmp_path: Path) -> None:
    links = [
        {"path": "IMG@/src", "url": "data:x", "alt": "inline"}, {"path": "IMG@/src", "url": "ftp://a.test/x", "alt": "other scheme"},
        {"path": "IMG@/src", "url": "/" + "x" * 3000, "alt": "long"}, {"path": "IMG@/src", "url": "a.png", "alt": " \u200b"},
        {"path": "IMG@/src", "url": "a.png"}, {"path": "IMG@/src", "url": "a.png", "alt": "brace } quote \" {\"path\":\"IMG@/src\","},
    ]  # fmt: skip
    broken = record("metadata", "http://b.test/", b'{"IMG@/src"', "application/json")
    rows, counts = extracted(tmp_path, "c.wat.gz", metadata("http://a.test/", links), broken)
    assert [row["caption"] for row in rows] == [links[5]["alt"]]
    dropped = pq.read_table(tmp_path / "out/dropped/part-00000.parquet").to_pylist()
    assert [(row["reason"], row["caption"], row["page_url"]) for row in dropped] == [
        ("inline_image", "inline", "http://a.test/"), ("bad_url", "other scheme", "http://a.test/"),
        ("long_url", "long", "http://a.test/"), ("no_caption", " \u200b", "http://a.test/"), ("broken", None, "http://b.test/"),
    ]  # fmt: skip
    assert (counts["candidates_found"], counts["pairs_extracted"], counts["dropped/no_caption"]) == (6, 1, 2)


JSON_TEXT = st.lists(
    st.sampled_from([*'ab"\\{}[],:é', '"Links":[', '{"path":"IMG@/src",', '"Base":"', '"IMG@/src"']), max_size=8
).map("".join)


@given(JSON_TEXT, JSON_TEXT, JSON_TEXT, st.booleans())
def test_fields_cut_out_of_the_bytes_are_those_of_the_whole_record(
    url: str, alt: str, title: str, has_base: bool
) -> None:
    links = [{"path": "A@/href", "url": alt, "text": title}, {"path": "IMG@/src", "url": url, "alt": alt}]
    head = {"Metas": [{"content": title}], "Title": title} | ({"Base": url} if has_base else {})
    http = {
        "Headers": {"Content-Type": title, "Base": alt},
        "HTML-Metadata": {"Head": head, "Links": [*links, links[1]]},
    }
    container = {"Filename": "x.warc.gz", "Compressed": True, "Offset": "512", "Gzip-Metadata": {"Deflate-Length": "1"}}
    envelope = {"WARC-Header-Metadata": {}, "Payload-Metadata": {"HTTP-Response-Metadata": http}}
    document = {"Container": container, "Envelope": envelope}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    whole, cut = _parse(body), _cut(body, body.count(IMAGE_LINK))
    assert whole is not None
    for image in whole.images:
        del image["path"]  # asked for already
    assert cut is None or cut == whole
    assert cut is not None or set('{}"') & set(url + alt) or IMAGE_LINK.decode() in json.dumps([url, alt, title])


def test_a_page_that_no_parser_survives_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arm.data.warc.PARSE_SECONDS", 0)
    good, bad = response("http://a.test/", PAGE), response("http://b.test/", b"<div>" * 100_000)
    (tmp_path / "c.warc.gz").write_bytes(good + bad + good)
    counts: Counter[str] = Counter()
    pages = [page for _, page in read_pages(tmp_path / "c.warc.gz", ExtractConfig(paths=("c",)), counts)]
    assert pages[1] == Skipped("http://b.test/", "unparsable")
    assert (counts["pages_read"], counts["skipped/unparsable"]) == (2, 1)


def test_a_damaged_member_costs_itself_alone(tmp_path: Path) -> None:
    good, bad = response("http://garden.test/p/", PAGE), bytearray(response("http://garden.test/q/", PAGE * 20))
    bad[40:80] = b"\0" * 40
    (tmp_path / "c.warc.gz").write_bytes(good + bytes(bad) + good)
    counts: Counter[str] = Counter()
    pages = list(read_pages(tmp_path / "c.warc.gz", ExtractConfig(paths=("c",)), counts))
    assert [offset for offset, _ in pages] == [0, len(good) + len(bad)]
    assert counts["members_damaged"] >= 1


def test_crawl_files_of_one_name_are_two_under_their_common_folder_and_refused_one_by_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.warc.gz").write_bytes(response(f"http://{name}.test/", PAGE))
    one, two = (str(tmp_path / name / "x.warc.gz") for name in ("a", "b"))
    pattern = str(tmp_path / "*" / "x.warc.gz")
    found = [(file.name, file.address) for file in crawl_files(ExtractConfig(paths=(pattern,)), None)]
    assert found == [("a/x.warc.gz", one), ("b/x.warc.gz", two)]
    with pytest.raises(UserError, match=r"name two files 'x\.warc\.gz'"):
        crawl_files(ExtractConfig(paths=(one, two)), None)
    with pytest.raises(UserError, match=r"name the file .*/a/x\.warc\.gz twice"):
        crawl_files(ExtractConfig(paths=(pattern, one)), None)


def test_what_is_no_archive_or_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no WARC or WAT file"):
        extracted(tmp_path, "c.warc.gz", b"<html>")
    with pytest.raises(UserError, match=r"absent\.warc\.gz"):
        extract_pairs(
            output=LocalFolder(tmp_path / "o"), config=ExtractConfig(paths=(str(tmp_path / "absent.warc.gz"),))
        )
