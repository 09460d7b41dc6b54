"""What no job made is identified by its names and bytes."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from test_storage import moto_address, new_bucket, use_s3

from arm.errors import UserError
from arm.manifest import FileEntry, Manifest
from arm.outside import content_digest, matches, outside_addresses, outside_files, refuse_links
from arm.storage import open_folder

__all__ = ["moto_address"]


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


def test_files_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    for name in ("a/x.warc.gz", "b/x.warc.gz", "b/c/x.warc.gz", "b/.hidden.warc.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    pattern = str(tmp_path / "*" / "x.warc.gz")
    assert list(outside_files(pattern)) == ["a/x.warc.gz", "b/x.warc.gz"]
    assert list(outside_files(str(tmp_path / "**" / "*.warc.gz"))) == ["a/x.warc.gz", "b/c/x.warc.gz", "b/x.warc.gz"]
    before = content_digest(pattern, None)
    (tmp_path / "a/x.warc.gz").write_text("changed")
    assert content_digest(pattern, None) != before


def test_names_that_start_with_a_dot_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    before = content_digest(str(tmp_path), None)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/downloaded").write_text("today")
    assert content_digest(str(tmp_path), None) == before


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("in", False),
        ("in/link/x.txt", False),
        ("in/link/*.txt", False),
        ("in/*/x.txt", True),
        ("in/**/x.txt", True),
        ("in/*/y.txt", False),
        ("*/*/y.txt", False),
        ("*/link/x.txt", False),
        ("in/inner/*", False),
    ],
)
def test_links_out_of_what_a_path_names_are_refused_and_those_it_names_followed(
    tmp_path: Path, path: str, is_refused: bool
) -> None:
    """in/link -> out, which holds x.txt; in/inner/y.txt -> z.txt beside it."""
    for folder in ("in/inner", "out"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("out/x.txt", "in/inner/z.txt"):
        (tmp_path / file).write_text(file)
    (tmp_path / "in/link").symlink_to("../out")
    (tmp_path / "in/inner/y.txt").symlink_to("z.txt")
    named = str(tmp_path / path)
    with pytest.raises(UserError, match="is a link out of") if is_refused else nullcontext():
        refuse_links(named, outside_addresses(named).values())


@pytest.fixture
def bucket(moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with a few objects, `crawl/...` and `crawlers/...`."""
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    address = new_bucket(f"outside-{abs(hash(str(tmp_path))):x}").removesuffix("/runs/7")
    for name in ("crawl/a/x.warc.gz", "crawl/b/x.warc.gz", "crawl/b/c/x.warc.gz", "crawl/.hidden", "crawlers/y"):
        open_folder(address).write(name, name.encode())
    return address


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("crawl", ["a/x.warc.gz", "b/c/x.warc.gz", "b/x.warc.gz"]),
        ("crawl/b/", ["c/x.warc.gz", "x.warc.gz"]),
        ("crawl/a/x.warc.gz", ["x.warc.gz"]),
        ("crawl/*/x.warc.gz", ["a/x.warc.gz", "b/x.warc.gz"]),
        ("crawl/**/x.warc.gz", ["a/x.warc.gz", "b/c/x.warc.gz", "b/x.warc.gz"]),
        ("", ["crawl/a/x.warc.gz", "crawl/b/c/x.warc.gz", "crawl/b/x.warc.gz", "crawlers/y"]),
    ],
)
def test_object_storage_is_named_as_a_disk_is(bucket: str, tmp_path: Path, path: str, names: list[str]) -> None:
    for name in open_folder(bucket).list():
        (tmp_path / "disk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "disk" / name).write_text(name)
    found = outside_files(f"{bucket}/{path}")
    assert list(found) == names
    assert all(file.read_text().endswith(name) for name, file in found.items())
    assert sorted(outside_addresses(str(tmp_path / "disk" / path))) == names


def test_the_digest_of_objects_follows_their_bytes_and_names_and_not_their_place(bucket: str) -> None:
    before = content_digest(f"{bucket}/crawl", None)
    for name in ("a/x.warc.gz", "b/x.warc.gz", "b/c/x.warc.gz"):
        open_folder(bucket).write(f"copy/{name}", f"crawl/{name}".encode())
    assert content_digest(f"{bucket}/copy", None) == before
    open_folder(bucket).write("crawl/a/x.warc.gz", b"crawl/z/x.warc.gz")
    assert content_digest(f"{bucket}/crawl", None) != before
    assert outside_files(f"{bucket}/crawl/a/x.warc.gz")["x.warc.gz"].read_text() == "crawl/z/x.warc.gz"


@pytest.mark.parametrize("path", ["absent", "crawl/*.warc.gz", "crawl/a/x.warc"])
def test_an_address_without_objects_is_one_sentence(bucket: str, path: str) -> None:
    with pytest.raises(UserError, match="There is no file at 's3://"):
        content_digest(f"{bucket}/{path}", None)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UserError, match="unknown scheme"):
        content_digest("ftp://a.test/x.warc.gz", None)


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
