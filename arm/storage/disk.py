"""What a disk refuses as one sentence: that it is full, whichever library met it, or that a path there cannot be made.

Python says ENOSPC, Arrow and Java put the words into their own errors, torch says only that a write failed: so the
disk itself is asked as well, unless the error says that it was about something else.

    --output /proc/x    /proc/x cannot be used (No such file or directory: /proc/x); give another path, one that can be made.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from arm.errors import ArmError, UserError

FULL_BYTES = 64 * 1024
"""Less than this is full: no library writes a file's last block into it."""
NUMBERS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")
MENDED_BY = {
    errno.ENOENT: "give another path, one that can be made",
    errno.ENOTDIR: "a part of it is a file: give another path, or move that file",
    errno.EROFS: "its file system is read-only: give another path",
    errno.EACCES: "give another path, or the right to read and write there",
    errno.EPERM: "give another path, or the right to read and write there",
}
"""Number of an error -> what to do about its path."""


@contextlib.contextmanager
def disk_errors_in_a_sentence(place: str) -> Iterator[None]:
    """Turn whatever a full disk at `place` (a folder, or an address), or a place that cannot be, causes into a UserError."""
    try:
        yield
    except ArmError:
        raise
    except Exception as error:
        if unusable := unusable_error(error, place):
            raise unusable from None
        if not is_full(error, place):
            raise
        raise full_disk_error(place) from None


def full_disk_error(place: str) -> UserError:
    """The sentence."""
    return UserError(f"The disk that holds {place} is full; free some space and run the same command again.")


def unusable_error(error: Exception, place: str) -> UserError | None:
    """The sentence where an error says that `place`, or a path beside, above or below it, cannot be made or written.

    A file that lacks at a place that is there is something else, which keeps its traceback.
    """
    if not isinstance(error, OSError) or error.errno not in MENDED_BY or not isinstance(error.filename, str):
        return None
    path, beside = Path(error.filename).absolute(), Path(place).absolute().parent
    if "://" in place or not (path in (beside, *beside.parents) or beside in path.parents):
        return None
    if error.errno == errno.ENOENT and Path(place).exists():
        return None
    return UserError(
        f"{place} cannot be used ({os.strerror(error.errno)}: {error.filename}); {MENDED_BY[error.errno]}."
    )


def is_full(error: Exception, place: str) -> bool:
    """Whether a full disk at `place` caused the error, by what the error says, or by what the disk has left."""
    if getattr(error, "errno", None) in NUMBERS or any(words in str(error) for words in WORDS):
        return True
    if getattr(error, "errno", None) in MENDED_BY or "://" in place:
        return False
    existing = next((path for path in (Path(place), *Path(place).parents) if path.exists()), None)
    if existing is None:
        return False
    disk = shutil.disk_usage(existing)
    return disk.total > 0 and disk.free < FULL_BYTES  # /proc has no room, and is not full
