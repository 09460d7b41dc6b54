"""Hash lists of an operator: which samples hold an image that nobody may have.

    hashes/part-00000.parquet      uid, source, image, url, md5, sha256, original_md5, original_sha256, pdq
                                   a row per image of every sample, dropped ones too; a row for a sample without image
    quarantine/part-00000.parquet  uid, sha256, kind, list, distance: what was hit, for the operator's report

    python -m arm.data.hash_lists store/12-curate-images lists/ --kind sha256 --output taken/

applies a list that came later to what is curated already: only the hashes are read, no image is opened. It writes
`uids.txt` and `sha256.txt`, which `arm takedown` takes, and `hits.parquet`.
"""

import argparse
import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data import pdq
from arm.data.config import HashKind, HashList
from arm.data.deduplication import equal_places
from arm.data.normalisation import canonical_url
from arm.errors import UserError
from arm.manifest import Manifest, load
from arm.outside import outside_files
from arm.storage import open_folder

HASHES = pa.schema(
    [
        ("uid", pa.string()), ("source", pa.string()), ("image", pa.int32()), ("url", pa.binary()),
        ("md5", pa.binary()), ("sha256", pa.binary()), ("original_md5", pa.binary()), ("original_sha256", pa.binary()),
        ("pdq", pa.binary()),
    ]
)  # fmt: skip
HITS = pa.schema(
    [
        ("uid", pa.string()), ("sha256", pa.string()), ("kind", pa.string()), ("list", pa.string()),
        ("distance", pa.int32()),
    ]
)  # fmt: skip
DIGEST_BYTES: dict[HashKind, int] = {"md5": 16, "sha256": 32, "pdq": 32, "url": 32}
COLUMNS: dict[HashKind, tuple[str, ...]] = {
    "md5": ("md5", "original_md5"), "sha256": ("sha256", "original_sha256"), "pdq": ("pdq",), "url": ("url",),
}  # fmt: skip
"""Columns of HASHES that a list is compared with."""
PDQ_BANDS = 16
"""Hashes at most 31 bits apart have a band of 16 bits in which at most one differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The digests of one file of a list."""

    kind: HashKind
    name: str
    digests: list[bytes]


def read_lists(lists: Iterable[HashList]) -> list[Listed]:
    """Read every file of the lists; a line that is no hash of its kind is a UserError."""
    return [
        Listed(kind=item.kind, name=name, digests=list(_digests(path, name, item.kind)))
        for item in lists
        for name, path in outside_files(item.path).items()
    ]


def hits_by_list(hashes: pa.Table, lists: Iterable[Listed], distance: int) -> list[pa.Table]:
    """Rows of HITS for the rows of HASHES that a list holds, for each list and each column that it is compared with; PDQ
    within a distance, all else exactly."""
    return [_hits(hashes, listed, column, distance) for listed in lists for column in COLUMNS[listed.kind]]


def concat_hits(found: Sequence[Sequence[pa.Table]]) -> pa.Table:
    """`hits_by_list` of tables one after the other, as one of all rows."""
    return pa.concat_tables([HITS.empty_table(), *(hits for of_list in zip(*found, strict=True) for hits in of_list)])


def near_places(hashes: pdq.Hashes, listed: pdq.Hashes, distance: int) -> NDArray[np.int64]:
    """(place, bits) of the hashes at most `distance` (up to 31) bits from a listed one; none is missed: array (P, 2)."""
    flips = [np.uint32(0), *(np.uint32(1 << bit) for bit in range(16))] if distance >= PDQ_BANDS else [np.uint32(0)]
    bits = np.full(len(hashes), 2 * pdq.BITS)
    for keys, wanted in zip(pdq.bands(hashes, PDQ_BANDS).T, pdq.bands(listed, PDQ_BANDS).T, strict=True):
        order = np.argsort(keys, kind="stable")
        for flip in flips:
            for places, entries in equal_places(keys[order], wanted ^ flip):
                np.minimum.at(bits, order[places], pdq.distances(hashes[order[places]], listed[entries]))
    near = np.flatnonzero((bits <= distance) & hashes.any(axis=1))  # a hash of noughts is of nothing
    return np.stack([near, bits[near]], axis=1)


def url_digest(url: str) -> bytes:
    """sha256 of an address in its one spelling."""
    return hashlib.sha256((canonical_url(url) or url).encode()).digest()


