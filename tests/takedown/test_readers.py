"""What was taken down is refused by the jobs that read samples, and counted as such."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from takedown_store import UIDS, captioned, pairs_table

from arm.data import judging
from arm.data.config import CurateConfig, DownloadConfig, FilterConfig, SourceRule
from arm.data.curation_index import Index
from arm.data.decisions import decide
from arm.data.measured import open_measured
from arm.data.measuring import Task, measure_shard
from arm.data.sample_rows import words_in
from arm.data.shards import read_shard, write_shard
from arm.data.tables import check_balance, keep_allowed
from arm.data.units import COLUMNS, write_units
from arm.tokenizer.config import EncodeConfig
from arm.tokenizer.encoding.decoding import Decoder
from arm.tokenizer.training.pairs import read_index

GONE = frozenset({UIDS[2], UIDS[7]})


def test_filter_pairs_drops_it_as_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "detect_languages", lambda captions, *_: ["en"] * len(captions))  # loads for seconds
    judged = judging.judge_table(pairs_table().drop_columns(["language", "num_masked"]), FilterConfig(), refused=GONE)
    reasons = dict(zip(judged["uid"].to_pylist(), judged["reason"].to_pylist(), strict=True))
    assert {uid for uid, reason in reasons.items() if reason == "tombstone"} == GONE


def test_download_images_never_asks_for_it(tmp_path: Path) -> None:
    allowed = keep_allowed(pairs_table().select(list(COLUMNS)), GONE)
    assert write_units([allowed], tmp_path / "units", DownloadConfig()) == 1
    (unit,) = (tmp_path / "units").glob("*.parquet")
    assert set(pq.read_table(unit)["uid"].to_pylist()) == set(UIDS) - GONE


def test_uids_as_bytes_are_refused_too() -> None:
    table = pa.table({"uid": pa.array([bytes.fromhex(uid) for uid in UIDS], pa.binary(16))})
    assert keep_allowed(table, GONE).num_rows == 6
    assert keep_allowed(table, frozenset()) is table


def test_curate_images_decodes_nothing_of_it_and_counts_it(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [captioned(number) for number in range(8)])
    config = CurateConfig(rules=(SourceRule(near_duplicates=False),))
    task = Task(tmp_path / "a.tar", tmp_path / "a.parquet", config.rules, None, 1, (), GONE)
    measured = open_measured([measure_shard(task)])
    (_, table), *_ = measured.tables("uid", "side")
    assert {row["uid"] for row in table.to_pylist() if row["side"] is None} == GONE
    made = decide(measured, None, Index(), set(), config, tmp_path)
    reasons = made.reasons(slice(0, 8)).to_pylist()
    assert {uid for uid, reason in zip(table["uid"].to_pylist(), reasons, strict=True) if reason == "tombstone"} == GONE
    kept = int(made.kept().sum())
    check_balance({"samples_read": 8, "samples_kept": kept, "dropped/tombstone": 2}, "samples_read", "samples_kept")


def test_tokenize_images_gives_the_reason() -> None:
    decode = Decoder(EncodeConfig(), 4, GONE)
    assert [isinstance(decode(captioned(number)), str) for number in range(8)] == [n in (2, 7) for n in range(8)]
    assert decode(captioned(7)) == "tombstone"


def test_image_shards_are_read_without_it(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [captioned(number) for number in range(8)])
    left = [uid for uid in UIDS if uid not in GONE]
    assert [sample.uid for sample in read_shard(tmp_path / "a.tar", GONE)] == left
    pairs = [*read_index(tmp_path / "a.tar", held_out=True, refused=GONE)]
    pairs += read_index(tmp_path / "a.tar", held_out=False, refused=GONE)
    assert sorted(pair.uid for pair in pairs) == sorted(left)


def test_words_are_found_however_deep() -> None:
    values = {"url": "http://a.test/", "frames": [{"sha256": "9f"}, ("b", 3, None)]}
    assert list(words_in(values)) == ["http://a.test/", "9f", "b"]
    deep: list[object] = ["http://deep.test/"]
    for _ in range(5_000):
        deep = [deep]
    assert list(words_in(deep)) == ["http://deep.test/"]
