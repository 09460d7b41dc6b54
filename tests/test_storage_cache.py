"""The local copies of objects: bounded, continued, shared, repaired; and what sequential reading fetches."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting_proxy import CountingProxy, counting_proxy
from test_storage import moto_address, new_bucket, use_s3

from arm.errors import IntegrityError, UserError
from arm.manifest import FileEntry, Manifest
from arm.storage import Folder, cache, open_folder, s3

__all__ = ["moto_address"]
SIZE = 300_000


@pytest.fixture
def proxy(moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy]:
    with counting_proxy(moto_address) as proxy:
        use_s3(proxy.address, "key", "secret", tmp_path / "cache", monkeypatch)
        yield proxy


@pytest.fixture
def folder(proxy: CountingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Four objects of 300 kB that no cache holds."""
    folder = open_folder(new_bucket(f"cache-{abs(hash(str(tmp_path))):x}"))
    for number in range(4):
        folder.write(f"shards/{number}.arrow", content(number))
    return folder


def content(number: int) -> bytes:
    return bytes([number]) * SIZE


def entries() -> list[FileEntry]:
    import hashlib

    return [
        FileEntry(path=f"shards/{n}.arrow", bytes=SIZE, sha256=hashlib.sha256(content(n)).hexdigest()) for n in range(4)
    ]


def manifest(folder: Folder) -> Manifest:
    return Manifest(
        kind="token-shards", job="t", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=tuple(entries()), folder=folder,
    )  # fmt: skip


def copies() -> list[str]:
    return sorted(path.name for path in (s3._cache() / "files").rglob("*.arrow"))


def test_streaming_fetches_each_byte_once_and_keeps_what_fits(
    folder: Folder, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two files and a half: cold and in order, 4 × 300 kB come over the wire, and two copies stay."""
    monkeypatch.setenv("ARM_CACHE_BYTES", str(SIZE * 5 // 2))
    before, read = proxy.num_bytes, 0
    for number, path in enumerate(manifest(folder).stream(entries())):
        assert path.read_bytes() == content(number)
        read += SIZE
    assert read == 4 * SIZE
    assert 1.0 <= (proxy.num_bytes - before) / read <= 1.1
    assert copies() == ["2.arrow", "3.arrow"]


def test_a_second_reading_fetches_only_what_was_dropped(folder: Folder, proxy: CountingProxy) -> None:
    list(manifest(folder).stream(entries()))
    before = proxy.num_bytes
    list(manifest(folder).stream(entries()))
    assert proxy.num_bytes - before < SIZE // 10


def test_what_was_used_longest_ago_goes_first(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1, 2):
        path = folder.fetch(f"shards/{number}.arrow")
        folder.release(f"shards/{number}.arrow")
        os.utime(cache.etag_file(path), (number, number))
    os.utime(cache.etag_file(folder.fetch("shards/0.arrow")), (9, 9))
    folder.release("shards/0.arrow")
    monkeypatch.setenv("ARM_CACHE_BYTES", str(2 * SIZE))
    cache.make_room(s3._cache())
    assert copies() == ["0.arrow", "2.arrow"]


def test_what_a_living_process_uses_stays_and_what_a_dead_one_used_goes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.fetch("shards/0.arrow")
    fetch = f"from arm.storage import open_folder; open_folder({folder.url!r}).fetch('shards/1.arrow')"
    other = subprocess.run([sys.executable, "-c", fetch], check=False, capture_output=True, text=True)
    assert other.returncode == 0, other.stderr
    assert copies() == ["0.arrow", "1.arrow"]
    monkeypatch.setenv("ARM_CACHE_BYTES", "0")
    cache.make_room(s3._cache())
    assert copies() == ["0.arrow"]


def test_a_download_that_broke_off_is_continued(folder: Folder, proxy: CountingProxy) -> None:
    """Cut after about 200 kB: the next attempt asks for the rest alone."""
    before = proxy.num_bytes
    head = folder.size("shards/1.arrow")
    proxy.break_after = (proxy.num_bytes - before) + head * 2 // 3
    assert folder.fetch("shards/1.arrow").read_bytes() == content(1)
    assert proxy.break_after is None
    assert proxy.num_bytes - before < 1.3 * SIZE


def test_a_part_of_another_version_is_not_continued(folder: Folder) -> None:
    target = folder._cached("shards/1.arrow")  # type: ignore[attr-defined]
    target.parent.mkdir(parents=True)
    cache.part_file(target, '"another"').write_bytes(b"x" * 1000)
    assert folder.fetch("shards/1.arrow").read_bytes() == content(1)


def test_a_part_that_is_whole_already_is_taken(folder: Folder) -> None:
    etag = folder._head("shards/1.arrow")["ETag"]  # type: ignore[attr-defined]
    target = folder._cached("shards/1.arrow")  # type: ignore[attr-defined]
    target.parent.mkdir(parents=True)
    cache.part_file(target, etag).write_bytes(content(1))
    assert folder.fetch("shards/1.arrow").read_bytes() == content(1)


def test_what_is_published_stays_within_the_bound_too(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_CACHE_BYTES", str(SIZE * 3 // 2))
    for number in (5, 6, 7):
        with folder.publish(f"shards/{number}.arrow") as path:
            path.write_bytes(content(number))
    assert copies() == ["7.arrow"]


def test_what_killed_processes_left_goes_after_a_day(folder: Folder) -> None:
    path = folder.fetch("shards/1.arrow")
    for name, age in ((".tmp-old.arrow", 90_000), (".x.arrow.0.part", 90_000), (".tmp-young.arrow", 60)):
        left = path.parent / name
        left.write_bytes(b"x")
        os.utime(left, (time.time() - age,) * 2)
    os.utime(cache.etag_file(path), (0, 0))
    cache.make_room(s3._cache())
    assert sorted(found.name for found in path.parent.iterdir()) == [".1.arrow.etag", ".tmp-young.arrow", "1.arrow"]


def test_a_name_with_line_breaks_is_noted_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = (tmp_path / "files" / name for name in ("\n\n-x.arrow", "y.arrow"))
    used.parent.mkdir()
    for path in (used, unused):
        path.write_bytes(b"data")
    cache.use(tmp_path, used)
    monkeypatch.setenv("ARM_CACHE_BYTES", "0")
    cache.make_room(tmp_path)
    assert list((tmp_path / "files").iterdir()) == [used]


@pytest.mark.parametrize("url", ["s3://bucket/../../etc", "s3://../etc"])
def test_an_address_that_leaves_the_cache_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="leaves its folder"):
        open_folder(url)


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_named(folder: Folder) -> None:
    found = manifest(folder)
    path = found.local("shards/2.arrow")
    path.write_bytes(b"x" * SIZE)
    assert found.local("shards/2.arrow").read_bytes() == content(2)
    folder.write("shards/2.arrow", b"x" * SIZE)
    with pytest.raises(IntegrityError, match=r"shards/2\.arrow is altered"):
        found.local("shards/2.arrow")


def test_a_bound_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_CACHE_BYTES", "10GB")
    with pytest.raises(UserError, match="number of bytes"):
        cache.bound(tmp_path)
    monkeypatch.delenv("ARM_CACHE_BYTES")
    assert cache.bound(tmp_path) > 0