def apply_lists(curated: Manifest, lists: Iterable[HashList], distance: int) -> pa.Table:
    """Rows of HITS for the samples of a curated artifact, kept or dropped, by the hashes that it keeps."""
    if not curated.select("hashes/", ".parquet"):
        raise UserError(f"{curated.url} ({curated.kind}) keeps no hashes; give the output of curate-images.")
    read = read_lists(lists)
    return concat_hits([hits_by_list(table, read, distance) for table in hashes_of(curated)])


def hashes_of(curated: Manifest) -> Iterator[pa.Table]:
    """Rows of HASHES of a curated artifact, a row group after the other."""
    for path in curated.stream(curated.select("hashes/", ".parquet")):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=HASHES.names).replace_schema_metadata(None)


def main(arguments: list[str] | None = None) -> None:
    """Apply hash lists to a finished curate-images and write what must go."""
    parser = argparse.ArgumentParser(prog="python -m arm.data.hash_lists", description=main.__doc__)
    parser.add_argument("curated", help="folder of a finished curate-images")
    parser.add_argument("lists", nargs="+", help="files, folders or globs, local or under s3://")
    parser.add_argument("--kind", required=True, choices=list(DIGEST_BYTES), help="what the lines are")
    parser.add_argument("--distance", type=int, default=31, help="bits in which a PDQ hash may differ, 0 to 31")
    parser.add_argument("--output", required=True, help="folder for uids.txt, sha256.txt and hits.parquet")
    given = parser.parse_args(arguments)
    try:
        if not 0 <= given.distance <= 31:
            raise UserError(f"--distance is {given.distance}; give 0 to 31 bits.")
        lists = [HashList(kind=given.kind, path=path) for path in given.lists]
        hits = apply_lists(load(given.curated), lists, given.distance)
    except UserError as error:
        raise SystemExit(str(error)) from None
    output = open_folder(given.output)
    for name, column in (("uids.txt", "uid"), ("sha256.txt", "sha256")):
        lines = sorted(set(hits[column].drop_null().to_pylist()))
        output.write(name, "".join(f"{line}\n" for line in lines).encode())
    with output.publish("hits.parquet") as path:
        pq.write_table(hits, path)
    print(f"{len(pc.unique(hits['uid']))} samples are on the lists; their uids are in {given.output}/uids.txt.")


def _digests(path: Path, name: str, kind: HashKind) -> Iterator[bytes]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            for word in _words(line, kind):
                yield _digest(word, kind, f"{name}, line {number},")


def _words(line: str, kind: HashKind) -> list[str]:
    """What a line lists: what stands before its first comma or blank. An address may hold commas, or another column may
    follow it: it counts both ways."""
    text = line.split("#")[0] if kind != "url" or line.lstrip().startswith("#") else line
    words = text.replace(",", " ").split()[:1]
    if words and "://" in words[0] and kind == "url":
        words = list(dict.fromkeys([*words, text.split()[0]]))
    return words


def _digest(word: str, kind: HashKind, where: str) -> bytes:
    if kind == "url" and "://" in word:
        return url_digest(word)
    length = 2 * DIGEST_BYTES[kind]
    try:
        digest = bytes.fromhex(word)
    except ValueError:
        digest = b""
    if 2 * len(digest) != length:
        raise UserError(f"{where} holds {word[:80]!r}, which is no {kind} hash: give {length} hexadecimal digits.")
    return digest


def _hits(hashes: pa.Table, listed: Listed, column: str, distance: int) -> pa.Table:
    """Rows of HITS of one list and column."""
    present = hashes.filter(pc.is_valid(hashes[column]))
    if listed.kind == "pdq":
        values = pdq.from_bytes(b"".join(present[column].to_pylist()))
        places, bits = near_places(values, pdq.from_bytes(b"".join(listed.digests)), distance).T
    else:
        known = pc.is_in(present[column], pa.array(listed.digests, pa.binary()))
        places = np.flatnonzero(known.to_numpy())
        bits = np.zeros(len(places), np.int64)
    hit = present.take(pa.array(places))
    rows = zip(hit["uid"].to_pylist(), hit["sha256"].to_pylist(), bits.tolist(), strict=True)
    found = [
        {"uid": uid, "sha256": digest and digest.hex(), "kind": listed.kind, "list": listed.name, "distance": distance}
        for uid, digest, distance in rows
    ]
    return pa.Table.from_pylist(found, HITS)


if __name__ == "__main__":
    main()
