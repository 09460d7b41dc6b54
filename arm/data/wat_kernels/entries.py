"""The three loops that Python calls, compiled once a machine and kept beside the source or in NUMBA_CACHE_DIR.

That takes some 20 s of CPU. numba compiles anew when the file of a function changes, not when what it calls does: so all
that is called is left out of its cache, and the closure of each loop, which numba counts as part of the function, holds a
digest of this folder.
"""

import hashlib
from pathlib import Path
from typing import Any

import numba

from arm.data.wat_kernels.layout import Integers
from arm.data.wat_kernels.marks import find_members
from arm.data.wat_kernels.pages import Flags, read_members
from arm.data.wat_kernels.search import Bytes, Number, Words
from arm.data.wat_kernels.strings import copy


def _version() -> int:
    """A digest of what is compiled; never 0."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).digest()
    return int.from_bytes(digest[:7], "little") + 1


def _compile(version: int) -> tuple[Any, Any, Any]:
    """The loops of this version."""

    @numba.njit(cache=True)
    def find(data: Bytes, words: Words, filled: Number, at_end: Number, max_bytes: Number, found: Integers) -> int:
        assert version
        return int(find_members(data, words, filled, at_end, max_bytes, found))

    @numba.njit(cache=True)
    def read(
        data: Bytes, words: Words, members: Integers, state: Integers, rows: Integers, pages: Integers, heap: Bytes,
        calm: Flags, limits: Integers,
    ) -> int:  # fmt: skip
        assert version
        return int(read_members(data, words, members, state, rows, pages, heap, calm, limits))

    @numba.njit(cache=True)
    def gather(heap: Bytes, table: Integers, column: Number, texts: Bytes) -> None:
        assert version
        top = 0
        for number in range(len(table)):
            top = copy(heap, table[number, column], table[number, column + 1], texts, top)

    return find, read, gather


find_marks, read_batch, gather_texts = _compile(_version())
"""`find_members`, `read_members`, and: write the texts heap[table[i, column] : table[i, column + 1]] one after another."""
