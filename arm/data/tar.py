"""Tar archives as streams of named byte strings: the same bytes for the same members, and nothing trusted on reading.

    write_members(path, [("a.png", b"...")])   ustar, mtime 0, owner 0, mode 0644, members in the order given
    read_members(path)                         -> ("a.png", b"..."), ...

`tarfile` needs 50 us a member each way; a shard of 40K three-part samples has 160K members, hence these 100 lines.
Nothing is ever extracted to a path of the archive: links, devices and folders are skipped, names stay plain text.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from arm.errors import IntegrityError, UserError

BLOCK = 512
MAX_MEMBER_BYTES = 1 << 28
"""A larger member is refused before it is read: 256 MiB, ours."""
MAX_NAME_BYTES = 1 << 16
END = b"\0" * (2 * BLOCK)
ZERO_BLOCK = b"\0" * BLOCK
_FIELDS = b"0000644\0" + b"0000000\0" * 2  # mode, owner, group
_TIME = b"00000000000\0"
_REST = b"0" + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167  # type, link, magic, names
_FIXED_SUM = sum(_FIELDS) + sum(_TIME) + sum(_REST) + 8 * ord(" ")


def write_members(path: Path, members: Iterable[tuple[str, bytes]]) -> int:
    """Write the members to a new archive in the order given; return their number."""
    count = 0
    with path.open("wb", buffering=1 << 20) as stream:
        for name, data in members:
            stream.write(_header(name, len(data)))
            stream.write(data)
            stream.write(b"\0" * (-len(data) % BLOCK))
            count += 1
        stream.write(END)
    return count


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of each regular file of an archive (ustar, GNU or pax); IntegrityError when it is damaged."""
    with path.open("rb", buffering=1 << 20) as stream:
        for name, length in _walk(stream, path):
            yield name, _data(stream, length, MAX_MEMBER_BYTES, path)


def list_members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset of the bytes, length) of each regular file: what `read_member` needs."""
    with path.open("rb") as stream:
        for name, length in _walk(stream, path):
            yield name, stream.tell(), length
            stream.seek(length + -length % BLOCK, os.SEEK_CUR)


def read_member(path: Path, offset: int, length: int) -> bytes:
    """The bytes of one member found by `list_members`."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return _data(stream, length, MAX_MEMBER_BYTES, path)


def _walk(stream: BinaryIO, path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each regular file, the stream at its bytes; the caller moves it past them."""
    size, name = os.fstat(stream.fileno()).st_size, ""
    while True:
        header = stream.read(BLOCK)
        if not header or header == ZERO_BLOCK:
            return
        kind, length = _checked(header, path)
        if stream.tell() + length > size:
            raise IntegrityError(f"{path} is truncated: a member of {length} bytes ends after the file.")
        if kind == b"L":
            name = _text(_data(stream, length, MAX_NAME_BYTES, path))
        elif kind == b"x":
            name = _pax_path(_data(stream, length, MAX_NAME_BYTES, path)) or name
        elif kind in (b"0", b"\0"):
            yield name or _name(header), length
            name = ""
        else:
            stream.seek(length + -length % BLOCK, os.SEEK_CUR)
            name = ""


def _header(name: str, size: int) -> bytes:
    encoded = name.encode()
    if len(encoded) > 100 or size > MAX_MEMBER_BYTES:
        raise UserError(f"The member {name!r} of {size} bytes does not fit a shard; names have at most 100 bytes.")
    length = b"%011o\0" % size
    checksum = _FIXED_SUM + sum(encoded) + sum(length)
    return b"".join((encoded.ljust(100, b"\0"), _FIELDS, length, _TIME, b"%06o\0 " % checksum, _REST))


def _checked(header: bytes, path: Path) -> tuple[bytes, int]:
    """Type and size of a member, its header's checksum verified."""
    try:
        stated = _octal(header[148:156].split(b"\0")[0])
        length = _octal(header[124:136].split(b"\0")[0] or b"0")
    except ValueError:
        raise IntegrityError(f"{path} is no tar archive, or damaged: a header field is not octal.") from None
    if len(header) != BLOCK or stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise IntegrityError(f"{path} is damaged: the checksum of a member's header is wrong.")
    return header[156:157], length


def _octal(field: bytes) -> int:
    """A number in a header; ValueError for a sign, which `int` would read: a negative size sends the reader back for ever."""
    if not field.strip(b" ").isdigit():
        raise ValueError
    return int(field, 8)


def _data(stream: BinaryIO, length: int, limit: int, path: Path) -> bytes:
    if length > limit:
        raise IntegrityError(f"{path} holds a member of {length} bytes; at most {limit} are read.")
    data = stream.read(length)
    stream.seek(-length % BLOCK, os.SEEK_CUR)
    return data


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:262] == b"ustar" else ""
    return f"{prefix}/{name}" if prefix and header[257:265] != b"ustar  \0" else name


def _pax_path(data: bytes) -> str:
    """The `path` of a pax record `<length> path=<value>\\n`, or nothing."""
    for line in data.split(b"\n"):
        _, _, entry = line.partition(b" ")
        if entry.startswith(b"path="):
            return _text(entry[5:])
    return ""


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")
