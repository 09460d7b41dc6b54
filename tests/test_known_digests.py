"""A large file is read once as long as it is the same; whatever changes it, it is read again."""

import os
from pathlib import Path

import pytest

from arm.outside import content_digest
from arm.storage import known_digests, sha256_of
from arm.storage.known_digests import SMALL_BYTES, cache_file, digests_of


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were read, with a cache of the test's own and files that count as settled at once."""
    names: list[str] = []

    def noting(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setenv("ARM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "sha256_of", noting)
    monkeypatch.setattr(known_digests, "SETTLED_NS", -1)
    return names


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "in/large"
    path.parent.mkdir()
    path.write_bytes(b"a" * SMALL_BYTES)
    return path


def test_a_file_that_stays_the_same_is_read_once_and_gives_the_same_key(large: Path, read: list[str]) -> None:
    digests = [content_digest(str(large.parent), None) for _ in range(3)]
    assert read == ["large"]
    assert len(set(digests)) == 1
    assert digests_of({"x": large}) == {"x": sha256_of(large)}
    assert [path.name for path in large.parent.iterdir()] == ["large"]


def test_other_bytes_of_the_same_size_and_the_old_time_are_read(large: Path, read: list[str]) -> None:
    before, old = digests_of({"x": large}), large.stat()
    large.write_bytes(b"b" * SMALL_BYTES)
    os.utime(large, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (large.stat().st_size, large.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert digests_of({"x": large}) == {"x": sha256_of(large)} != before
    assert read == ["large", "large"]


def test_another_file_in_its_place_is_read(large: Path, read: list[str]) -> None:
    digests_of({"x": large})
    other = large.with_name("other")
    other.write_bytes(b"c" * SMALL_BYTES)
    other.replace(large)
    assert digests_of({"x": large}) == {"x": sha256_of(large)}


def test_a_file_that_has_just_changed_is_not_noted(
    large: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digests, "SETTLED_NS", 3_600 * 10**9)
    digests_of({"x": large})
    digests_of({"x": large})
    assert read == ["large", "large"]


def test_small_files_are_read_every_time(tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "small").write_bytes(b"a")
    for _ in range(2):
        digests_of({"x": tmp_path / "small"})
    assert read == ["small", "small"]
    assert not cache_file().exists()


def test_a_damaged_cache_costs_time_alone(large: Path, read: list[str]) -> None:
    cache_file().parent.mkdir()
    cache_file().write_bytes(b"no database" * 100)
    for _ in range(2):
        assert digests_of({"x": large}) == {"x": sha256_of(large)}
    assert read == ["large", "large"]
