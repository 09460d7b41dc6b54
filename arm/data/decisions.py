"""What becomes of each sample: kept, or dropped for one reason, the first of these that holds.

hash_list                          an operator's list holds its file, its address or its picture
empty, truncated, damaged, …       its image cannot be read
small, aspect, blank, blurred, text_area, dissimilar, <head>     it breaks a bound of its source's rule
duplicate                          the same pixels and texts, or the same uid, as an earlier sample or an earlier run's
contaminated                       an image of the evaluation sets
popular_hash, near_duplicate       it looks like too many others; it looks like a better one
semantic_duplicate                 where that is asked for: it means the same as a better one

Decisions are columns: 26 bytes a sample stay in memory (key, reason, owner), 82 at the peak, while copies are looked for and
looks are ranked; all else is read from the measured tables, a shard at a time. Near duplicates are compared in this process
(0.4 KB a sample then) or on Spark. Measured by benchmarks/decisions.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.config import CurateConfig, SourceRule
from arm.data.copies import NOBODY, find_copies
from arm.data.curation_index import Index
from arm.data.deduplication import Fingerprints, contaminated, join, stack
from arm.data.hash_lists import HASHES
from arm.data.looks import Looks, Mask, rank_looks
from arm.data.measured import Integers, Measured, Words, key_words, to_uids, uid_words
from arm.data.measuring import rule_of
from arm.data.near_duplicates import Bounds, Found, find
from arm.data.semantic import find_semantic

Row = dict[str, Any]
KEPT = 0
"""The code of a sample that no reason drops."""
HASHED = ("uid", "source", "url", "md5", "sha256", "original_md5", "original_sha256", "pdq")
"""Measured columns that a hash table is made of."""


@dataclass(slots=True)
class Decisions:
    """What becomes of N samples, after M that earlier runs kept."""

    uids: Words
    """Of all: (2, M + N)."""
    codes: NDArray[np.int16]
    """(N,): each sample's place in `words`."""
    owners: Integers
    """(N,): the place, of M + N, of the one that a sample is a duplicate of; NOBODY."""
    words: list[str | None] = field(default_factory=lambda: [None])
    """The reasons; the first is none."""

    @property
    def num_known(self) -> int:
        """M."""
        return len(self.uids[0]) - len(self.codes)

    def code(self, reason: str) -> int:
        """The code of a reason, which is new perhaps."""
        if reason not in self.words:
            self.words.append(reason)
        return self.words.index(reason)

    def kept(self, part: slice = slice(None)) -> Mask:
        """Which samples are kept."""
        return np.asarray(self.codes[part] == KEPT)

    def drop(self, rows: Integers, reason: str, owners: Integers | None = None) -> None:
        """Drop samples, as duplicates of others perhaps."""
        self.codes[rows] = self.code(reason)
        if owners is not None:
            self.owners[rows] = owners

    def reasons(self, part: slice) -> pa.Array:
        """The reasons of some samples, null for what is kept."""
        return pa.array(self.words, pa.string()).take(pa.array(self.codes[part]))

    def duplicates_of(self, part: slice) -> pa.Array:
        """The uids of the owners of some samples, null where there is none."""
        owners = self.owners[part]
        places = np.flatnonzero(owners != NOBODY)
        uids = np.full(len(owners), None, object)
        uids[places] = to_uids(self.uids[:, owners[places]])
        return pa.array(uids, pa.string())

    def counts(self) -> Counter[str]:
        """How many samples each reason drops."""
        numbers = np.bincount(self.codes, minlength=len(self.words)).tolist()
        return Counter({word: number for word, number in zip(self.words, numbers, strict=True) if word and number})


