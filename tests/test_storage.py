"""One contract for every folder: local, S3 against moto in this process, S3 against OpenStack Swift (slow)."""

import datetime
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from arm.errors import ServiceError, UserError
from arm.storage import Folder, LocalFolder, copy_file, is_private, open_folder, sha256_of

MEBIBYTE = 1 << 20


def use_s3(address: str, key: str, secret: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point this process at an S3 server and give it a cache of its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("ARM_CACHE_DIR", str(cache))


def new_bucket(name: str) -> str:
    from arm.storage import s3

    s3._client().create_bucket(Bucket=name)
    return f"s3://{name}/runs/7"


@pytest.fixture(scope="session")
def moto_address() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def swift_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """OpenStack Swift on a free port; it ends when its stdin does."""
    pytest.importorskip("swift", reason="OpenStack Swift is not installed: pip install -e .[dev]")
    folder = tmp_path_factory.mktemp("swift")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("swift_server.py")), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.fixture(params=["local", "moto", pytest.param("swift", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty folder of each kind."""
    if request.param == "local":
        return LocalFolder(tmp_path / "store")
    bucket = f"bucket-{abs(hash(str(tmp_path))):x}"
    if request.param == "moto":
        use_s3(request.getfixturevalue("moto_address"), "key", "secret", tmp_path / "cache", monkeypatch)
    else:
        use_s3(request.getfixturevalue("swift_address"), "test:tester", "testing", tmp_path / "cache", monkeypatch)
    return open_folder(new_bucket(bucket))


def test_what_is_written_is_read_back(folder: Folder) -> None:
    folder.write("a/b.txt", b"one")
    assert folder.read("a/b.txt") == b"one"
    assert folder.size("a/b.txt") == 3
    folder.write("a/b.txt", b"three")
    assert folder.read("a/b.txt") == b"three"
    assert folder.fetch("a/b.txt").read_bytes() == b"three"


def test_a_range_is_read_alone_and_ends_where_the_file_ends(folder: Folder) -> None:
    folder.write("x", b"0123456789")
    assert folder.read_range("x", 2, 3) == b"234"
    assert folder.read_range("x", 8, 5) == b"89"
    assert folder.read_range("x", 10, 5) == b""
    assert folder.read_range("x", 3, 0) == b""
    with pytest.raises(FileNotFoundError):
        folder.read_range("nothing", 0, 1)


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.write("empty", b"")
    assert folder.exists("empty")
    assert folder.size("empty") == 0
    assert folder.fetch("empty").read_bytes() == b""


@pytest.mark.parametrize("method", ["read", "size", "fetch"])
def test_a_missing_file_is_not_found(folder: Folder, method: str) -> None:
    assert not folder.exists("nothing")
    with pytest.raises(FileNotFoundError):
        getattr(folder, method)("nothing")


def test_deleting_twice_is_no_error(folder: Folder) -> None:
    folder.write("x", b"1")
    folder.delete("x")
    folder.delete("x")
    assert not folder.exists("x")


def test_names_are_listed_sorted_without_private_ones(folder: Folder) -> None:
    for name in ("b/2.tar", "b/1.tar", "a.json", ".hidden/x", "b/.tmp-1"):
        folder.write(name, b"x")
    assert folder.list() == ["a.json", "b/1.tar", "b/2.tar"]
    assert folder.list("b/") == ["b/1.tar", "b/2.tar"]
    assert folder.list("c/") == []


def test_the_first_writer_wins_when_only_one_may(folder: Folder) -> None:
    assert folder.write_if_absent("manifest.json", b"first")
    assert not folder.write_if_absent("manifest.json", b"second")
    assert folder.read("manifest.json") == b"first"


def test_a_published_file_appears_at_the_end_only(folder: Folder) -> None:
    with folder.publish("shards/0.tar") as path:
        path.write_bytes(b"half")
        assert not folder.exists("shards/0.tar")
        path.write_bytes(b"whole")
    assert folder.read("shards/0.tar") == b"whole"
    assert folder.list() == ["shards/0.tar"]


def test_a_writer_that_fails_leaves_nothing(folder: Folder) -> None:
    def fail_half_way() -> None:
        with folder.publish("shards/0.tar") as path:
            path.write_bytes(b"half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert not folder.exists("shards/0.tar")
    assert folder.list() == []


def test_a_child_lies_below(folder: Folder) -> None:
    folder.child("05").write("x", b"1")
    assert folder.read("05/x") == b"1"
    assert folder.child("05").url == f"{folder.url}/05"
    assert open_folder(folder.child("05").url).read("x") == b"1"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_a_name_cannot_leave_the_folder(folder: Folder, name: str) -> None:
    with pytest.raises(UserError, match="leaves its folder"):
        folder.write(name, b"x")


def test_scratch_is_private_and_discarded(folder: Folder) -> None:
    (folder.scratch("train") / "step").write_text("7")
    assert (folder.scratch("train") / "step").read_text() == "7"
    assert folder.list() == []
    folder.discard_scratch()
    assert not (folder.scratch("train") / "step").exists()


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from arm.storage import s3

    monkeypatch.setattr(s3, "PART_BYTES", 5 * MEBIBYTE)
    data = os.urandom(12 * MEBIBYTE + 7)
    with folder.publish("large.bin") as path:
        path.write_bytes(data)
    assert folder.size("large.bin") == len(data)
    assert folder.read("large.bin") == data


def test_a_cached_file_is_read_again_once_it_changed(folder: Folder) -> None:
    folder.write("x", b"old")
    assert folder.fetch("x").read_bytes() == b"old"
    other = open_folder(folder.url)
    other.write("x", b"new")
    assert folder.fetch("x").read_bytes() == b"new"


def test_sweeping_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    folder.write("kept", b"1")
    (tmp_path / ".tmp-killed.tar").write_bytes(b"half")
    (folder.scratch("train") / ".tmp-own").write_bytes(b"2")
    folder.sweep()
    assert not (tmp_path / ".tmp-killed.tar").exists()
    assert (folder.scratch("train") / ".tmp-own").exists()
    assert folder.read("kept") == b"1"


@pytest.mark.parametrize(("age_days", "left"), [(1, 0), (36_500, 1)])
def test_sweeping_aborts_uploads_that_nobody_goes_on_with(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_days: int, left: int
) -> None:
    """The server says that every upload began in 2010: older than a day, younger than a century."""
    from arm.storage import s3

    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(s3, "ABANDONED", datetime.timedelta(days=age_days))
    folder = open_folder(new_bucket(f"unfinished-{left}"))
    s3._client().create_multipart_upload(Bucket=f"unfinished-{left}", Key="runs/7/half")
    folder.sweep()
    assert len(s3._client().list_multipart_uploads(Bucket=f"unfinished-{left}").get("Uploads", [])) == left


@pytest.mark.parametrize(("num_conflicts", "other_wins"), [(2, False), (2, True)])
def test_a_conflict_of_two_writers_is_decided_by_what_is_there(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_conflicts: int, other_wins: bool
) -> None:
    """The server answers 409 a few times; the other writer may have got through in the meantime."""
    from arm.storage import s3

    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    folder = open_folder(new_bucket(f"conflict-{num_conflicts}-{other_wins}".lower()))
    client, conflicts = s3._client(), [None] * num_conflicts
    real_put = client.put_object

    def put(**options: Any) -> Any:
        if "IfNoneMatch" not in options or not conflicts:
            return real_put(**options)
        conflicts.pop()
        if other_wins and len(conflicts) <= 1:
            folder.write("manifest.json", b"theirs")
        answer = {"Error": {"Code": "ConditionalRequestConflict"}, "ResponseMetadata": {"HTTPStatusCode": 409}}
        raise ClientError(answer, "PutObject")

    monkeypatch.setattr(client, "put_object", put)
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: None)
    assert folder.write_if_absent("manifest.json", b"ours") is not other_wins
    assert folder.read("manifest.json") == (b"theirs" if other_wins else b"ours")


def test_a_conflict_without_end_is_one_sentence(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.storage import s3

    def put(**options: Any) -> None:
        answer = {"Error": {"Code": "ConditionalRequestConflict"}, "ResponseMetadata": {"HTTPStatusCode": 409}}
        raise ClientError(answer, "PutObject")

    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    folder = open_folder(new_bucket("conflicts"))
    monkeypatch.setattr(s3._client(), "put_object", put)
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: None)
    with pytest.raises(ServiceError, match=r"manifest.json: another writer is at it \(ConditionalRequestConflict\)"):
        folder.write_if_absent("manifest.json", b"ours")


def test_an_endpoint_that_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    use_s3(address, "key", "secret", tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"does not answer .*check AWS_ENDPOINT_URL_S3"):
        open_folder("s3://bucket/x").exists("manifest.json")


def test_a_missing_bucket_is_one_sentence(moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(moto_address, "key", "secret", tmp_path, monkeypatch)
    with pytest.raises(UserError, match="no such bucket"):
        open_folder("s3://never-made/x").write("a", b"1")


def test_a_publish_that_the_store_refuses_is_one_sentence(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(moto_address, "key", "secret", tmp_path, monkeypatch)
    with pytest.raises(UserError, match="no such bucket"), open_folder("s3://never-made/x").publish("a") as path:
        path.write_bytes(b"1")


@pytest.mark.parametrize("error", [ReadTimeoutError(endpoint_url="http://s3.test"), ConnectionResetError("gone")])
def test_a_store_that_falls_silent_is_one_sentence(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from arm.storage import s3

    def fall_silent(**options: Any) -> None:
        raise error

    use_s3(moto_address, "key", "secret", tmp_path, monkeypatch)
    folder = open_folder("s3://bucket/x")
    for operation in ("put_object", "head_object"):
        monkeypatch.setattr(s3._client(), operation, fall_silent)
    for ask in (lambda: folder.write("a", b"1"), lambda: folder.exists("a")):
        with pytest.raises(ServiceError, match="bucket/x/a: the object store did not answer"):
            ask()


def test_an_object_that_changes_before_it_is_read_is_fetched_as_it_is_now(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.storage import s3

    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    folder = open_folder(new_bucket("changing"))
    folder.write("x", b"old")
    client = s3._client()
    real_get, newer = client.get_object, [b"new"]

    def get(**options: Any) -> Any:
        if newer:
            folder.write("x", newer.pop())
        return real_get(**options)

    monkeypatch.setattr(client, "get_object", get)
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: None)
    assert folder.fetch("x").read_bytes() == b"new"


def test_sweeping_reads_every_page_of_unfinished_uploads(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.storage import s3

    def page(**options: Any) -> Any:
        key = "2" if "KeyMarker" in options else "1"
        upload = {"Key": key, "UploadId": key, "Initiated": datetime.datetime(2010, 1, 1, tzinfo=datetime.UTC)}
        return {"IsTruncated": key == "1", "NextKeyMarker": key, "NextUploadIdMarker": key, "Uploads": [upload]}

    use_s3(moto_address, "key", "secret", tmp_path, monkeypatch)
    aborted = []
    monkeypatch.setattr(s3._client(), "list_multipart_uploads", page)
    monkeypatch.setattr(s3._client(), "abort_multipart_upload", lambda **options: aborted.append(options["Key"]))
    open_folder("s3://bucket/x").sweep()
    assert aborted == ["1", "2"]


@pytest.mark.parametrize(("url", "sentence"), [("gs://bucket/x", "unknown scheme"), ("s3:///x", "names no bucket")])
def test_a_wrong_address_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_folder(url)


def test_private_names_start_with_a_dot_anywhere() -> None:
    assert [is_private(n) for n in ("a/b", ".a", "a/.b/c", "a.b/c")] == [False, True, True, False]


def test_a_copy_has_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    copy_file(tmp_path / "a", tmp_path / "deep" / "b")
    # sha256("abc"), from FIPS 180-4's example
    assert sha256_of(tmp_path / "deep" / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
