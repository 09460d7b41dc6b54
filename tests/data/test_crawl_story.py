"""The real crawl goes the whole way: extract, filter, download from a replay of itself, curate. Every count balances."""

import hashlib
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pictures import artifact

from arm.data.config import CurateConfig, DownloadConfig, ExtractConfig, FilterConfig, HostException, SourceRule
from arm.data.curation import curate_images
from arm.data.download import download_images
from arm.data.extraction import extract_file, extract_pairs
from arm.data.filtering import filter_pairs
from arm.data.judging import judge_table
from arm.data.replay import replay
from arm.data.shards import read_samples
from arm.data.tables import write_table
from arm.manifest import Manifest
from arm.storage import LocalFolder
from arm.tokenizer.config import DetokenizerConfig, EvaluateTokenizerConfig
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.evaluation.evaluate import evaluate_tokenizer
from tests.tokenizer import tiny

HOST = "127.0.0.1:8771"


def test_the_real_crawl_becomes_curated_samples(shared: Path, tmp_path: Path) -> None:
    warc = shared / "crawl" / "skimage-gallery.warc.gz"
    extracted = extract_pairs(output=LocalFolder(tmp_path / "1"), config=ExtractConfig(paths=(str(warc),))).counts
    assert (extracted["records_read"], extracted["pages_read"], extracted["skipped/not_html"]) == (235, 87, 148)
    assert extracted["candidates_found"] == extracted["pairs_extracted"] + extracted["dropped/no_caption"] == 512

    filtered = filter_pairs(
        pairs=artifact(tmp_path / "1"), output=LocalFolder(tmp_path / "2"), config=FilterConfig(private_hosts=(HOST,))
    ).counts
    dropped = sum(count for name, count in filtered.items() if name.startswith("dropped/"))
    assert filtered["pairs_read"] == extracted["pairs_extracted"] == filtered["pairs_kept"] + dropped

    downloaded = _download(warc, artifact(tmp_path / "2"), tmp_path / "3")
    assert (
        downloaded["urls_read"]
        == filtered["pairs_kept"]
        == downloaded["images_downloaded"] + downloaded["failed/http_404"]
    )
    assert downloaded["images_downloaded"] > 90
    failures = pq.read_table(tmp_path / "3/failures").to_pylist()
    assert {(row["reason"], row["status"]) for row in failures} == {("http_404", 404)}

    curated = curate_images(
        crawled=artifact(tmp_path / "3"), output=LocalFolder(tmp_path / "4"),
        config=CurateConfig(rules=(SourceRule(min_side=150, max_aspect=2.0),), samples_per_shard=50, workers=1),
    ).counts  # fmt: skip
    dropped = sum(count for name, count in curated.items() if name.startswith("dropped/"))
    assert curated["samples_read"] == downloaded["images_downloaded"] == curated["samples_kept"] + dropped
    samples = list(read_samples(artifact(tmp_path / "4")))
    assert len(samples) == curated["samples_kept"] > 80
    assert all(min(sample.meta["original_width"], sample.meta["original_height"]) >= 150 for sample in samples)


@pytest.mark.slow
def test_the_images_of_the_real_crawl_go_through_codes_and_back(shared: Path, tmp_path: Path) -> None:
    """Extract, filter, download, curate; then a random tokenizer codes and renders the shards as photographs."""
    warc = shared / "crawl" / "skimage-gallery.warc.gz"
    extract_pairs(output=LocalFolder(tmp_path / "1"), config=ExtractConfig(paths=(str(warc),)))
    config = FilterConfig(private_hosts=(HOST,))
    filter_pairs(pairs=artifact(tmp_path / "1"), output=LocalFolder(tmp_path / "2"), config=config)
    _download(warc, artifact(tmp_path / "2"), tmp_path / "3")
    curated = curate_images(
        crawled=artifact(tmp_path / "3"), output=LocalFolder(tmp_path / "4"),
        config=CurateConfig(rules=(SourceRule(min_side=150, max_aspect=2.0),), samples_per_shard=50, workers=1),
    ).counts  # fmt: skip
    models = _models(tmp_path / "models")
    outcome = evaluate_tokenizer(
        **models, evaluation=artifact(tmp_path / "4"), output=LocalFolder(tmp_path / "5"),
        config=EvaluateTokenizerConfig(
            photographs=str(tmp_path / "4/shards/*.tar"), photograph_resolution=tiny.SQUARE, resolutions=(tiny.SQUARE,),
            threads=1,
        ),
    )  # fmt: skip
    counts = outcome.counts
    skipped = sum(count for name, count in counts.items() if name.startswith("skipped/"))
    assert counts["images"] == counts["photographs_read"] == curated["samples_kept"]  # a sample is one image
    assert counts["photographs"] == counts["photographs_read"] - skipped > 80
    assert outcome.metrics["photographs/reconstruction/psnr_per_image"] > 0
    for name in ("photographs", "reconstruction"):
        assert _size(tmp_path / f"5/samples/{name}.png") == (
            8 * 148,
            9 * 100 + 2 * 20,
        )  # 24 images of 8 x 12, 3 lines each


@pytest.mark.slow
def test_the_same_downloads_give_the_same_bytes_whatever_finishes_first(shared: Path, tmp_path: Path) -> None:
    warc = shared / "crawl" / "skimage-gallery.warc.gz"
    unit = {"index": 0, "name": warc.name, "path": str(warc)}
    extract_file(unit, str(tmp_path / "1"), ExtractConfig(paths=(str(warc),)))
    rows = pq.read_table(tmp_path / "1/pairs/part-00000.parquet").replace_schema_metadata(None)
    judged = judge_table(rows.slice(0, 60), FilterConfig(private_hosts=(HOST,)))
    write_table(LocalFolder(tmp_path / "2"), "pairs/part-00000.parquet", judged.filter(pc.is_null(judged["reason"])))
    for name in ("once", "again"):
        _download(warc, artifact(tmp_path / "2"), tmp_path / name)
    assert _digests(tmp_path / "once") == _digests(tmp_path / "again") != {}


def _download(warc: Path, pairs: Manifest, output: Path) -> dict[str, int]:
    with replay([warc]) as server:
        exception = HostException(host=HOST, address="127.0.0.1", port=server.port)
        config = DownloadConfig(
            image_size=128,
            unit_rows=60,
            encode_format="png",
            encode_quality=1,
            exceptions=(exception,),
            requests_per_second_per_host=1e4,
        )
        return download_images(pairs=pairs, output=LocalFolder(output), config=config).counts


def _models(folder: Path) -> dict[str, Manifest]:
    """A random tokenizer and a random detokenizer of 12×12 images."""
    visual = tiny.visual_tokenizer()
    visual.save_pretrained(folder / "tokenizer/tokenizer")
    tiny.make_autoencoder(folder / "autoencoder")
    config = DetokenizerConfig(backbone="dit", flow=replace(tiny.FLOW, patch=1), guidance=1.0, sampling_steps=2)
    codec = LatentCodec.from_pretrained(folder / "autoencoder/model")
    Detokenizer.create(codec, visual, config).save_pretrained(folder / "detokenizer/detokenizer")
    return {name: tiny.manifest(folder / name, name) for name in ("tokenizer", "detokenizer")}


def _size(path: Path) -> tuple[int, int]:
    with PIL.Image.open(path) as picture:
        return picture.size


def _digests(folder: Path) -> dict[str, str]:
    """Files that a manifest names: those of `view/` hold times."""
    files = [path for path in sorted(folder.rglob("*.*")) if path.is_file() and not {".work", "view"} & {*path.parts}]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
