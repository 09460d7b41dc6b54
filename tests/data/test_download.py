"""What img2dataset left becomes units: too many silent hosts fail the job before it publishes, and are asked again."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import artifact, picture

from arm.data import download
from arm.data.config import DownloadConfig, SparkConfig
from arm.data.images import encode_image
from arm.data.shards import read_shard
from arm.data.units import COLUMNS
from arm.errors import ArmError, UserError
from arm.manifest import Manifest
from arm.records import make_uid
from arm.storage import LocalFolder

CONFIG = DownloadConfig(unit_rows=3, encode_format="png", encode_quality=1, max_unresolved_share=0.4)
UIDS = sorted(make_uid(str(number)) for number in range(6))
LEFT = (*COLUMNS, "key", "sha256")
SIDES = ("width", "height", "original_width", "original_height")


class Network:
    """Stands where img2dataset stood: does the units whose stats are absent, and remembers which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: dict[int, str] = {}
        self.asked: list[int] = []
        monkeypatch.setattr(download, "_download", self)

    def __call__(self, rows: Path, private: Path, *_: Any) -> None:
        for unit, path in enumerate(sorted(rows.iterdir())):
            if not (private / f"{unit:05d}_stats.json").exists():
                self.asked.append(unit)
                self.do(private / f"{unit:05d}", pq.read_table(path).to_pylist())

    def do(self, stem: Path, asked: list[dict[str, Any]]) -> None:
        rows, images = [], b""
        for pair in asked:
            row: dict[str, Any] = dict.fromkeys(LEFT, "x") | pair | dict.fromkeys(SIDES, 36)
            row |= {"status": "success", "error_message": None, "offset": len(images), "length": None}
            number = UIDS.index(pair["uid"])
            if number in self.failing:
                row |= {"status": "failed_to_download", "error_message": self.failing[number]}
            else:
                data = encode_image(picture(number)).data
                row["length"] = len(data)
                images += data
            rows.append(row)
        kept = [row["error_message"] != "forgotten" for row in rows]
        pq.write_table(pa.Table.from_pylist(rows).filter(pa.array(kept)), f"{stem}.parquet")
        pq.write_table(pa.table({"site": ["http://a.test"]}), f"{stem}_robots.parquet")
        Path(f"{stem}.images").write_bytes(images)
        Path(f"{stem}_stats.json").write_text("{}")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


