"""WAT files read by the compiled loop give what the plain reader gives: the same rows, drops and counts, in one order."""

import gzip
import random
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_extraction import metadata, record
from wat_records import write_wat

from arm.data import wat_tables
from arm.data.config import ExtractConfig
from arm.data.html import Page
from arm.data.normalisation import normalise_caption
from arm.data.pairs import PairRows, Place
from arm.data.warc import read_pages
from arm.data.wat_kernels import members
from arm.data.wat_kernels.texts import calm_letters
from arm.errors import UserError

Result = tuple[pa.Table, pa.Table, dict[str, int]]
LINKS = [{"path": "IMG@/src", "url": "a.png", "alt": "A red circle"}]


def plain(path: Path, config: ExtractConfig) -> Result:
    """Pairs, dropped and counts of the reader that parses record by record."""
    counts: Counter[str] = Counter()
    rows = PairRows(config, counts)
    for offset, read in read_pages(path, config, counts):
        place = Place(path.name, offset)
        if isinstance(read, Page):
            rows.add(read, place)
        else:
            rows.note(read.url, read.reason, place)
    return *rows.take(), dict(+counts)


def compiled(path: Path, config: ExtractConfig) -> Result:
    counts: Counter[str] = Counter()
    pairs, dropped = zip(*wat_tables.wat_tables(path, path.name, config, counts), strict=True)
    return pa.concat_tables(pairs).combine_chunks(), pa.concat_tables(dropped).combine_chunks(), dict(+counts)


def check(path: Path, config: ExtractConfig) -> Result:
    """Both ways agree, and the columns are sound."""
    one, other = plain(path, config), compiled(path, config)
    for mine, theirs in zip(other[:2], one[:2], strict=True):
        mine.validate(full=True)
        assert mine.to_pylist() == theirs.to_pylist()
        assert mine.schema == theirs.schema
    assert other[2] == one[2]
    return other


