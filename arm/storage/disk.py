"""A full disk as one sentence, whichever library met it.

Python says ENOSPC, Arrow and Java put the words into their own errors, torch says only that a write failed: so the
disk itself is asked as well.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from arm.errors import ArmError, UserError

FULL_BYTES = 64 * 1024
"""Less than this is full: no library writes a file's last block into it."""
NUMBERS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


@contextlib.contextmanager
def full_disk_in_a_sentence(place: str) -> Iterator[None]:
    """Turn whatever a full disk at `place` (a folder, or an address) causes into a UserError."""
    try:
        yield
    except ArmError:
        raise
    except Exception as error:
        if not is_full(error, place):
            raise
        raise full_disk_error(place) from None


def full_disk_error(place: str) -> UserError:
    """The sentence."""
    return UserError(f"The disk that holds {place} is full; free some space and run the same command again.")


def is_full(error: Exception, place: str) -> bool:
    """Whether a full disk at `place` caused the error, by what the error says, or by what the disk has left."""
    if getattr(error, "errno", None) in NUMBERS or any(words in str(error) for words in WORDS):
        return True
    existing = next((path for path in (Path(place), *Path(place).parents) if path.exists()), None)
    return "://" not in place and existing is not None and shutil.disk_usage(existing).free < FULL_BYTES
