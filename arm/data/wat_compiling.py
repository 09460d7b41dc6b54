"""The loops that read WAT files are compiled once a machine: by one process, while the others wait for it."""

import fcntl
import functools

import numpy as np

from arm.data.wat_kernels import layout as at
from arm.data.wat_kernels.entries import find_marks, gather_texts, read_batch
from arm.data.wat_kernels.search import PADDING
from arm.storage.cache import cache_folder


@functools.cache
def compile_loops() -> None:
    """Compile the loops, or load them if that was done before; once in each process."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "compile.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _call_all()


def _call_all() -> None:
    """Call each loop with nothing to do, and the types that it is called with."""
    data, numbers = np.zeros(PADDING, np.uint8), np.zeros(8, np.int64)
    words, members, state = data.view(np.uint64), np.zeros((1, 3), np.int64), np.zeros(at.NUM_STATES, np.int64)
    rows, pages = np.zeros((1, at.NUM_ROW_COLUMNS), np.int64), np.zeros((1, at.NUM_PAGE_COLUMNS), np.int64)
    find_marks(data, words, 0, True, 0, np.zeros((1, 4), np.int64))
    read_batch(data, words, members, state, rows, pages, data, np.zeros(1, np.bool_), numbers)
    gather_texts(data, rows[:0], 0, data)
