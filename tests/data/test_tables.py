"""Tables that are written as they come are the same files as tables that are written whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arm.data.tables import LARGE_GROUP_ROWS, in_groups, write_table, write_tables
from arm.storage import LocalFolder


@pytest.mark.parametrize("size", [0, 1, 1_000, LARGE_GROUP_ROWS, LARGE_GROUP_ROWS + 5])
def test_the_bytes_are_those_of_one_table(size: int, tmp_path: Path) -> None:
    numbers = np.arange(size) % 977
    table = pa.table({"number": numbers, "word": pa.array(numbers).cast(pa.string())})
    cuts = sorted({0, size // 3, size // 2, size})
    parts = [table.slice(low, high - low) for low, high in pairwise(cuts)]
    folder = LocalFolder(tmp_path)
    write_table(folder, "whole.parquet", table)
    write_tables(folder, "parts.parquet", table.schema, iter(parts))
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_groups_have_one_size_and_the_last_is_smaller() -> None:
    tables = [pa.table({"number": pa.array(range(size), pa.int64())}) for size in (3, 0, 4, 1)]
    schema = tables[0].schema
    assert [group["number"].to_pylist() for group in in_groups(tables, 3, schema)] == [[0, 1, 2], [0, 1, 2], [3, 0]]
    assert [group.num_rows for group in in_groups([], 3, schema)] == [0]
