"""Folders of files, local or in object storage, behind one interface.

    folder = open_folder("store/05-filter-pairs")            a local folder
    folder = open_folder("s3://bucket/runs/7")               the same through boto3

Names inside a folder are relative POSIX paths (`shards/000000.tar`). A file becomes visible whole or not at all:
`write` and `publish` go to a temporary name first. What is read is checked by whoever knows the checksum (the manifest).
"""

from arm.errors import UserError
from arm.storage.folder import CHUNK_BYTES, WORK, Folder, checked_name, copy_file, is_private, publish_tree, sha256_of
from arm.storage.local import LocalFolder

__all__ = [
    "CHUNK_BYTES",
    "WORK",
    "Folder",
    "LocalFolder",
    "checked_name",
    "copy_file",
    "is_private",
    "open_folder",
    "publish_tree",
    "sha256_of",
]


def open_folder(url: str) -> Folder:
    """Open a folder by its address: a local path or `s3://bucket/prefix`."""
    if url.startswith("s3://"):
        from arm.storage.s3 import S3Folder

        return S3Folder(url)
    if "://" in url:
        raise UserError(f"The store {url!r} has an unknown scheme; give a local folder or s3://bucket/prefix.")
    return LocalFolder(url)
