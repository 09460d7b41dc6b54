"""A folder in object storage: any S3, through boto3.

The endpoint comes from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, credentials from the usual AWS variables. Large files
go up in parts and are visible only when complete. Downloads are kept below ARM_CACHE_DIR (default ~/.cache/arm/s3), see
`arm.storage.cache`, each with the ETag that it was read under, so that a changed object is read again.
"""

import contextlib
import datetime
import functools
import hashlib
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
from boto3.exceptions import S3UploadFailedError  # type: ignore[import-untyped]
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from arm.errors import ServiceError, UserError, without_userinfo
from arm.storage import cache
from arm.storage.folder import WORK, checked_name, is_private

Result = TypeVar("Result")

PART_BYTES = 32 << 20
MAX_PARTS = 9_000  # S3 allows 10,000
ATTEMPTS = 6
PROBE_SECONDS = 5.0
ABANDONED = datetime.timedelta(days=1)
"""An unfinished upload of this age is nobody's: a younger one may be another machine's, which our lock does not hold."""
BROKEN_STREAM = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, ConnectionError)


class _ConflictError(ServiceError):
    """Two writers met (status 409): neither may know yet who was first."""


class S3Folder:
    """Objects under `s3://bucket/prefix`."""

    def __init__(self, url: str) -> None:
        self.bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        if not self.bucket:
            raise UserError(f"The store {url!r} names no bucket; give s3://bucket/prefix.")
        checked_name(f"{self.bucket}/{self.prefix}")

    def __repr__(self) -> str:
        return f"S3Folder({self.url!r})"

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def lock_path(self) -> Path:
        return self._private() / "lock"

    def child(self, name: str) -> "S3Folder":
        return S3Folder(f"s3://{self.bucket}/{self._key(name)}")

    def read(self, name: str) -> bytes:
        def read() -> bytes:
            return bytes(self._call("get_object", name)["Body"].read())

        return _retried(read, self._full(name))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        def read() -> bytes:
            return bytes(self._call("get_object", name, Range=f"bytes={offset}-{offset + length - 1}")["Body"].read())

        try:
            return _retried(read, self._full(name)) if length else b""
        except EOFError:  # the file ends before the range starts
            return b""

    def write(self, name: str, data: bytes) -> None:
        self._call("put_object", name, Body=data)

    def write_if_absent(self, name: str, data: bytes) -> bool:
        for attempt in range(ATTEMPTS):
            if self.exists(name):
                return False
            try:
                self._call("put_object", name, Body=data, IfNoneMatch="*")
                return True
            except FileExistsError:
                return False
            except _ConflictError as error:  # somebody writes it at this moment: what is read next decides
                problem = error
                time.sleep(random.uniform(0, min(10.0, 0.2 * 2**attempt)))
            except NotImplementedError:  # a server without conditional put: two writers write the same bytes
                self.write(name, data)
                return True
        if self.exists(name):
            return False
        raise problem

    @contextlib.contextmanager
    def publish(self, name: str) -> Iterator[Path]:
        target = self._cached(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        path = Path(temporary)
        try:
            yield path
            self._upload(name, path)
            num_bytes = path.stat().st_size
            self._keep(name, path)
        finally:
            path.unlink(missing_ok=True)
        cache.grow(_cache(), num_bytes)

    def fetch(self, name: str) -> Path:
        target = self._cached(name)
        _retried(lambda: self._update(name, target), self._full(name))
        return target

    def release(self, name: str) -> None:
        cache.release(_cache(), self._cached(name))

    def forget(self, name: str) -> bool:
        return cache.forget(self._cached(name))

    def exists(self, name: str) -> bool:
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        return int(self._head(name)["ContentLength"])

    def list(self, prefix: str = "") -> list[str]:
        return list(self.versions(prefix))

    def versions(self, prefix: str = "") -> dict[str, str]:
        """Name -> size and ETag of all files below, sorted, private names left out: what tells changes without reading."""
        start = f"{self.prefix}/" if self.prefix else ""
        with _sentences(f"{self.url}/{prefix}"):
            pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start + prefix)
            items = [item for page in pages for item in page.get("Contents", [])]
        found = {item["Key"][len(start) :]: f"{item['Size']} {item['ETag']}" for item in items}
        return {name: found[name] for name in sorted(found) if name and name[-1] != "/" and not is_private(name)}

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._call("delete_object", name)

    def scratch(self, name: str) -> Path:
        path = self._private() / "work" / checked_name(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def discard_scratch(self) -> None:
        shutil.rmtree(self._private() / "work", ignore_errors=True)
        copies = self.child(WORK)  # of checkpoints: what a machine that lost its disk goes on from
        for name in copies.list():
            copies.delete(name)

    def sweep(self) -> None:
        oldest = datetime.datetime.now(datetime.UTC) - ABANDONED
        with _sentences(self.url):
            pages = _client().get_paginator("list_multipart_uploads")
            pages = pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                if upload["Initiated"] < oldest:
                    _client().abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{checked_name(name)}".lstrip("/")

    def _full(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._key(name)}"

    def _call(self, operation: str, name: str, **options: Any) -> Any:
        with _sentences(self._full(name)):
            return getattr(_client(), operation)(Bucket=self.bucket, Key=self._key(name), **options)

    def _head(self, name: str) -> Any:
        return self._call("head_object", name)

    def _upload(self, name: str, path: Path) -> None:
        part = max(PART_BYTES, path.stat().st_size // MAX_PARTS)
        config = TransferConfig(multipart_threshold=2 * part, multipart_chunksize=part, max_concurrency=4)
        with _sentences(self._full(name)):
            _client().upload_file(str(path), self.bucket, self._key(name), Config=config)

    def _update(self, name: str, target: Path) -> None:
        """Let the cache hold the version that is there now; BROKEN_STREAM when that changes meanwhile."""
        etag = str(self._head(name)["ETag"])
        cache.use(_cache(), target)
        if not cache.holds(target, etag):
            with cache.downloading(_cache(), target):
                if not cache.holds(target, etag):
                    self._download(name, target, etag)
            cache.grow(_cache(), target.stat().st_size)

    def _download(self, name: str, target: Path, etag: str) -> None:
        """Fetch this version, from where an earlier attempt of any process was broken off."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = cache.part_file(target, etag)
        place = part.stat().st_size if part.is_file() else 0
        options = {"Range": f"bytes={place}-"} if place else {}
        try:
            answer = self._call("get_object", name, IfMatch=etag, **options)
        except (EOFError, FileExistsError):  # nothing left to fetch, or a new version since we asked
            if place and place == self.size(name) and self._head(name)["ETag"] == etag:
                cache.keep(target, part, etag)
                return
            part.unlink(missing_ok=True)
            raise ConnectionError(f"{name} has changed while it was read") from None
        continued = answer["ResponseMetadata"]["HTTPStatusCode"] == 206  # a server may ignore the range
        with part.open("ab" if continued else "wb") as stream:
            for chunk in answer["Body"].iter_chunks(1 << 20):
                stream.write(chunk)
        cache.keep(target, part, etag)

    def _keep(self, name: str, path: Path) -> None:
        """Keep what was just uploaded as if it had been downloaded."""
        cache.keep(self._cached(name), path, self._head(name)["ETag"])

    def _cached(self, name: str) -> Path:
        return _cache() / "files" / self.bucket / self._key(name)

    def _private(self) -> Path:
        path = _cache() / "private" / hashlib.sha256(self.url.encode()).hexdigest()[:32]
        path.mkdir(parents=True, exist_ok=True)
        return path


def endpoint() -> str:
    """The S3 address from the environment; empty means Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _cache() -> Path:
    """One cache per endpoint: two servers may hold buckets of the same name."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arm" / "s3"
    root = Path(os.environ.get("ARM_CACHE_DIR") or default)
    return root / hashlib.sha256(endpoint().encode()).hexdigest()[:16]


def _client() -> Any:
    return _connect(endpoint(), os.getpid())


@functools.lru_cache(maxsize=4)
def _connect(address: str, process: int) -> Any:
    """One client per endpoint and process (boto3 clients do not survive a fork); adaptive retries come with jitter."""
    if address:
        _probe(address)
    config = Config(
        retries={"mode": "adaptive", "max_attempts": ATTEMPTS},
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",  # Swift refuses the newer trailing checksums
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if address else "auto"},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.Session().client("s3", endpoint_url=address or None, region_name=region, config=config)


def _probe(address: str) -> None:
    """Say within seconds that nobody answers, instead of after all the retries."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for attempt in range(3):
        try:
            socket.create_connection((parts.hostname or "", port), timeout=PROBE_SECONDS).close()
            return
        except OSError as error:
            problem = error
            time.sleep(random.uniform(0.1, 0.3) * (attempt + 1))
    raise UserError(
        f"The S3 endpoint {without_userinfo(address)} does not answer ({problem}); check AWS_ENDPOINT_URL_S3."
    )


def _retried(action: Callable[[], Result], what: str) -> Result:
    """Repeat a read whose stream broke half-way (botocore retries requests, not bodies)."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except BROKEN_STREAM as error:
            problem = error
            time.sleep(random.uniform(0, min(10.0, 0.2 * 2**attempt)))
    raise ServiceError(f"{what} could not be read in {ATTEMPTS} attempts ({problem}); run again later.")


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turn boto3's errors into file errors and sentences."""
    try:
        yield
    except ClientError as error:
        raise _translated(error, what) from None
    except S3UploadFailedError as error:  # upload_file hides the ClientError
        raise _translated(error.__context__, what) from None
    except (BotoCoreError, ConnectionError) as error:  # botocore has asked ATTEMPTS times; bodies are read outside
        raise ServiceError(f"{what}: the object store did not answer ({error}); check it and run again.") from None


def _translated(error: Any, what: str) -> Exception:
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code == "NoSuchBucket":
        return UserError(
            f"{what}: there is no such bucket at {without_userinfo(endpoint()) or 'Amazon S3'}; make it first."
        )
    if status == 404 and code != "NoSuchUpload":
        return FileNotFoundError(what)
    if status == 416:
        return EOFError(what)
    if status == 412:
        return FileExistsError(what)
    if status == 409:
        return _ConflictError(f"{what}: another writer is at it ({code}); run again later.")
    if status == 501:
        return NotImplementedError(what)
    if status in (401, 403):
        return UserError(f"{what}: the object store refuses the credentials ({code}); check AWS_ACCESS_KEY_ID.")
    return ServiceError(f"{what}: the object store answered {status} {code}; run again later.")
