"""WAT files as Common Crawl writes them, of real pages: request, response and metadata records 1:1:1, a gzip member each.

    files = write_wats(folder, real_pages(shared), num_responses=20_000, shares=(0.0, 0.3, 0.6, 1.0))

The pages are those of the real crawl in ../shared and of the toy site, with hosts under .test. A response without images
is the same page without its IMG links, so that the files differ in nothing else.
"""

import json
import random
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborHTMLParser, LexborNode

from arm.toy.config import WorldConfig
from arm.toy.site import build_page

HOST = "127.0.0.1:8771"
"""What the real crawl was fetched from."""
LINKS = {"a": "href", "img": "src", "area": "href", "form": "action", "iframe": "src", "embed": "src"}
TOLD = {"a": ("target", "title", "rel"), "img": ("alt", "title", "width", "height"), "form": ("method",)}
"""Attributes that a WAT repeats beside a link."""
Page = tuple[str, bytes]
"""Path and HTML."""


def real_pages(shared: Path) -> list[Page]:
    """The HTML pages of the real crawl."""
    pages = []
    with (shared / "crawl" / "skimage-gallery.warc.gz").open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            if record.http_headers.status_code == 200 and (record.http_content_type or "") == "text/html":
                pages.append((urlsplit(record.headers["WARC-Target-URI"].strip("<>")).path, record.reader.read()))
    return pages


def toy_pages(number: int, seed: int = 0) -> list[Page]:
    """Pages of the toy site."""
    config = WorldConfig(seed=seed)
    pages = (build_page(index, config) for index in range(number))
    return [(f"/pages/{page.number:04d}.html", page.html().encode()) for page in pages]


def write_wats(
    folder: Path, pages: Sequence[Page], num_responses: int, shares: Sequence[float], seed: int = 0
) -> dict[float, Path]:
    """One WAT file for each share of responses with images; the same responses stand in all of them."""
    rng = random.Random(seed)
    described = [(path, _html_metadata(html)) for path, html in pages]
    paths = {share: folder / f"images-{round(100 * share):03d}.warc.wat.gz" for share in shares}
    streams = {share: path.open("wb") for share, path in paths.items()}
    for stream in streams.values():
        stream.write(_member("warcinfo", "benchmark", b"software: benchmark\r\n", "application/warc-fields"))
    for index in range(num_responses):
        path, metadata = rng.choice(described)
        url, rank = f"https://site{rng.randrange(1000)}.test{path}?page={index}", rng.random()
        with_images, without = (_records(url, index, html) for html in (metadata, _without_images(metadata)))
        for share, stream in streams.items():
            stream.write(with_images if rank < share else without)
    for stream in streams.values():
        stream.close()
    return paths


def _records(url: str, index: int, html: dict[str, Any]) -> bytes:
    payloads = _payloads(url, html)
    return b"".join(_member("metadata", url, _envelope(url, kind, index, payloads[kind])) for kind in payloads)


def _member(kind: str, url: str, block: bytes, content: str = "application/json") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>\r\nWARC-Refers-To: <urn:uuid:"
        f"{uuid.uuid5(uuid.NAMESPACE_URL, 'of ' + url)}>\r\nContent-Type: {content}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
    return deflate.compress(head.encode() + block + b"\r\n\r\n") + deflate.flush()


def _envelope(url: str, kind: str, index: int, payload: dict[str, Any]) -> bytes:
    container = {
        "Filename": "CC-MAIN-20260101000000-20260101030000-00000.warc.gz", "Compressed": True, "Offset": str(index * 9_000),
        "Gzip-Metadata": {"Deflate-Length": "9000", "Header-Length": "10", "Footer-Length": "8", "Inflated-CRC": "1", "Inflated-Length": "40000"},
    }  # fmt: skip
    warc = {
        "WARC-Type": kind, "WARC-Date": "2026-01-01T00:00:00Z", "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, kind + url)}>",
        "Content-Length": "40000", "Content-Type": f"application/http; msgtype={kind}", "WARC-IP-Address": "192.0.2.1",
        "WARC-Target-URI": url, "WARC-Payload-Digest": "sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }  # fmt: skip
    envelope = {
        "Format": "WARC", "WARC-Header-Length": "500", "Block-Digest": "sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "Actual-Content-Length": "40000", "WARC-Header-Metadata": warc, "Payload-Metadata": payload,
    }  # fmt: skip
    document = {"Container": container, "Envelope": envelope}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _payloads(url: str, html: dict[str, Any]) -> dict[str, dict[str, Any]]:
    host = urlsplit(url).netloc
    request = {"Request-Message": {"Method": "GET", "Path": urlsplit(url).path, "Version": "HTTP/1.1"}}
    request["Headers"] = {"User-Agent": "CCBot/2.0", "Accept": "text/html", "Accept-Language": "en", "Host": host}
    headers = {
        "Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Content-Type": "text/html; charset=utf-8", "Server": "nginx",
        "Connection": "keep-alive", "Vary": "Accept-Encoding", "X-Crawler-Content-Encoding": "gzip", "Content-Length": "40000",
    }  # fmt: skip
    response = {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"}, "Headers": headers,
        "HTML-Metadata": html, "Entity-Length": "40000", "Entity-Digest": "sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }  # fmt: skip
    fields = [{"Name": "fetchTimeMs", "Value": "123"}, {"Name": "charset-detected", "Value": "UTF-8"}]
    return {
        "request": {"Actual-Content-Type": "application/http; msgtype=request", "HTTP-Request-Metadata": request},
        "response": {"Actual-Content-Type": "application/http; msgtype=response", "HTTP-Response-Metadata": response},
        "metadata": {
            "Actual-Content-Type": "application/metadata-fields",
            "WARC-Metadata-Metadata": {"Metadata-Records": fields},
        },
    }


def _html_metadata(html: bytes) -> dict[str, Any]:
    tree = LexborHTMLParser(html)
    title = tree.css_first("title")
    metas = [_attributes(node, ("name", "property", "content", "charset", "http-equiv")) for node in tree.css("meta")]
    links = [
        {"path": "LINK@/href", "url": node.attributes.get("href") or ""} | _attributes(node, ("rel", "type"))
        for node in tree.css("link")
    ]
    scripts = [
        {"path": "SCRIPT@/src", "url": node.attributes["src"] or ""}
        for node in tree.css("script")
        if "src" in node.attributes
    ]
    head = {"Metas": metas, "Title": title.text() if title else "", "Link": links, "Scripts": scripts}
    return {"Head": head, "Links": list(_links(tree))}


def _links(tree: LexborHTMLParser) -> Iterator[dict[str, str]]:
    for node in tree.body.traverse() if tree.body else ():
        attribute = LINKS.get(node.tag or "")
        if attribute and node.attributes.get(attribute):
            link = {"path": f"{node.tag.upper()}@/{attribute}", "url": node.attributes[attribute] or ""}
            link |= _attributes(node, TOLD.get(node.tag, ()))
            text = " ".join(node.text().split()) if node.tag == "a" else ""
            link = {name: value.replace(f"http://{HOST}", "https://gallery.test") for name, value in link.items()}
            yield link | ({"text": text} if text else {})


def _attributes(node: LexborNode, names: Sequence[str]) -> dict[str, str]:
    return {name: node.attributes[name] or "" for name in names if node.attributes.get(name)}


def _without_images(html: dict[str, Any]) -> dict[str, Any]:
    return html | {"Links": [link for link in html["Links"] if link["path"] != "IMG@/src"]}
