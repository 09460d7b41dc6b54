"""The toy web's crawl in the standard formats: WARC 1.0 and Common Crawl's WAT, one gzip member a record.

    crawl.warc.gz   warcinfo; for a page request, response, metadata; for anything else its response
    crawl.wat.gz    warcinfo; for each record of a page one metadata record: a JSON envelope,
                    Envelope.Payload-Metadata.HTTP-Response-Metadata.HTML-Metadata.Links
                    = [{"path": "IMG@/src", "url": "/images/00001.png", "alt": "a red circle"}, …]

Dates are fixed and record ids are hashes of what they name: the same site gives the same bytes.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from warcio.statusandheaders import StatusAndHeaders  # type: ignore[import-untyped]
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]

from arm.data.replay import Response
from arm.toy.site import Page

DATE = "2026-01-01T00:00:00Z"
SOFTWARE = "arm toy world"
NAMESPACE = uuid.UUID("b4b1a1f0-6f0e-5d0c-9b7e-2a7c1f6f3a10")
FETCH_MILLISECONDS = b"fetchTimeMs: 12\r\ncharset-detected: UTF-8\r\n"


@dataclass(frozen=True, slots=True)
class Written:
    """A record of a page as the WAT describes it."""

    page: Page
    kind: str
    offset: int
    length: int


def write_warc(path: Path, pages: Sequence[Page], name: str) -> list[Written]:
    """Write every answer of the pages; return where the records of the pages themselves lie."""
    written: list[Written] = []
    done: set[str] = set()
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True, warc_version="1.0")
        writer.write_record(_info(writer, name))
        for page in pages:
            _write_page(writer, stream, page, written)
            for url, response in page.answers.items():
                if url != page.url and url not in done:
                    done.add(url)
                    writer.write_record(_response(writer, url, response))
    return written


def write_wat(path: Path, written: Sequence[Written], name: str, warc_name: str) -> None:
    """Write the WAT of the pages' records."""
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True, warc_version="1.0")
        writer.write_record(_info(writer, name))
        for record in written:
            text = json.dumps(envelope(record, warc_name), ensure_ascii=False, separators=(",", ":")).encode()
            headers = _headers(record.page.url, f"wat/{record.kind}")
            headers["WARC-Refers-To"] = _record_id(record.page.url, record.kind)
            writer.write_record(_record(writer, record.page.url, "metadata", text, "application/json", headers))


def envelope(record: Written, warc_name: str) -> dict[str, Any]:
    """The WAT's JSON of one record, with the keys that Common Crawl writes."""
    page, payload = record.page, _PAYLOADS[record.kind](record.page)
    return {
        "Container": {
            "Filename": warc_name,
            "Compressed": True,
            "Offset": str(record.offset),
            "Gzip-Metadata": {"Deflate-Length": str(record.length), "Header-Length": "10", "Footer-Length": "8"},
        },
        "Envelope": {
            "Format": "WARC",
            "WARC-Header-Metadata": {
                "WARC-Type": record.kind,
                "WARC-Target-URI": page.url,
                "WARC-Date": DATE,
                "WARC-Record-ID": _record_id(page.url, record.kind),
            },
            "Payload-Metadata": payload,
        },
    }


def _write_page(writer: WARCWriter, stream: BinaryIO, page: Page, written: list[Written]) -> None:
    address = urlsplit(page.url)
    request = StatusAndHeaders(
        f"GET {address.path} HTTP/1.1", [("Host", address.netloc), ("User-Agent", SOFTWARE)], is_http_request=True
    )
    records = (
        ("request", _record(writer, page.url, "request", b"", None, _headers(page.url, "request"), request)),
        ("response", _response(writer, page.url, page.answers[page.url])),
        (
            "metadata",
            _record(
                writer,
                page.url,
                "metadata",
                FETCH_MILLISECONDS,
                "application/warc-fields",
                _headers(page.url, "metadata"),
            ),
        ),
    )
    for kind, record in records:
        start = stream.tell()
        writer.write_record(record)
        written.append(Written(page, kind, start, stream.tell() - start))


def _response(writer: WARCWriter, url: str, response: Response) -> Any:
    headers = [*response.headers, ("Content-Length", str(len(response.body)))]
    http = StatusAndHeaders(f"{response.status} {response.reason}", headers, protocol="HTTP/1.1")
    return _record(writer, url, "response", response.body, None, _headers(url, "response"), http)


def _record(
    writer: WARCWriter,
    url: str,
    kind: str,
    body: bytes,
    content_type: str | None,
    headers: dict[str, str],
    http: Any = None,
) -> Any:
    return writer.create_warc_record(
        url, kind, payload=io.BytesIO(body), length=len(body), http_headers=http,
        warc_content_type=content_type or "", warc_headers_dict=headers,
    )  # fmt: skip


def _info(writer: WARCWriter, name: str) -> Any:
    record = writer.create_warcinfo_record(name, {"software": SOFTWARE, "format": "WARC File Format 1.0"})
    record.rec_headers.replace_header("WARC-Date", DATE)
    record.rec_headers.replace_header("WARC-Record-ID", _record_id(name, "warcinfo"))
    return record


def _headers(url: str, kind: str) -> dict[str, str]:
    return {"WARC-Date": DATE, "WARC-Record-ID": _record_id(url, kind)}


def _record_id(url: str, kind: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(NAMESPACE, f'{kind} {url}')}>"


def _request_payload(page: Page) -> dict[str, Any]:
    address = urlsplit(page.url)
    return {
        "Actual-Content-Type": "application/http; msgtype=request",
        "HTTP-Request-Metadata": {
            "Request-Message": {"Method": "GET", "Path": address.path, "Version": "HTTP/1.1"},
            "Headers": {"Host": address.netloc, "User-Agent": SOFTWARE},
        },
    }


def _response_payload(page: Page) -> dict[str, Any]:
    response = page.answers[page.url]
    headers = dict(response.headers) | {"Content-Length": str(len(response.body))}
    return {
        "Actual-Content-Type": "application/http; msgtype=response",
        "HTTP-Response-Metadata": {
            "Response-Message": {"Status": str(response.status), "Version": "HTTP/1.1", "Reason": response.reason},
            "Headers": headers,
            "Entity-Length": str(len(response.body)),
            "Entity-Digest": f"sha1:{hashlib.sha1(response.body).hexdigest()}",
            "HTML-Metadata": _html_metadata(page),
        },
    }


def _metadata_payload(page: Page) -> dict[str, Any]:
    return {
        "Actual-Content-Type": "application/metadata-fields",
        "WARC-Metadata-Metadata": {"Metadata-Records": [{"Name": "fetchTimeMs", "Value": "12"}]},
    }


_PAYLOADS = {"request": _request_payload, "response": _response_payload, "metadata": _metadata_payload}


def _html_metadata(page: Page) -> dict[str, Any]:
    metas = [{"property": "og:title", "content": page.title}]
    if page.og_image:
        metas += [
            {"property": "og:image", "content": page.og_image},
            {"property": "og:image:alt", "content": page.og_alt},
        ]
    links: list[dict[str, str]] = [
        {"path": "IMG@/src", "url": page.written(picture.src)} | ({"alt": picture.alt} if picture.alt else {})
        for picture in page.pictures
        if picture.src is not None
    ]
    links.append({"path": "A@/href", "url": page.next_page, "text": "next page"})
    head = {
        "Title": page.title,
        "Metas": metas,
        "Link": [{"path": "LINK@/href", "url": "/style.css", "rel": "stylesheet"}],
    }
    return {"Head": head, "Links": links}
