"""What img2dataset left becomes units: too many silent hosts fail the job before it publishes, and are asked again."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import artifact, picture

from arm.data import download
from arm.data.config import DownloadConfig
from arm.data.images import encode_image
from arm.data.shards import read_shard
from arm.data.tar import write_members
from arm.errors import ArmError
from arm.manifest import Manifest
from arm.records import make_uid
from arm.storage import LocalFolder

CONFIG = DownloadConfig(unit_rows=3, encode_format="png", encode_quality=1, max_unresolved_share=0.4)
UIDS = [make_uid(str(number)) for number in range(6)]
COLUMNS = ("uid", "key", "status", "error_message", "url", "caption", "page_url", "kind", "language", "sha256")


class Network:
    """Stands where img2dataset stood: does the units whose stats are absent, and remembers which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.silent: set[int] = set()
        self.asked: list[int] = []
        monkeypatch.setattr(download, "_download", self)

    def __call__(self, parts: Path, private: Path, *_: Any) -> None:
        for unit in range(2):
            if not (private / f"{unit:05d}_stats.json").exists():
                self.asked.append(unit)
                self.do(private / f"{unit:05d}", range(unit * 3, unit * 3 + 3))

    def do(self, stem: Path, numbers: range) -> None:
        rows, images = [], []
        for number in numbers:
            row: dict[str, Any] = dict.fromkeys(COLUMNS, "x") | {"uid": UIDS[number], "key": f"{number:09d}"}
            row |= {"original_width": 36, "original_height": 36, "status": "success", "error_message": None}
            if number in self.silent:
                row |= {"status": "failed_to_download", "error_message": "timeout"}
            else:
                images.append((f"{number:09d}.png", encode_image(picture(number)).data))
            rows.append(row)
        pq.write_table(pa.Table.from_pylist(rows), f"{stem}.parquet")
        write_members(Path(f"{stem}.tar"), images)
        Path(f"{stem}_stats.json").write_text("{}")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


@pytest.fixture
def pairs(tmp_path: Path) -> Manifest:
    """Six pairs, two units."""
    (tmp_path / "in/pairs").mkdir(parents=True)
    rows = [{"uid": uid, "url": f"http://a.test/{number}"} for number, uid in enumerate(UIDS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/pairs/part-00000.parquet")
    return artifact(tmp_path / "in", "filtered-pairs")


def test_silence_fails_the_job_before_it_publishes_and_a_rerun_asks_the_silent_unit_alone(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    output = LocalFolder(tmp_path / "out")
    network.silent = {0, 3, 4}
    with pytest.raises(ArmError, match=r"3 of 6 URLs gave no answer.* asks 1 of 2 units again"):
        download.download_images(pairs=pairs, output=output, config=CONFIG)
    assert (network.asked, output.list()) == ([0, 1], [])
    network.silent = {3}
    counts = download.download_images(pairs=pairs, output=output, config=CONFIG).counts
    assert network.asked == [0, 1, 1]
    assert counts == {"urls_read": 6, "images_downloaded": 4, "failed/timeout": 2}


def test_one_silent_unit_is_published_while_the_share_over_all_is_small_enough(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    network.silent = {3, 4}
    output = LocalFolder(tmp_path / "out")
    counts = download.download_images(pairs=pairs, output=output, config=CONFIG).counts
    assert counts == {"urls_read": 6, "images_downloaded": 4, "failed/timeout": 2}
    assert [sample.uid for sample in read_shard(output.fetch("shards/crawl-00001.tar"))] == [UIDS[5]]
    rows = pq.read_table(output.fetch("failures/crawl-00001.parquet")).to_pylist()
    assert [(row["uid"], row["url"], row["reason"], row["status"]) for row in rows] == sorted(
        (UIDS[number], f"http://a.test/{number}", "timeout", None) for number in (3, 4)
    )
    output.delete("failures/crawl-00001.parquet")  # as if a kill had come between the two units
    assert download.download_images(pairs=pairs, output=output, config=CONFIG).counts == counts


def test_an_image_that_img2dataset_counts_and_does_not_hold_is_lost(
    network: Network, pairs: Manifest, tmp_path: Path
) -> None:
    output = LocalFolder(tmp_path / "out")
    network(tmp_path, output.scratch("img2dataset"))
    write_members(output.scratch("img2dataset") / "00000.tar", [])
    config = DownloadConfig(unit_rows=3, encode_format="png", encode_quality=1)
    counts = download.download_images(pairs=pairs, output=output, config=config).counts
    assert counts == {"urls_read": 6, "images_downloaded": 3, "failed/lost": 3}
