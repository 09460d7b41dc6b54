"""WAT files made of whatever a crawl or an enemy may write, drawn from a seed.

    write_wat(path, random.Random(0), num_members=400)

About half of the records are plain; in the others a text, a key, a header, the JSON or the gzip member is not.
"""

import json
import zlib
from pathlib import Path
from random import Random
from typing import Any

Fields = list[tuple[str, Any]]
"""A JSON object: keys may come twice."""
WORDS = ["red", "circle", "of", "Zürich", "中文字", "Москва", "naïve", "x-y", "100%", "it's"]
PIECES = [
    *'aA \t\n\r\x0b\x0c\x1c\0\x7f\x85\xa0éé한가́ﬁÅ😀𝅗𝅥\u200b\u200d\ufeff\xad¶&"\\/}{[],:ſКกำ\u3000\u2028\ue000\u0378\uffff', "  ", "e\u0301",
    "\u1112\u1161\u11ab", "\u0915\u093c", "&amp;", "&#0;", "&#xD800;", '"IMG@/src"', '{"path":"IMG@/src",', '"Links":[', '"Base":"',
    '"Head":{', '"HTML-Metadata":{', '"Title":"', '"Headers":{', '"Content-Type":"',
]  # fmt: skip
URLS = ["a.png", "/img/a.png", "../a.png", "http://garden.test/a/b.jpg", "https://x.y.test/p?q=1", "./x/../y.gif?s=1"]
URL_PIECES = [
    "http://", "https://", "HTTP://", "a.test", "A.test", "/", "//", ".", "..", "../", "./", "/.", "/..", "a", "b.png", "?", "#", "&", "=",
    "%20", " ", "é", ";", "@", ":80", ":8080", "data:", "ftp://x/", "~", "+", "!", "(", "[", "]", "'", ",", "|", "\\", '"', "\t", "x" * 30,
    "[::1]", "?a=b", "//cdn.test/x.jpg", ".hidden", "...",
]  # fmt: skip
PAGES = [
    "http://garden.test/p/q.html", "https://a.b.test/", "http://garden.test", "http://garden.test:80/p/", "http://Garden.test/p",
    "http://garden.test/a/../b/", "http://garden.test/a//b/c", "http://garden.test/p?x=/a/./b", "https://g-1.test/x/y.php?b=[1]",
    "http://é.test/x", "ftp://garden.test/", "http://garden.test/.x/y", "http://a..b/", "",
]  # fmt: skip
TYPES = [
    "text/html; charset=utf-8", "text/html", 'x; Charset = "Shift_JIS"', "x; charset=" + "a" * 50, "charset charset=x", "charset=;charset= y",
    "charset" + " " * 9 + "=" + " " * 10 + "k", "text/html; charset=ü", "chaſcharset=ſ",
]  # fmt: skip
WOUNDS = [
    b'"', b"\\", b"}", b"{", b"\\u0041", b"\\ud83d\\ude00", b"\\ud83d", b"\\x", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80",
    b" ", b"\n", b"\0", b'"IMG@/src"', b'{"path":"IMG@/src",', b'"alt":"z",', b'"Links":[', b"}]}",
]  # fmt: skip


def write_wat(path: Path, rng: Random, num_members: int, share_broken: float = 0.0) -> None:
    """A file of that many gzip members; a share has an odd header, and as many are no single sound member."""
    start = _member(rng, _record("warcinfo", "x", b""), 0.0)
    path.write_bytes(start + b"".join(_any_member(rng, share_broken) for _ in range(num_members)))


def _any_member(rng: Random, share_broken: float) -> bytes:
    kind = rng.choice(["metadata"] * 8 + ["request", "response"])
    url = rng.choice(PAGES[:2] if rng.random() < 0.6 else PAGES)
    record = _record(kind, url, _envelope(rng, url))
    if rng.random() < share_broken:
        record = _odd_record(rng, kind, url, record)
    return _member(rng, record, share_broken)


def _record(
    kind: str, url: str, block: bytes, *, length: object = None, more: str = "", tail: bytes = b"\r\n\r\n"
) -> bytes:
    size = len(block) if length is None else length
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n{more}Content-Length: {size}\r\n\r\n"
    return head.encode() + block + tail


def _odd_record(rng: Random, kind: str, url: str, record: bytes) -> bytes:
    """A record whose header is not usual, or wrong."""
    block = record.partition(b"\r\n\r\n")[2][:-4]
    return rng.choice(
        [
            record.replace(b"WARC-Type", b"warc-type"), record.replace(b"WARC-Target", b"warc-target"), b"\r\n" + record,
            record.replace(b"WARC/1.0", b"WARC/1.1"), record.replace(b"WARC/1.0", b"WARC/9.9"), record.replace(b"\r\n", b"\n"),
            record.replace(b"http", b"ht\xff\xfe"), _record(kind, url, block, length=len(block) - 1),
            _record(kind, url, block, length=len(block) + 400), _record(kind, url, block, length=-3),
            _record(kind, url, block, length=f"+{len(block)}"), _record(kind, url, block, more="WARC-Target-URI: http://b.test/\r\n"),
            _record(kind, url, block, more="no colon\r\n"), _record(kind, url, block, more="X: a\r\n  b\r\n"),
            _record(kind, url, block, more=f"X: {'y' * 9_000}\r\n"), _record(kind, f"<{url}>", block), _record(kind, f" {url} \t", block),
            _record(kind, url, block, tail=b""), _record(kind, url, block, tail=b"\r\n" * 3), _record(kind, url, block, tail=b"junk"),
            _record("Metadata", url, block), _record("unknown", url, block),
        ]
    )  # fmt: skip


