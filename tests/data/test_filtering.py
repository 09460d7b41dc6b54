"""Pairs are judged alone, then compared; what one crawl had, the next one drops; nothing is lost on the way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import artifact

from arm.data.buckets import write_buckets
from arm.data.config import FilterConfig, SparkConfig
from arm.data.extraction import PAIRS
from arm.data.filtering import filter_pairs
from arm.data.judging import KIND_RANKS, Part, judge_part
from arm.data.normalisation import pair_uid
from arm.data.spark import import_path
from arm.data.tables import read_counts, write_table
from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import LocalFolder

CONFIG = FilterConfig(candidate_languages=("ja", "ko"), max_caption_repeats=2)
"""Two languages that need no model for Latin captions."""
Row = dict[str, Any]


def row(image: str, caption: str, kind: str = "alt", page: str = "http://garden.test/") -> Row:
    url = f"http://garden.test/{image}.png"
    return {"uid": pair_uid(url, caption), "url": url, "caption": caption, "kind": kind, "page_url": page}


def crawl(path: Path, *parts: Iterable[Row]) -> Manifest:
    for index, rows in enumerate(parts):
        write_table(LocalFolder(path), f"pairs/part-{index:05d}.parquet", pa.Table.from_pylist(list(rows), PAIRS))
    return artifact(path, "pairs")


def filtered(pairs: Manifest, output: Path, config: FilterConfig = CONFIG, seen: Manifest | None = None) -> Manifest:
    outcome = filter_pairs(pairs=pairs, output=LocalFolder(output), config=config, seen=seen)
    LocalFolder(output).discard_scratch()
    return replace(artifact(output, "filtered-pairs"), counts=outcome.counts)


def kept(output: Manifest) -> list[tuple[str, str]]:
    """(image, caption) of what was kept."""
    rows = pq.read_table(f"{output.folder.url}/pairs").to_pylist()
    return sorted((r["url"].rpartition("/")[2][:-4], r["caption"]) for r in rows)


def dropped(output: Manifest) -> Counter[tuple[str, str]]:
    """(image, reason) of what was dropped."""
    rows = pq.read_table(f"{output.folder.url}/dropped").to_pylist()
    return Counter((r["url"].rpartition("/")[2][:-4], r["reason"]) for r in rows)


@pytest.mark.slow
def test_a_second_crawl_adds_only_what_is_new(tmp_path: Path) -> None:
    first = crawl(
        tmp_path / "1",
        [row("a", "a red circle"), row("a", "a red circle"), row("b", "go"), row("logo1", "our shop logo")],
        [row("a", "a red circle"), row("a", "the red one", "title"), row("c", "a small square"), row("logo2", "our shop logo")],
    )  # fmt: skip
    one = filtered(first, tmp_path / "one")
    assert kept(one) == [
        ("a", "a red circle"),
        ("c", "a small square"),
        ("logo1", "our shop logo"),
        ("logo2", "our shop logo"),
    ]
    assert dropped(one) == {("a", "duplicate_pair"): 2, ("b", "short_caption"): 1, ("a", "other_caption"): 1}
    assert one.counts == {
        "pairs_read": 8, "pairs_kept": 4, "pairs_remembered": 5,
        "dropped/duplicate_pair": 2, "dropped/short_caption": 1, "dropped/other_caption": 1,
    }  # fmt: skip

    second = crawl(
        tmp_path / "2",
        [row("a", "a red circle"), row("a", "the red one"), row("c", "one more square"), row("d", "a new triangle")],
        [row("d", "a new triangle"), row("logo3", "our shop logo")],
    )  # fmt: skip
    two = filtered(second, tmp_path / "two", seen=one)
    assert kept(two) == [("d", "a new triangle")]
    assert dropped(two) == {
        ("a", "seen_before"): 2,  # the one kept, and the one that was dropped then
        ("c", "seen_image"): 1,
        ("d", "duplicate_pair"): 1,
        ("logo3", "popular_caption"): 1,  # with two of the first crawl the caption stands under three images
    }
    assert two.counts == {
        "pairs_read": 6, "pairs_kept": 1, "pairs_remembered": 8, "pairs_known": 5, "pairs_new": 1,
        "dropped/seen_before": 2, "dropped/seen_image": 1, "dropped/duplicate_pair": 1, "dropped/popular_caption": 1,
    }  # fmt: skip
    report = Path(two.folder.url, "report/report.md").read_text()
    assert "Of 6 pairs 1 were kept (16.7%). Earlier runs had compared 5 pairs: 2 of these came again." in report
    slices = pq.read_table(f"{two.folder.url}/report/slices.parquet").to_pylist()
    assert {(r["slice"], r["value"], r["reason"]): r["pairs"] for r in slices}[
        "site", "garden.test", "seen_before"
    ] == 2
    assert {s: sum(r["pairs"] for r in slices if r["slice"] == s) for s in ("language", "kind", "site")} == {
        "language": 6, "kind": 6, "site": 6,
    }  # fmt: skip


@pytest.mark.slow
def test_a_crawl_of_which_nothing_is_kept_and_one_of_a_single_pair(tmp_path: Path) -> None:
    none = filtered(crawl(tmp_path / "1", [row("a", "no")], []), tmp_path / "none")
    assert (kept(none), none.counts) == ([], {
        "pairs_read": 1, "pairs_kept": 0, "pairs_remembered": 0, "dropped/short_caption": 1,
    })  # fmt: skip
    one = filtered(crawl(tmp_path / "2", [row("a", "a red circle")]), tmp_path / "one", seen=none)
    assert (kept(one), one.counts["pairs_known"], one.counts["pairs_new"]) == ([("a", "a red circle")], 0, 1)


def test_what_cannot_be_filtered_is_said_in_a_sentence(tmp_path: Path) -> None:
    pairs = crawl(tmp_path / "1", [row("a", "a red circle")])
    with pytest.raises(UserError, match=r"holds no seen/; give an earlier output"):
        filtered(pairs, tmp_path / "out", seen=pairs)
    with pytest.raises(UserError, match="holds no pair"):
        filtered(artifact(tmp_path / "nothing"), tmp_path / "out")


def test_masking_comes_first_and_makes_the_uid_of_what_is_published(tmp_path: Path) -> None:
    rows = [row("a", "ask ann@garden.test for it"), row("a", "ask bob@garden.test for it"), row("b", "+49 30 1234567")]
    config = replace(CONFIG, mask_personal_data=("email", "phone"))
    pairs = crawl(tmp_path / "1", rows)
    counts = judge_part(Part(0, pairs.files[0]), pairs, str(tmp_path / "out"), config)
    assert counts == {
        "pairs_read": 3, "pairs_compared": 1, "dropped/duplicate_pair": 1, "dropped/few_words": 1,
        "masked/email": 2, "masked/phone": 1,
    }  # fmt: skip
    (fit,) = pq.read_table(tmp_path / "out/.work/filter/rows/00000.parquet").to_pylist()
    assert (fit["caption"], fit["num_masked"]) == ("ask <email> for it", 1)
    assert fit["uid"] == pair_uid("http://garden.test/a.png", "ask <email> for it")
    gone = pq.read_table(tmp_path / "out/dropped/rules-00000.parquet").to_pylist()
    assert [(r["caption"], r["reason"]) for r in gone] == [
        ("ask <email> for it", "duplicate_pair"),
        ("<phone>", "few_words"),
    ]


def test_a_part_that_was_judged_is_not_judged_again(tmp_path: Path) -> None:
    pairs = crawl(tmp_path / "1", [row("a", "a red circle")])
    part = Part(0, pairs.files[0])
    counts = judge_part(part, pairs, str(tmp_path / "out"), CONFIG)
    (tmp_path / "1/pairs/part-00000.parquet").unlink()
    assert judge_part(part, pairs, str(tmp_path / "out"), CONFIG) == counts


def stream() -> pa.RecordBatch:
    """Two buckets as Spark hands them over: decisions, each followed by its rows."""
    rows = []
    for number in range(40):
        bucket, uid, reason = number // 20, f"{number:032x}", ("popular_caption" if number % 5 == 0 else None)
        shared = {"bucket": bucket, "uid": bytes.fromhex(uid), "url_key": number, "caption_key": -number}
        rows.append(shared | {"is_row": False, "order": 100 * number, "known": None, "reason": reason})
        for copy in range(number % 3):
            rows.append(shared | row("a", "a red circle") | {
                "uid": bytes.fromhex(uid), "text_uid": uid, "is_row": True, "order": 100 * number + copy, "language": "en", "num_masked": 0,
            })  # fmt: skip
    fields = [field for field in PAIRS if field.name != "uid"]
    extra = [
        ("bucket", pa.int32()), ("uid", pa.binary()), ("url_key", pa.int64()), ("caption_key", pa.int64()), ("is_row", pa.bool_()),
        ("order", pa.int64()), ("known", pa.bool_()), ("reason", pa.string()), ("text_uid", pa.string()), ("language", pa.string()),
        ("num_masked", pa.int32()),
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(rows, pa.schema([*extra, *fields]))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_bucket_is_the_same_however_its_stream_is_cut(tmp_path: Path, size: int) -> None:
    whole = stream()
    batches = [whole.slice(start, size) for start in range(0, whole.num_rows, size)]
    done = [batch.to_pylist() for batch in write_buckets(str(tmp_path / "out"), batches)]
    assert done == [[{"bucket": 0}], [{"bucket": 1}]]
    list(write_buckets(str(tmp_path / "like"), [whole]))
    assert contents(tmp_path / "out") == contents(tmp_path / "like")
    # of the numbers 0 to 19, 7 have one row and 6 have two; 5 (two rows) and 10 (one) are popular
    assert read_counts(tmp_path / "out/pairs/part-00000.parquet") == {
        "pairs_compared": 19, "pairs_kept": 11, "pairs_remembered": 20,
        "dropped/popular_caption": 2, "dropped/duplicate_pair": 6,
    }  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every published file."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if ".work" not in path.parts}


def made_up(seed: int, num_rows: int) -> list[Row]:
    """Rows of few images and captions, so that everything meets: 20% carry one caption, 20% one image."""
    draw = random.Random(seed)
    rows = []
    for number in range(num_rows):
        image = "hot" if draw.random() < 0.2 else f"i{draw.randrange(num_rows // 4)}"
        caption = "the hot caption" if draw.random() < 0.2 else f"caption of number {draw.randrange(num_rows // 4)}"
        page = f"http://s{number % 40}.test/"
        rows.append(row(image, "no" if draw.random() < 0.1 else caption, draw.choice(KIND_RANKS), page))
    return rows


def expected(rows: list[Row], config: FilterConfig) -> dict[str, str]:
    """Uid -> the reason of its first copy or an empty string, by loops over everything."""
    first: dict[str, tuple[int, int, Row]] = {}
    for place, item in enumerate(rows):
        if item["caption"] != "no":
            order = (KIND_RANKS.index(item["kind"]), place, item)
            first[item["uid"]] = min(first.get(item["uid"], order), order, key=lambda o: o[:2])
    repeats = Counter(item["caption"] for _, _, item in first.values())
    decisions, captions = {}, Counter[str]()
    for _, _, item in sorted(first.values(), key=lambda o: o[:2]):
        if repeats[item["caption"]] > config.max_caption_repeats:
            decisions[item["uid"]] = "popular_caption"
            continue
        captions[item["url"]] += 1
        decisions[item["uid"]] = "other_caption" if captions[item["url"]] > config.captions_per_url else ""
    return decisions


@pytest.mark.slow
def test_spark_decides_as_plain_loops_do_at_any_number_of_partitions(tmp_path: Path) -> None:
    rows = made_up(0, 2_000)
    pairs = crawl(tmp_path / "in", *(rows[start : start + 500] for start in range(0, 2_000, 500)))
    config = replace(CONFIG, max_caption_repeats=8, captions_per_url=2, rows_per_part=300)
    outputs = {}
    for partitions in (1, 8):
        spark = SparkConfig(master=f"local[{min(2, partitions)}]", shuffle_partitions=partitions)
        outputs[partitions] = filtered(pairs, tmp_path / str(partitions), replace(config, spark=spark))
    assert contents(tmp_path / "1") == contents(tmp_path / "8")
    decisions = expected(rows, config)
    table = pq.read_table(tmp_path / "8/pairs").to_pylist()
    assert {r["uid"] for r in table} == {uid for uid, reason in decisions.items() if not reason}
    assert len(table) == len({r["uid"] for r in table}) > 300
    counts, reasons = outputs[8].counts, Counter(decisions.values())
    assert {r: counts[f"dropped/{r}"] for r in ("popular_caption", "other_caption")} == {
        r: reasons[r] for r in ("popular_caption", "other_caption")
    }
    assert counts["dropped/short_caption"] == sum(r["caption"] == "no" for r in rows)
    assert counts["dropped/duplicate_pair"] == 2_000 - counts["dropped/short_caption"] - len(decisions)
    again = filtered(pairs, tmp_path / "again", config, seen=outputs[8])
    assert (again.counts["pairs_new"], again.counts["dropped/seen_before"]) == (0, len(decisions))


FILTERING = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from test_filtering import CONFIG, artifact
from arm.data.filtering import filter_pairs
from arm.storage import LocalFolder
from dataclasses import replace

if __name__ == "__main__":
    config = replace(CONFIG, max_caption_repeats=8, rows_per_part=300)
    print(filter_pairs(pairs=artifact(Path(sys.argv[1])), output=LocalFolder(sys.argv[2]), config=config).counts)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    rows = made_up(1, 2_000)
    crawl(tmp_path / "in", *(rows[start : start + 250] for start in range(0, 2_000, 250)))
    assert run(tmp_path, "undisturbed").wait() == 0
    total, seed = num_files(tmp_path / "undisturbed"), random.randrange(1 << 30)
    draw = random.Random(seed)
    moments = sorted(draw.sample(range(total), 3))
    print(f"seed {seed}: killed at {moments} of {total} files")
    for moment in moments:
        victim = run(tmp_path, "killed")
        while num_files(tmp_path / "killed") < moment and victim.poll() is None:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.5))
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        LocalFolder(tmp_path / "killed").sweep()
    assert run(tmp_path, "killed").wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed") != {}


def num_files(folder: Path) -> int:
    """What was published, the working folder included."""
    return sum(path.is_file() and ".tmp-" not in path.name for path in folder.rglob("*.parquet"))


def run(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    here = Path(__file__).parent
    command = [sys.executable, "-c", FILTERING, folder / "in", folder / name, here, here.parents[1]]
    environment = {**os.environ, "PYTHONPATH": import_path()}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
