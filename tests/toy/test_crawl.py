"""The crawl is standard WARC and WAT: other readers find in it what the site holds."""

import json
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from warcio.checker import Checker  # type: ignore[import-untyped]

from arm.data.replay import read_responses
from arm.toy.config import WorldConfig
from arm.toy.crawl import write_warc, write_wat
from arm.toy.site import Page, build_pages


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return build_pages(range(4), WorldConfig(num_pages=4, num_images=24, junk_share=1.0))


@pytest.fixture(scope="module")
def crawl(pages: list[Page], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("crawl")
    warc, wat = folder / "a.warc.gz", folder / "a.wat.gz"
    write_wat(wat, write_warc(warc, pages, "crawl.warc.gz"), "crawl.wat.gz", "crawl.warc.gz")
    return warc, wat


def _records(path: Path) -> list[tuple[WarcRecordType, dict[str, str], bytes, int]]:
    with path.open("rb") as stream:
        return [
            (record.record_type, dict(record.headers), record.reader.read(), record.stream_pos)
            for record in ArchiveIterator(stream, parse_http=False, verify_digests=True)
        ]


def test_every_answer_of_the_site_is_read_back_by_another_reader(pages: list[Page], crawl: tuple[Path, Path]) -> None:
    responses = read_responses(crawl[:1])
    for page in pages:
        for url, answer in page.answers.items():
            host, _, path = url.removeprefix("http://").partition("/")
            assert responses[host, f"/{path}"] == answer


def test_records_carry_their_digests_and_pages_come_as_request_response_metadata(
    pages: list[Page], crawl: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    records = _records(crawl[0])
    assert records[0][0] == WarcRecordType.warcinfo
    page_records = [kind for kind, headers, _, _ in records if headers.get("WARC-Target-URI") == pages[1].url]
    assert page_records == [WarcRecordType.request, WarcRecordType.response, WarcRecordType.metadata]
    checker = Checker(type("Options", (), {"inputs": [str(crawl[0]), str(crawl[1])], "verbose": False}))
    checker.process_all()
    assert checker.exit_value == 0
    assert "digest failed" not in capsys.readouterr().out


def test_the_wat_has_one_envelope_per_page_record_and_its_offsets_hold(
    pages: list[Page], crawl: tuple[Path, Path]
) -> None:
    warc = {offset: headers for _, headers, _, offset in _records(crawl[0])}
    envelopes = [json.loads(body) for kind, _, body, _ in _records(crawl[1]) if kind == WarcRecordType.metadata]
    assert len(envelopes) == 3 * len(pages)
    for envelope in envelopes:
        told = envelope["Envelope"]["WARC-Header-Metadata"]
        found = warc[int(envelope["Container"]["Offset"])]
        assert (told["WARC-Target-URI"], told["WARC-Record-ID"]) == (found["WARC-Target-URI"], found["WARC-Record-ID"])


def test_the_wat_lists_the_images_of_a_page_with_their_alt_texts(pages: list[Page], crawl: tuple[Path, Path]) -> None:
    envelopes = [
        json.loads(body)["Envelope"] for kind, _, body, _ in _records(crawl[1]) if kind == WarcRecordType.metadata
    ]
    payloads = [envelope["Payload-Metadata"].get("HTTP-Response-Metadata") for envelope in envelopes]
    html = [payload["HTML-Metadata"] for payload in payloads if payload]
    for page, metadata in zip(pages, html, strict=True):
        links = [link for link in metadata["Links"] if link["path"] == "IMG@/src"]
        shown = [picture for picture in page.pictures if picture.src is not None]
        assert [link["url"] for link in links] == [page.written(picture.src or "") for picture in shown]
        assert [link.get("alt", "") for link in links] == [picture.alt for picture in shown]
        assert metadata["Head"]["Title"] == page.title


def test_the_same_site_gives_the_same_bytes(pages: list[Page], crawl: tuple[Path, Path], tmp_path: Path) -> None:
    warc, wat = tmp_path / "other-name.gz", tmp_path / "another.gz"
    write_wat(wat, write_warc(warc, pages, "crawl.warc.gz"), "crawl.wat.gz", "crawl.warc.gz")
    assert warc.read_bytes() == crawl[0].read_bytes()
    assert wat.read_bytes() == crawl[1].read_bytes()
