"""The first half of filter-pairs, one task a part of the input: what can be said of a pair without looking at others.

dropped/rules-00000.parquet          published: whom a rule objects to, and copies within the part
.work/filter/rows/00000.parquet      the others, whole, with their order
.work/filter/keys/00000.parquet      the others, 40 bytes each: what the comparison of pairs needs. Written last

    order = rank of the caption's kind (8 bits), part (24), row (32): "first" is the same whatever the tasks are
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.blocklists import Category, blocked, load_blocklists
from arm.data.config import FilterConfig
from arm.data.extraction import PAIRS
from arm.data.language import detect_languages
from arm.data.normalisation import pair_uid
from arm.data.privacy import mask
from arm.data.rules import Pair, judge
from arm.data.slices import count_slices, slices_table
from arm.data.tables import check_balance, read_counts, write_table
from arm.manifest import FileEntry, Manifest
from arm.storage import WORK, Folder, open_folder

KEPT = PAIRS.append(pa.field("language", pa.string())).append(pa.field("num_masked", pa.int32()))
DROPPED = pa.schema(
    [(name, pa.string()) for name in ("uid", "url", "caption", "kind", "page_url", "language", "reason")]
)
ORDERED = KEPT.append(pa.field("order", pa.int64()))
KEYS = pa.schema(
    [("uid", pa.binary()), ("url_key", pa.int64()), ("caption_key", pa.int64()), ("order", pa.int64())]
)  # fmt: skip
KIND_RANKS = ("alt", "figcaption", "title", "og:title")
"""Which caption of an image is preferred: what describes the image before what names the page."""
CHUNK_ROWS = 10_000
"""Rows judged at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the input."""

    index: int
    entry: FileEntry


def staging_of(output: Folder) -> Folder:
    """The private folder of what goes from task to task and is dropped when the artifact is complete."""
    return output.child(f"{WORK}/filter")


def judge_part(part: Part, source: Manifest, output_url: str, config: FilterConfig) -> dict[str, int]:
    """One task: judge the rows of one part; return its counts. `source` is the input, its list of files left out."""
    output = open_folder(output_url)
    staging, name = staging_of(output), f"{part.index:05d}.parquet"
    if staging.exists(f"keys/{name}"):
        return read_counts(staging.fetch(f"keys/{name}"))
    table = pq.read_table(source.local(part.entry), columns=PAIRS.names).replace_schema_metadata(None).cast(PAIRS)
    categories = load_blocklists(config, staging.child("blocklists"))
    masked: Counter[str] = Counter()
    judged_as = partial(judge_table, config=config, categories=categories, masked=masked, refused=source.tombstones)
    chunks = [judged_as(table.slice(0, 0))]
    for start in range(0, table.num_rows, CHUNK_ROWS):
        chunks.append(judged_as(table.slice(start, CHUNK_ROWS)))
    judged = _mark_copies(_with_order(pa.concat_tables(chunks), part.index))
    fit, dropped = (judged.filter(where(judged["reason"])) for where in (pc.is_null, pc.is_valid))
    reasons = Counter(dropped["reason"].to_pylist())
    counts = {"pairs_read": table.num_rows, "pairs_compared": fit.num_rows}
    counts |= {f"dropped/{reason}": count for reason, count in reasons.items()}
    check_balance(counts, "pairs_read", "pairs_compared")
    counts |= {f"masked/{kind}": count for kind, count in masked.items()}
    write_table(output, f"dropped/rules-{name}", dropped.select(DROPPED.names).cast(DROPPED))
    write_table(staging, f"slices/rules-{name}", slices_table(count_slices(dropped)))
    write_table(staging, f"rows/{name}", fit.select(ORDERED.names).cast(ORDERED))
    write_table(staging, f"keys/{name}", keys_of(fit), counts)
    return counts


def judge_table(
    table: pa.Table,
    config: FilterConfig,
    categories: Sequence[Category] = (),
    masked: Counter[str] | None = None,
    refused: frozenset[str] = frozenset(),
) -> pa.Table:
    """Mask rows of PAIRS as configured; add language, number of masks and the reason of the first rule that objects; what
    was taken down has the reason `tombstone`."""
    taken_down = [uid in refused for uid in table["uid"].to_pylist()]
    table, num_masked = _masked(table, config, Counter() if masked is None else masked)
    urls, captions = table["url"].to_pylist(), table["caption"].to_pylist()
    languages = detect_languages(captions, config.candidate_languages, config.min_language_distance)
    names = blocked(categories, urls, table["page_url"].to_pylist())
    reasons = [
        "tombstone" if gone else judge(Pair(url=url, caption=caption, language=language, blocked=name), config)
        for url, caption, language, name, gone in zip(urls, captions, languages, names, taken_down, strict=True)
    ]
    columns = [*table.columns, pa.array(languages, pa.string()), pa.array(num_masked, pa.int32())]
    return pa.Table.from_arrays(
        [*columns, pa.array(reasons, pa.string())], schema=KEPT.append(pa.field("reason", pa.string()))
    )


def keys_of(table: pa.Table) -> pa.Table:
    """What the comparison needs of each row."""
    uids = [bytes.fromhex(uid) for uid in table["uid"].to_pylist()]
    columns = [pa.array(uids, pa.binary()), _hashed(table["url"]), _hashed(table["caption"]), table["order"]]
    return pa.Table.from_arrays(columns, schema=KEYS)


def _masked(table: pa.Table, config: FilterConfig, masked: Counter[str]) -> tuple[pa.Table, list[int]]:
    """Replace personal data in captions and page titles; the uid becomes that of the masked caption."""
    kinds = config.mask_personal_data
    if not kinds:
        return table, [0] * table.num_rows
    captions, titles, num_masked = [], [], []
    for caption, title in zip(table["caption"].to_pylist(), table["page_title"].to_pylist(), strict=True):
        caption, in_caption = mask(caption, kinds)
        title, in_title = mask(title or "", kinds)
        masked.update(in_caption)
        masked.update(in_title)
        captions.append(caption)
        titles.append(title)
        num_masked.append(len(in_caption) + len(in_title))
    rows = zip(table["uid"].to_pylist(), table["url"].to_pylist(), captions, num_masked, strict=True)
    uids = [pair_uid(url, caption) if hits else uid for uid, url, caption, hits in rows]
    for name, values in (("uid", uids), ("caption", captions), ("page_title", titles)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table, num_masked


def _with_order(table: pa.Table, part: int) -> pa.Table:
    ranks = np.array([_rank(kind) for kind in table["kind"].to_pylist()], np.int64)
    order = (ranks << 56) | (part << 32) | np.arange(table.num_rows, dtype=np.int64)
    return table.append_column("order", pa.array(order, pa.int64()))


def _mark_copies(table: pa.Table) -> pa.Table:
    """Drop here what is a copy within the part: a logo on every page never travels more than once a part."""
    fit = pc.is_null(table["reason"])
    first = table.filter(fit).group_by("uid").aggregate([("order", "min")])["order_min"]
    copies = pc.and_(fit, pc.invert(pc.is_in(table["order"], value_set=first)))
    reasons = pc.if_else(copies, "duplicate_pair", table["reason"])
    return table.set_column(table.schema.get_field_index("reason"), "reason", reasons)


@lru_cache(maxsize=64)
def _rank(kind: str | None) -> int:
    return KIND_RANKS.index(kind) if kind in KIND_RANKS else len(KIND_RANKS)


def _hashed(texts: pa.ChunkedArray) -> pa.Array:
    """64 bits of each text: that any two of a billion share a key has a chance of 1 in 40."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts.to_pylist())
    return pa.array(
        np.fromiter((int.from_bytes(digest, "big", signed=True) for digest in digests), np.int64), pa.int64()
    )
