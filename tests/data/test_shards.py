"""Image shards: same bytes, full round trip, nothing trusted."""

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.data.images import decode_image, encode_image, open_image
from arm.data.shards import read_shard, write_shard
from arm.data.tar import list_members, read_members, write_members
from arm.errors import IntegrityError, UserError
from arm.records import Sample, Text, make_uid

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
EDIT = Sample(
    uid=make_uid("a"),
    task="edit",
    parts=(encode_image(PIXELS), Text(text="make it réd", role="instruction"), encode_image(PIXELS[::-1].copy())),
    source="edits",
    licence="CC0",
    scores={"sharpness": 0.5},
    meta={"url": "http://a.test/1.png"},
)
TEXT = Sample(uid=make_uid("b"), task="text", parts=(Text(text=""),), source="text")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "s.tar", [EDIT, TEXT]) == 2
    assert list(read_shard(tmp_path / "s.tar")) == [EDIT, TEXT]
    assert (decode_image(EDIT.parts[0]) == PIXELS).all()  # type: ignore[arg-type]


def test_the_same_samples_give_the_same_bytes_and_a_standard_tar(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [EDIT])
    write_shard(tmp_path / "b.tar", [EDIT])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        infos = archive.getmembers()
    assert [i.name.removeprefix(EDIT.uid) for i in infos] == [".0.png", ".1.txt", ".2.png", ".json"]
    assert {(i.mtime, i.uid, i.mode) for i in infos} == {(0, 0, 0o644)}


def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [EDIT, TEXT])
    rows = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [row["__key__"] for row in rows] == [EDIT.uid, TEXT.uid]
    assert rows[0]["1.txt"].decode() == "make it réd"


@given(
    st.dictionaries(st.from_regex(r"[abc]([abc./]{0,180}[abc])?", fullmatch=True), st.binary(max_size=2000), max_size=5)
)
@settings(max_examples=25, deadline=None)
def test_members_of_any_python_tar_are_read(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=kind) as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with tarfile.open(path) as archive:
            expected = [(i.name, archive.extractfile(i).read()) for i in archive if i.isfile()]  # type: ignore[union-attr]
        assert list(read_members(path)) == expected


def test_links_and_folders_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("../evil")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert list(read_members(tmp_path / "x.tar")) == []


@pytest.mark.parametrize("cut", [100, 700, 1024])
def test_a_truncated_shard_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.tar"
    write_shard(path, [EDIT])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(IntegrityError, match=r"cut\.tar"):
        list(read_shard(path))


def test_an_altered_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    write_shard(path, [EDIT])
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="checksum"):
        list(read_shard(path))


@pytest.mark.parametrize("size", [b"-0000001000\0", b"+0000001000\0", b"0o000001000\0", b"\x80" + b"\0" * 9 + b"\2\0"])
def test_a_size_that_is_not_of_octal_digits_alone_is_refused(tmp_path: Path, size: bytes) -> None:
    """A negative one led back to the header of the same member, for ever; the last is GNU's of 8 GiB and more."""
    path = tmp_path / "bad.tar"
    write_members(path, [("a", b""), ("b", b"")])
    data = bytearray(path.read_bytes())
    data[512 + 124 : 512 + 136] = size
    data[512 + 148 : 512 + 156] = b" " * 8
    data[512 + 148 : 512 + 156] = b"%06o\0 " % sum(data[512:1024])
    path.write_bytes(bytes(data))
    for read in (read_members, list_members):
        with pytest.raises(IntegrityError, match="not octal"):
            list(islice(read(path), 9))


def test_foreign_members_are_refused(tmp_path: Path) -> None:
    write_members(tmp_path / "x.tar", [("../../etc/passwd", b"")])
    with pytest.raises(IntegrityError, match="unexpected member"):
        list(read_shard(tmp_path / "x.tar"))


def test_wrong_uids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wrong uid"):
        write_shard(tmp_path / "x.tar", [Sample(uid="../x", task="text", parts=(), source="s")])


def test_bytes_that_are_no_image_raise_value_error() -> None:
    with pytest.raises(ValueError, match="not_an_image"):
        open_image(b"broken")
    assert open_image(EDIT.parts[0].data).width == 5  # type: ignore[union-attr]
