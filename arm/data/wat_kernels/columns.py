"""Columns of Arrow made of texts in a heap, compiled: one pass over their bytes, no object a text."""

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.wat_kernels.entries import gather_texts
from arm.data.wat_kernels.layout import Integers
from arm.data.wat_kernels.search import Bytes


def gather(heap: Bytes, table: Integers, column: int) -> pa.Array:
    """The texts heap[table[i, column] : table[i, column + 1]] as a column of strings; they must be UTF-8."""
    ends = np.zeros(len(table) + 1, np.int64)
    np.cumsum(table[:, column + 1] - table[:, column], out=ends[1:])
    assert ends[-1] < 1 << 31, "a row group holds no more text than Arrow's strings can address"
    texts = np.empty(ends[-1], np.uint8)
    gather_texts(heap, table, column, texts)
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), len(table), buffers)
