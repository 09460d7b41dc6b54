"""Units: every URL once, no host above its share, no host in a rush, the same whatever the order."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.data.config import DownloadConfig
from arm.data.units import COLUMNS, deal, host_of, write_units


def table(*urls: str) -> pa.Table:
    rows = [dict.fromkeys(COLUMNS, "x") | {"uid": f"{number:04d}", "url": url} for number, url in enumerate(urls)]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in COLUMNS]))


def urls_of(unit: pa.Table) -> list[str]:
    return list(unit["url"].to_pylist())


def test_a_large_host_is_dealt_over_more_units_and_stands_apart_in_each() -> None:
    rows = table(*[f"http://big.test/{n}" for n in range(8)], *[f"http://s{n}.test/" for n in range(8)])
    units = [[host_of(url) for url in urls_of(unit)] for unit in deal(rows, 8, 2)]
    assert [len(unit) for unit in units] == [4, 4, 4, 4]  # 16 rows would do with 2 units; 8 of one host take 4
    assert all(unit.count("big.test") == 2 for unit in units)
    assert not any("big.test" == a == b for unit in units for a, b in pairwise(unit))


@settings(max_examples=40, deadline=None)
@given(
    hosts=st.lists(st.sampled_from("aaaabbcd"), min_size=1, max_size=60),
    unit_rows=st.integers(1, 20), host_rows=st.integers(1, 10), seed=st.randoms(use_true_random=False),
)  # fmt: skip
def test_units_hold_every_row_once_within_both_bounds(
    hosts: list[str], unit_rows: int, host_rows: int, seed: "object"
) -> None:
    rows = table(*[f"http://{host}.test/{number}" for number, host in enumerate(hosts)])
    units = [urls_of(unit) for unit in deal(rows, unit_rows, host_rows)]
    assert sorted(url for unit in units for url in unit) == sorted(urls_of(rows))
    assert all(0 < len(unit) <= unit_rows for unit in units)
    assert all(count <= host_rows for unit in units for count in Counter(map(host_of, unit)).values())
    order = list(range(len(hosts)))
    seed.shuffle(order)  # type: ignore[attr-defined]
    assert [urls_of(unit) for unit in deal(rows.take(pa.array(order)), unit_rows, host_rows)] == units


def test_small_tables_share_units_and_addresses_that_are_none_do_no_harm(tmp_path: Path) -> None:
    tables = [table("http://a.test/1", "http://["), table("", "http://b.test/2")]
    config = DownloadConfig(unit_rows=4)
    assert write_units(tables, tmp_path / "units", config) == 1
    (path,) = (tmp_path / "units").iterdir()
    assert sorted(pq.read_table(path)["url"].to_pylist()) == ["", "http://[", "http://a.test/1", "http://b.test/2"]
    assert write_units([], tmp_path / "none", config) == 0


def test_a_thousand_of_one_host_take_a_unit_each_thousand() -> None:
    assert [unit.num_rows for unit in deal(table(*["http://a.test/"] * 25), 100, 10)] == pytest.approx([9, 8, 8])
