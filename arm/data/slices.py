"""Counts of pairs by slice and reason, small at any size: what a filter does to whom.

slice      value          reason            pairs
language   de             few_words         1,204
site       garden.test                        310      an empty reason: kept
"""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

SLICES = pa.schema([("slice", pa.string()), ("value", pa.string()), ("reason", pa.string()), ("pairs", pa.int64())])
NO_SITE = "(unknown)"
SliceCounts = Mapping[tuple[str, str, str], int]
"""(slice, value, reason) -> pairs."""
_HOST = r"^[a-z]+://(?:[^/?#]*@)?(?:www\.)?(?P<host>[^/?#:]+)"


def count_slices(table: pa.Table) -> Counter[tuple[str, str, str]]:
    """Count rows with language, kind, page_url and reason by each slice."""
    hosts = pc.struct_field(pc.extract_regex(pc.utf8_lower(table["page_url"]), _HOST), "host")
    values = {
        "kind": table["kind"],
        "language": table["language"],
        "site": pc.fill_null(hosts, NO_SITE),
    }
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, column in values.items():
        pairs = pa.table({"value": pc.fill_null(column, ""), "reason": pc.fill_null(table["reason"], "")})
        sums = pairs.group_by(["value", "reason"]).aggregate([([], "count_all")]).to_pylist()
        counts.update({(name, row["value"], row["reason"]): row["count_all"] for row in sums})
    return counts


def slices_table(counts: SliceCounts) -> pa.Table:
    """The counts as a table, sorted."""
    rows = [dict(zip(SLICES.names, (*key, pairs), strict=True)) for key, pairs in sorted(counts.items())]
    return pa.Table.from_pylist(rows, SLICES)