@pytest.fixture
def pairs(tmp_path: Path) -> Manifest:
    """Six pairs of one host, which make two units: 0, 2, 4 and 1, 3, 5."""
    (tmp_path / "in/pairs").mkdir(parents=True)
    rows = [dict.fromkeys(COLUMNS, "x") | {"uid": uid, "url": f"http://a.test/{n}"} for n, uid in enumerate(UIDS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/pairs/part-00000.parquet")
    return artifact(tmp_path / "in", "filtered-pairs")


def made(pairs: Manifest, path: Path, config: DownloadConfig = CONFIG, earlier: Manifest | None = None) -> Manifest:
    """The job's output as the artifact that `jobs.run` would make of it."""
    outcome = download.download_images(pairs=pairs, output=LocalFolder(path), config=config, retry_failures=earlier)
    found = artifact(path)
    inputs = {"pairs": pairs.digest}
    return dataclasses.replace(found, job="download-images", inputs=inputs, counts=outcome.counts)


def shards_of(path: Path) -> dict[str, list[str]]:
    return {shard.stem: [sample.uid for sample in read_shard(shard)] for shard in sorted(path.glob("shards/*"))}


def test_silence_fails_the_job_before_it_publishes_and_a_rerun_asks_the_silent_unit_alone(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    network.failing = dict.fromkeys((0, 1, 3), "timeout_body")
    with pytest.raises(ArmError, match=r"3 of 6 URLs gave no answer.* asks 1 of 2 units again"):
        made(pairs, tmp_path / "out")
    assert (network.asked, LocalFolder(tmp_path / "out").list()) == ([0, 1], [])
    network.failing = {1: "timeout_body"}
    counts = made(pairs, tmp_path / "out").counts
    assert network.asked == [0, 1, 1]
    assert counts == {"urls_read": 6, "images_downloaded": 4, "failed/timeout_body": 2}


def test_one_silent_unit_is_published_while_the_share_over_all_is_small_enough(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    network.failing = {1: "timeout_body", 3: "http_429 429"}
    counts = made(pairs, tmp_path / "out").counts
    assert counts == {"urls_read": 6, "images_downloaded": 4, "failed/http_429": 1, "failed/timeout_body": 1}
    assert shards_of(tmp_path / "out") == {"crawl-00000": UIDS[0::2], "crawl-00001": [UIDS[5]]}
    rows = pq.read_table(tmp_path / "out/failures/crawl-00001.parquet").to_pylist()
    assert [(row["uid"], row["url"], row["reason"], row["status"], row["attempt"]) for row in rows] == [
        (UIDS[1], "http://a.test/1", "timeout_body", None, 1),
        (UIDS[3], "http://a.test/3", "http_429", 429, 1),
    ]
    LocalFolder(tmp_path / "out").delete("failures/crawl-00001.parquet")  # as if a kill had come between the two units
    assert made(pairs, tmp_path / "out").counts == counts


def test_verdicts_lie_where_no_digest_covers_them(network: Network, pairs: Manifest, tmp_path: Path) -> None:
    found = made(pairs, tmp_path / "out")
    assert (tmp_path / "out/view/robots/crawl-00001.parquet").is_file()
    assert [entry.path for entry in found.files if entry.path.startswith("view/")] == []


def test_a_url_that_img2dataset_says_nothing_of_is_lost(network: Network, pairs: Manifest, tmp_path: Path) -> None:
    network.failing = {0: "forgotten", 2: "http_404 404"}
    counts = made(pairs, tmp_path / "out").counts
    assert counts == {"urls_read": 6, "images_downloaded": 4, "failed/http_404": 1, "failed/lost": 1}
    network.failing = dict.fromkeys(range(6), "forgotten")
    with pytest.raises(ArmError, match="6 of 6 URLs gave no answer"):
        made(pairs, tmp_path / "again")


def test_another_attempt_asks_for_what_may_come_alone_and_completes_the_earlier_output(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    network.failing = {0: "http_404 404", 1: "timeout_headers", 2: "robots", 3: "http_503 503"}
    first = made(pairs, tmp_path / "1")
    network.failing, network.asked = {3: "dns"}, []
    second = made(pairs, tmp_path / "2", earlier=first)
    assert network.asked == [0]  # two rows, one unit
    assert second.counts == {"urls_read": 2, "images_downloaded": 1, "failed/dns": 1}
    network.failing = {}
    third = made(pairs, tmp_path / "3", earlier=second)
    assert third.counts == {"urls_read": 1, "images_downloaded": 1}
    assert shards_of(tmp_path / "2") == {"crawl-attempt2-00000": [UIDS[1]]}
    assert shards_of(tmp_path / "3") == {"crawl-attempt3-00000": [UIDS[3]]}
    assert pq.read_table(tmp_path / "2/failures")["attempt"].to_pylist() == [2]
    downloaded = sum(found.counts["images_downloaded"] for found in (first, second, third))
    settled = first.counts["failed/http_404"] + first.counts["failed/robots"]
    assert downloaded + settled == first.counts["urls_read"] == 6
    with pytest.raises(UserError, match="holds no failure that another attempt may cure"):
        made(pairs, tmp_path / "4", earlier=third)


def test_another_attempt_completes_a_compacted_output_too(network: Network, pairs: Manifest, tmp_path: Path) -> None:
    network.failing = {1: "timeout_headers"}
    first = dataclasses.replace(made(pairs, tmp_path / "1"), job="takedown")
    network.failing = {}
    assert made(pairs, tmp_path / "2", earlier=first).counts == {"urls_read": 1, "images_downloaded": 1}


def test_another_attempt_at_other_pairs_is_refused(network: Network, pairs: Manifest, tmp_path: Path) -> None:
    other = dataclasses.replace(made(pairs, tmp_path / "1"), inputs={"pairs": "0" * 64})
    with pytest.raises(UserError, match="was not downloaded from"):
        made(pairs, tmp_path / "2", earlier=other)
    with pytest.raises(UserError, match="was not downloaded from"):
        made(pairs, tmp_path / "2", earlier=pairs)


def test_a_plan_that_a_kill_left_unfinished_is_made_anew(network: Network, pairs: Manifest, tmp_path: Path) -> None:
    draft = LocalFolder(tmp_path / "out").scratch("units") / "rows.part"
    draft.mkdir()
    (draft / "000000000.parquet").write_bytes(b"PAR1")
    assert made(pairs, tmp_path / "out").counts == {"urls_read": 6, "images_downloaded": 6}


@pytest.mark.parametrize(
    ("master", "forgiving"), [("local[2]", "local[2,4]"), ("local[*]", "local[*,4]"), ("local[2,1]",) * 2, ("",) * 2]
)
def test_on_one_machine_a_lost_task_is_tried_again(master: str, forgiving: str) -> None:
    assert download._forgiving(SparkConfig(master=master)).master == forgiving