def decide(
    measured: Measured,
    reference: Fingerprints | None,
    index: Index,
    listed: Set[str],
    config: CurateConfig,
    scratch: Path,
) -> Decisions:
    """Decide on every sample; `reference` are the evaluation's images, `listed` the uids that a hash list holds."""
    uids, contents = (np.empty((2, len(index) + len(measured)), np.uint64) for _ in range(2))
    uids[:, : len(index)], contents[:, : len(index)] = index.uids, index.contents
    made = Decisions(uids, np.zeros(len(measured), np.int16), np.full(len(measured), NOBODY))
    wanted = pa.array(sorted(listed), pa.string())
    bounded = ("side", *sorted({score for rule in config.rules for _, score, _, _ in _bounds(rule)}))
    for part, table in measured.tables("uid", "source", "content", "bad_image", *dict.fromkeys(bounded)):
        here = slice(len(index) + part.start, len(index) + part.stop)
        uids[:, here] = uid_words(table["uid"].to_pylist())
        contents[:, here] = key_words(pc.fill_null(table["content"], bytes(16)).to_pylist())
        made.codes[part] = _unfit(table, made, config)
        made.drop(part.start + np.flatnonzero(pc.is_in(table["uid"], wanted).to_numpy()), "hash_list")
    _drop_copies(made, contents)
    del contents
    _drop_contaminated(made, measured, reference, config)
    looks, crowded = rank_looks(measured, made.kept(), made.uids[:, made.num_known :], index, config)
    made.drop(crowded, "popular_hash")
    _drop_near_duplicates(made, looks, index, config, scratch)
    _drop_semantic(made, looks, config, scratch)
    return made


def hash_table(rows: Iterable[Row]) -> pa.Table:
    """Rows of HASHES: one for each image of each sample, one for a sample without."""
    return pa.Table.from_pylist([line for row in rows for line in _hash_lines(row)], HASHES)


def fingerprints(table: pa.Table) -> tuple[Fingerprints, Integers]:
    """The fingerprints of all images of a table (exact, phash, thumbnails), and the row that each belongs to."""
    rows = table.select(["exact", "phash", "thumbnails"]).to_pylist()
    images = [
        (place, image)
        for place, row in enumerate(rows)
        if row["phash"]
        for image in zip(row["exact"], row["phash"], row["thumbnails"], strict=True)
    ]
    return stack([image for _, image in images]), np.array([place for place, _ in images], np.int64)


def reference_of(measured: Measured) -> Fingerprints:
    """The fingerprints of all images of an evaluation set."""
    return join([fingerprints(table)[0] for _, table in measured.tables("exact", "phash", "thumbnails")])


def showing(
    measured: Measured, reference: Fingerprints | None, config: CurateConfig, alive: Mask
) -> Iterator[Integers]:
    """The living rows with an image of the reference, table by table."""
    for part, table in measured.tables("exact", "phash", "thumbnails") if reference else ():
        rows = part.start + np.flatnonzero(alive[part])
        prints, owners = fingerprints(table.filter(pa.array(alive[part])))
        if reference and len(prints):
            mask = contaminated(prints, reference, config.evaluation_distance, config.verify_difference)
            yield rows[np.unique(owners[mask])]


def _hash_lines(row: Row) -> list[Row]:
    pictures = row["pdq"] or [None] * len(row["md5"])  # an image that cannot be decoded has none
    common = {name: row[name] for name in ("uid", "source", "url", "original_md5", "original_sha256")}
    files = zip(row["md5"], row["sha256"], pictures, strict=True)
    lines = [
        common | {"image": image, "md5": md5, "sha256": sha256, "pdq": picture}
        for image, (md5, sha256, picture) in enumerate(files)
    ]
    return lines or [common]


