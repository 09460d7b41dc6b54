"""What no job made is identified by its names and bytes."""

from pathlib import Path

import pytest

from arm.errors import UserError
from arm.manifest import FileEntry, Manifest
from arm.outside import content_digest, matches, outside_files


def test_a_folder_a_file_and_a_glob_name_their_files(tmp_path: Path) -> None:
    for name in ("a/1.warc", "a/2.warc", "a/deep/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(outside_files(str(tmp_path / "a"))) == ["1.warc", "2.warc", "deep/3.txt"]
    assert list(outside_files(str(tmp_path / "a" / "1.warc"))) == ["1.warc"]
    assert list(outside_files(str(tmp_path / "a" / "*.warc"))) == ["1.warc", "2.warc"]


def test_the_digest_changes_with_bytes_and_names_but_not_with_the_place(tmp_path: Path) -> None:
    def digest(place: str, name: str, text: str) -> str:
        (tmp_path / place).mkdir()
        (tmp_path / place / name).write_text(text)
        return content_digest(str(tmp_path / place), None)

    first = digest("one", "a", "x")
    assert digest("two", "a", "x") == first
    assert digest("three", "a", "y") != first
    assert digest("four", "b", "x") != first


@pytest.mark.parametrize("path", ["absent.warc.gz", "absent/*.warc.gz"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="There is no file at"):
        content_digest(str(tmp_path / path), None)


def test_inside_an_artifact_the_manifests_checksums_count() -> None:
    files = tuple(FileEntry(path=path, bytes=1, sha256=path * 2) for path in ("crawl/a", "crawl/b", "crawlers/c"))
    world = Manifest(
        kind="world", job="", version=1, key="", config={}, inputs={}, counts={}, metrics={}, files=files
    )  # fmt: skip
    assert content_digest("crawl", world) != content_digest("crawl/a", world)
    with pytest.raises(UserError, match=r"\(world\) holds nothing at 'absent'"):
        content_digest("absent", world)


@pytest.mark.parametrize(("path", "inside"), [("crawl", True), ("crawl/", True), ("crawl/a", True), ("cra", False)])
def test_a_path_matches_itself_and_what_lies_below(path: str, inside: bool) -> None:
    assert matches("crawl/a", path) is inside