@pytest.mark.parametrize("seed", range(4))
def test_records_of_every_form_give_the_same_rows_drops_and_counts(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    alone = Counter[str]()
    read_alone = wat_tables._read_alone
    monkeypatch.setattr(wat_tables, "_read_alone", lambda *given: (alone.update(["record"]), read_alone(*given))[1])
    write_wat(tmp_path / "c.wat.gz", rng, 600)
    _, dropped, counts = check(tmp_path / "c.wat.gz", ExtractConfig(paths=("c",)))
    assert counts["pairs_extracted"] > 200
    assert dropped.num_rows > 50
    assert 20 < alone["record"] < 300  # both ways were gone


@pytest.mark.parametrize("seed", range(8))
def test_damaged_members_limits_and_small_buffers_change_nothing_between_the_two(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(members, "CHUNK_BYTES", rng.choice([1 << 16, 4 << 20]))
    monkeypatch.setattr(members, "BATCH_BYTES", rng.choice([1, 1 << 14]))
    config = ExtractConfig(
        paths=("c",), max_images_per_page=rng.choice([5, 1_000]), max_caption_characters=rng.choice([20, 10_000]),
        max_url_characters=rng.choice([30, 2_000]), max_record_bytes=rng.choice([3_000, 20_000_000]),
    )  # fmt: skip
    write_wat(tmp_path / "c.wat.gz", rng, 150, share_broken=0.02)
    check(tmp_path / "c.wat.gz", config)


def test_a_member_damaged_far_behind_its_start_costs_itself_alone(tmp_path: Path) -> None:
    good = metadata("http://a.test/", LINKS)
    noise = random.Random(0).randbytes(400_000).hex()
    bad = bytearray(metadata("http://b.test/", [*LINKS, {"path": "A@/href", "url": noise}]))
    bad[-8] ^= 1
    (tmp_path / "c.wat.gz").write_bytes(good + bytes(bad) + good)
    pairs, dropped, counts = check(tmp_path / "c.wat.gz", ExtractConfig(paths=("c",)))
    assert pairs["offset"].to_pylist() == [0, len(good) + len(bad)]
    assert [(row["reason"], row["page_url"]) for row in dropped.to_pylist()] == [("broken", "http://b.test/")]
    assert (counts["pages_read"], counts["skipped/broken"], counts["members_damaged"] >= 1) == (2, 1, True)


@pytest.mark.parametrize("wrong", ['"Offset":"9223372036854775808"', f'"Filename":"{"x" * 2_001}","Offset":"0"'])
def test_an_offset_or_a_name_that_no_file_has_costs_its_record_alone(wrong: str, tmp_path: Path) -> None:
    good = metadata("http://a.test/", LINKS)
    bad = gzip.decompress(good).replace(b'{"Envelope"', b'{"Container":{%s},"Envelope"' % wrong.encode())
    body = bad.partition(b"\r\n\r\n")[2][:-4]
    (tmp_path / "c.wat.gz").write_bytes(record("metadata", "http://b.test/", body, "application/json") + good)
    pairs, _, counts = check(tmp_path / "c.wat.gz", ExtractConfig(paths=("c",)))
    assert (pairs["page_url"].to_pylist(), counts["skipped/broken"]) == (["http://a.test/"], 1)


def test_a_member_that_inflates_to_more_than_a_record_may_hold_is_not_kept_in_memory(tmp_path: Path) -> None:
    good, bomb = metadata("http://a.test/", LINKS), record("metadata", "http://b.test/", b" " * (64 << 20), "x")
    (tmp_path / "c.wat.gz").write_bytes(good + bomb + good)
    config = ExtractConfig(paths=("c",), max_record_bytes=1 << 20)
    reader = members.Members(tmp_path / "c.wat.gz", config.max_record_bytes)
    assert [len(batch.members) for batch in reader.batches()] == [1]
    assert reader.stopped
    pairs, _, counts = check(tmp_path / "c.wat.gz", config)
    assert (pairs.num_rows, counts["skipped/too_long"]) == (2, 1)


def test_a_file_that_is_not_compressed_is_read_too_and_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    content = gzip.decompress(metadata("http://a.test/", LINKS) + metadata("http://b.test/", LINKS))
    (tmp_path / "c.wat").write_bytes(content)
    assert check(tmp_path / "c.wat", ExtractConfig(paths=("c",)))[0].num_rows == 2
    (tmp_path / "c.wat").write_bytes(b"<html>")
    with pytest.raises(UserError, match="no WARC or WAT file"):
        compiled(tmp_path / "c.wat", ExtractConfig(paths=("c",)))


def test_a_mark_inside_a_member_and_a_size_that_stands_in_it_twice_are_read_by_zlib(tmp_path: Path) -> None:
    def stored(content: bytes) -> bytes:
        deflate = zlib.compressobj(0, zlib.DEFLATED, 31)
        return deflate.compress(content) + deflate.flush()

    texts = [b"a\x1f\x8b\x08\0\0\0\0\0\0\xffb" * 50, (18).to_bytes(4, "little") + b"eighteen bytes", b"plain"]
    (tmp_path / "c.gz").write_bytes(b"".join(stored(text) for text in texts))
    reader = members.Members(tmp_path / "c.gz", 10_000)
    read = [batch.data[start:end].tobytes() for batch in reader.batches() for start, end, _ in batch.members]
    assert (read, reader.stopped) == (texts, False)


def test_letters_that_stand_as_they_are_change_nothing_beside_any_other() -> None:
    calm = [chr(code) for code in np.flatnonzero(calm_letters()).tolist()]
    assert {"é", "中", "한", "я", "ß"} <= set(calm)
    assert not {"\u0301", "\u11ab", "\u200b", "\xa0", "¶", "\u2126", "\ufeff", "\x85"} & set(calm)
    rng = random.Random(0)
    for _ in range(3_000):
        text = "".join(rng.choices(calm, k=8)) + rng.choice("aeo") + "".join(rng.choices(calm, k=3))
        assert normalise_caption(text) == text
    composing = {
        int(parts.split()[1], 16)
        for code in range(0x110000)
        if " " in (parts := unicodedata.decomposition(chr(code))) and "<" not in parts
    }
    assert not {chr(code) for code in composing} & set(calm)