def _unfit(table: pa.Table, made: Decisions, config: CurateConfig) -> NDArray[np.int16]:
    """The code of the first bound of its source's rule that each sample breaks; text alone breaks none."""
    bad = table["bad_image"].to_pylist() if table["bad_image"].null_count < table.num_rows else []
    codes = np.zeros(table.num_rows, np.int16)
    for row, reason in enumerate(bad):
        codes[row] = KEPT if reason is None else made.code(reason)
    has_image = table["side"].is_valid().to_numpy()
    for source in pc.unique(table["source"]).to_pylist():
        mine = has_image & pc.equal(table["source"], source).to_numpy()
        for reason, score, low, high in _bounds(rule_of(source, config.rules)):
            values = pc.fill_null(table[score].cast(pa.float64()), np.nan).to_numpy()
            outside = (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))
            codes[mine & outside & (codes == KEPT)] = made.code(reason)
    return codes


def _bounds(rule: SourceRule) -> list[tuple[str, str, float | None, float | None]]:
    """Reason, score, smallest and largest value of each bound that is set."""
    bounds = [
        ("small", "side", rule.min_side, None), ("aspect", "aspect", None, rule.max_aspect),
        ("blank", "entropy", rule.min_entropy, None), ("blurred", "sharpness", rule.min_sharpness, None),
        ("text_area", "text_area", None, rule.max_text_area), ("dissimilar", "similarity", rule.min_similarity, None),
        *((bound.score, bound.score, bound.minimum, bound.maximum) for bound in rule.scores),
    ]  # fmt: skip
    return [bound for bound in bounds if bound[2] is not None or bound[3] is not None]


def _drop_copies(made: Decisions, contents: Words) -> None:
    """Of samples with the same pixels and texts, or the same uid, the first stays."""
    alive = np.concatenate([np.ones(made.num_known, np.bool_), made.kept()])
    copies, owners = find_copies(made.uids, contents, alive, made.num_known)
    made.drop(copies - made.num_known, "duplicate", owners)


def _drop_contaminated(
    made: Decisions, measured: Measured, reference: Fingerprints | None, config: CurateConfig
) -> None:
    """A sample with any image of the evaluation set must not be trained on."""
    for rows in showing(measured, reference, config, made.kept()):
        made.drop(rows, "contaminated")


def _drop_near_duplicates(made: Decisions, looks: Looks, index: Index, config: CurateConfig, scratch: Path) -> None:
    """Of images that look alike the best stays: an earlier run's, the largest, the most similar to its caption."""
    if not len(looks.rows):
        return
    found = _find(looks, config, scratch)
    index.note_popular(looks.hashes(found.popular), config.max_bucket)
    places = np.concatenate([index.compared, made.num_known + looks.rows])
    made.drop(_new(looks, found.popular), "popular_hash")
    pairs = found.duplicates[found.duplicates[:, 0] >= looks.num_known]  # what earlier runs kept stays
    made.drop(_new(looks, pairs[:, 0]), "near_duplicate", places[pairs[:, 1]])


def _drop_semantic(made: Decisions, looks: Looks, config: CurateConfig, scratch: Path) -> None:
    """Of this run's images that mean the same the best stays, by the same preference."""
    if config.semantic is None:
        return
    rows = looks.rows[made.kept()[looks.rows]]
    dropped, kept = find_semantic(looks.measured, rows, made.uids[:, made.num_known + rows], config.semantic, scratch)
    made.drop(dropped, "semantic_duplicate", made.num_known + kept)


def _new(looks: Looks, ranks: Integers) -> Integers:
    """The measured rows of some ranks, the index's left out."""
    return looks.rows[ranks[ranks >= looks.num_known] - looks.num_known]


def _find(looks: Looks, config: CurateConfig, scratch: Path) -> Found:
    """In this process or on Spark: the same result."""
    bounds = Bounds(distance=config.near_distance, difference=config.verify_difference, max_bucket=config.max_bucket)
    if len(looks) <= config.spark_above:
        return find(looks.hashes(), looks, bounds)
    from arm.data.near_duplicates_spark import find_on_spark
    from arm.data.spark import spark_session

    folder = scratch / "rows"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():  # by a run that was killed
        left.unlink()
    looks.write(folder)
    with spark_session(config.spark, scratch) as spark:
        return find_on_spark(spark, str(folder), bounds)