def _member(rng: Random, record: bytes, share_broken: float) -> bytes:
    """A gzip member, or, in some, what may stand in the place of one."""
    member = _gzip(rng, record)
    if rng.random() >= share_broken:
        return member
    place = rng.randrange(len(member))
    return rng.choice(
        [
            _gzip(rng, record + record), _gzip(rng, record[:place]) + _gzip(rng, record[place:]), member[:place],
            member[:place] + bytes([member[place] ^ 1 << rng.randrange(8)]) + member[place + 1 :], member + b"\0" * 8,
            member + member[-8:], member + member[-4:], member + b"\x1f\x8b\x08", member + b"\x1f\x8b\x08\0" + member, record, b"",
            _gzip(rng, b""),
        ]
    )  # fmt: skip


def _gzip(rng: Random, content: bytes) -> bytes:
    deflate = zlib.compressobj(rng.choice([0, 1, 6, 9]), zlib.DEFLATED, 31)
    member = deflate.compress(content) + deflate.flush()
    flag, field = (
        (0, b"")
        if rng.random() < 0.98
        else rng.choice([(8, b"a\0"), (4, b"\3\0abc"), (1, b""), (32, b""), (8, b"\x1f\x8b\x08\0")])
    )
    return member[:3] + bytes([flag]) + member[4:10] + field + member[10:]


def _envelope(rng: Random, url: str) -> bytes:
    """The JSON of a page, in the order of Common Crawl's keys unless it is shuffled."""
    links = [_link(rng) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 20]))]
    head: Fields = [("Metas", [[("content", _text(rng))]]), ("Title", _value(rng))]
    if rng.random() < 0.05:
        head.append(("Base", _url(rng)))
    html: Fields = [("Head", head), ("Links", links)]
    if rng.random() < 0.02:
        html.append(("Links", [_link(rng)]))
    headers: Fields = [
        ("Date", "x"),
        (rng.choice(["Content-Type", "content-type", "X-Content-Type"]), rng.choice([*TYPES, _text(rng)])),
    ]
    http: Fields = [("Response-Message", [("Status", "200")]), ("Headers", headers), ("HTML-Metadata", html)]
    offset = (
        str(rng.randrange(10**9)) if rng.random() < 0.9 else rng.choice(["9" * 18, "9" * 19, "-1", "x", "", "٣", 5])
    )
    container: Fields = [
        ("Filename", rng.choice(["x.warc.gz"] * 9 + [_text(rng)])),
        ("Compressed", True),
        ("Offset", offset),
    ]
    target: Fields = [("WARC-Target-URI", url)]
    envelope: Fields = [("WARC-Header-Metadata", target), ("Payload-Metadata", [("HTTP-Response-Metadata", http)])]
    for fields in (head, html, headers, http, container):
        if rng.random() < 0.03:
            rng.shuffle(fields)
        if rng.random() < 0.01:
            fields.pop()
    body = _written(rng, [("Container", container), ("Envelope", envelope)], rng.random() < 0.15).encode()
    return body if rng.random() < 0.94 else _wounded(rng, body)


def _link(rng: Random) -> Fields:
    if rng.random() < 0.4:
        return [
            ("path", rng.choice(["A@/href", "img@/src", "IMG@/longdesc"])),
            ("url", _url(rng)),
            ("text", _text(rng)),
        ]
    link: Fields = [("path", "IMG@/src"), ("url", _url(rng) if rng.random() < 0.98 else _value(rng))]
    for name, share in (("alt", 0.7), ("title", 0.3), ("width", 0.1), ("alt", 0.02), ("url", 0.02), ('a"b', 0.02)):
        if rng.random() < share:
            link.append((name, _value(rng)))
    if rng.random() < 0.05:
        rng.shuffle(link)
    return link


def _value(rng: Random) -> Any:
    return _text(rng) if rng.random() < 0.97 else rng.choice([None, 1, 1.5, True, [], "", ["x"]])


def _text(rng: Random) -> str:
    if rng.random() < 0.6:
        return " ".join(rng.choices(WORDS, k=rng.randrange(1, 9)))
    return "".join(rng.choices(PIECES, k=rng.randrange(8))) * rng.choice([1] * 40 + [3_000])


def _url(rng: Random) -> str:
    return rng.choice(URLS) if rng.random() < 0.4 else "".join(rng.choices(URL_PIECES, k=rng.randrange(1, 7)))


def _written(rng: Random, value: Any, ascii_only: bool) -> str:
    """JSON without spaces, for the most part; a list of pairs is an object."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        comma, colon = (",", ":") if rng.random() < 0.995 else rng.choice([(", ", ": "), (",\n", ":")])
        fields = [json.dumps(key) + colon + _written(rng, part, ascii_only) for key, part in value]
        return "{" + comma.join(fields) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(rng, part, ascii_only) for part in value) + "]"
    text = json.dumps(value, ensure_ascii=ascii_only)
    return text.replace("/", "\\/") if rng.random() < 0.1 else text


def _wounded(rng: Random, body: bytes) -> bytes:
    """With something put in, taken out or cut off, often in an image link."""
    link = body.find(b"IMG@", rng.randrange(len(body)))
    place = (
        rng.randrange(len(body)) if link < 0 or rng.random() < 0.5 else min(len(body) - 1, link + rng.randrange(120))
    )
    wound = rng.choice([*WOUNDS, None])
    return body[:place] if wound is None else body[:place] + wound + body[place + rng.choice([0, 0, 1, 10]) :]
