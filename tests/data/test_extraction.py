"""Records of WARC and WAT files become pairs; a bad one costs itself alone."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arm.data.config import ExtractConfig
from arm.data.extraction import _crawl_files, extract_file, extract_pairs
from arm.data.tables import read_counts
from arm.data.warc import read_pages
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
        "kind": "alt", "attribute": "src", "position": 0, "page_url": "http://garden.test/p/", "page_title": "T", "page_language": "en",
        "charset": "utf-8", "file": "c.warc.gz", "offset": len(first),
    }  # fmt: skip
    assert counts == {
        "records_read": 3, "pages_read": 1, "skipped/status": 1, "skipped/not_html": 1, "candidates_found": 3,
        "pairs_extracted": 1, "dropped/no_caption": 1, "dropped/inline_image": 1, "documents_extracted": 1,
    }  # fmt: skip


def test_a_wat_record_gives_the_same_pair_and_records_without_images_are_not_parsed(tmp_path: Path) -> None:
    links = [{"path": "A@/href", "url": "x"}, {"path": "IMG@/src", "url": "../a.png", "alt": "A red circle"}]
    rows, counts = extracted(
        tmp_path, "c.wat.gz", metadata("http://garden.test/p/q/", links, Title="T", Base="/p/z/"),
        metadata("http://garden.test/none", []), record("metadata", "http://a.test/", b'{"IMG@/src": "path":"IMG@/src"', "application/json"),
    )  # fmt: skip
    assert [(row["url"], row["caption"]) for row in rows] == [("http://garden.test/p/a.png", "A red circle")]
    assert (counts["skipped/no_image"], counts["skipped/broken"], counts["pages_read"]) == (1, 1, 1)


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
    assert _crawl_files(ExtractConfig(paths=(pattern,)), None) == [("a/x.warc.gz", one), ("b/x.warc.gz", two)]
    with pytest.raises(UserError, match=r"name two files 'x\.warc\.gz'"):
        _crawl_files(ExtractConfig(paths=(one, two)), None)
    with pytest.raises(UserError, match=r"name the file .*/a/x\.warc\.gz twice"):
        _crawl_files(ExtractConfig(paths=(pattern, one)), None)


def test_what_is_no_archive_or_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no WARC or WAT file"):
        extracted(tmp_path, "c.warc.gz", b"<html>")
    with pytest.raises(UserError, match=r"absent\.warc\.gz"):
        extract_pairs(
            output=LocalFolder(tmp_path / "o"), config=ExtractConfig(paths=(str(tmp_path / "absent.warc.gz"),))
        )
