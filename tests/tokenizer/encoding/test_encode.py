"""tokenize-images: every task and size on one road, the same bytes for any number of workers, counts that balance."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_storage import moto_address, new_bucket, use_s3
from tiny_encoding import LARGE, PER_SHARD, SMALL, config, make_inputs, saved
from vq_checkpoints import save_alone

from arm import jobs, launch, manifest
from arm.data.config import ImportModelConfig
from arm.data.images import decode_image
from arm.data.model_import import import_model
from arm.data.shards import read_samples
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model import token_shards
from arm.records import TASKS, Image
from arm.storage import LocalFolder
from arm.tokenizer.config import EncodeConfig, VariantConfig
from arm.tokenizer.encoding import decoding, unit_files
from arm.tokenizer.encoding.checks import can_drift, drift, read_back
from arm.tokenizer.encoding.units import units_of
from arm.tokenizer.images import fit_pixels, to_images
from arm.tokenizer.protocol import load_tokenizer, tokenizer_folder
from arm.tokenizer.resolution import target_size

__all__ = ["moto_address"]
TWO = EncodeConfig(
    variants=(
        VariantConfig(name="small", resolution=SMALL),
        VariantConfig(name="large", resolution=LARGE, tasks=("text_to_image", "edit")),
    ),
    shards_per_unit=2, batch_size=16, threads=1, max_dropped_share=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "ARM_PART"):
        monkeypatch.delenv(name, raising=False)


def run(inputs: dict[str, Manifest], folder: Path, chosen: EncodeConfig) -> Manifest:
    urls = {name: made.url for name, made in inputs.items()}
    return jobs.run("tokenize-images", output=str(folder), config=chosen, inputs=urls)


@pytest.fixture(scope="module")
def made(inputs: dict[str, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four shards (garden 3, web 1) of two variants, in three units."""
    return run(inputs, tmp_path_factory.mktemp("tokens"), TWO)


def opened(inputs: dict[str, Manifest], tokens: Manifest, variant: str | None = None) -> list[token_shards.Shard]:
    fingerprint = load_tokenizer(tokenizer_folder(inputs["tokenizer"])).fingerprint
    return token_shards.open_shards(tokens, tokenizer_fingerprint=fingerprint, num_codes=16, variant=variant)


def test_units_are_consecutive_shards_of_one_source(inputs: dict[str, Manifest]) -> None:
    found = {unit.name: [entry.path for entry in unit.shards] for unit in units_of(inputs["images"], 2)}
    assert found == {
        "garden-00000": ["shards/garden-00000.tar", "shards/garden-00001.tar"],
        "garden-00001": ["shards/garden-00002.tar"],
        "web-00000": ["shards/web-00000.tar"],
    }


def test_every_task_and_size_lies_in_the_shards_with_the_tokenizers_own_codes(
    inputs: dict[str, Manifest], made: Manifest
) -> None:
    """Each image alone through the tokenizer gives the codes of its row, for captions, edits, video, pages and text."""
    visual = load_tokenizer(tokenizer_folder(inputs["tokenizer"]))
    rows = iter([(shard, row) for shard in opened(inputs, made, "small") for row in range(len(shard))])
    seen = set()
    for sample in read_samples(inputs["images"]):
        if sample.uid in bad_uids():
            continue
        shard, row = next(rows)
        assert str(shard.tasks[row]) == sample.task
        seen.add(sample.task)
        for part, found in zip(sample.parts, shard.parts(row), strict=True):
            if not isinstance(part, Image):
                assert (found.text, found.codes) == (part.text, None)
                continue
            pixels = decode_image(part)
            size = target_size(*pixels.shape[:2], SMALL, visual.stride)
            codes = visual.encode(to_images(fit_pixels(pixels, *size)[None]))
            assert (found.height, found.width) == tuple(codes.shape[1:])
            assert found.codes is not None
            assert found.codes.tolist() == codes.flatten().tolist()
    assert seen == set(TASKS)
    assert next(rows, None) is None


def bad_uids() -> set[str]:
    from arm.records import make_uid

    return {make_uid("tiny", f"{source} bad") for source in ("garden", "web")}


def test_a_variant_holds_its_tasks_at_its_resolution(inputs: dict[str, Manifest], made: Manifest) -> None:
    small, large = opened(inputs, made, "small"), opened(inputs, made, "large")
    assert {str(task) for shard in large for task in shard.tasks} == {"text_to_image", "edit"}
    assert max(int(shard.heights.max()) for shard in large) == 24 // 4
    assert max(int(shard.heights.max()) for shard in small) == 12 // 4
    assert made.counts["rows/small"] == 4 * PER_SHARD
    assert made.counts["rows/large"] == 4 * PER_SHARD * 2 // len(TASKS)


def test_an_image_of_the_same_size_in_two_variants_is_encoded_once(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.tokenizer.visual import VisualTokenizer

    real, encoded = VisualTokenizer.encode, []

    def counting(self: VisualTokenizer, images_BCHW: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images_BCHW))
        return real(self, images_BCHW)

    monkeypatch.setattr(VisualTokenizer, "encode", counting)
    twice = (VariantConfig(name="a", resolution=SMALL), VariantConfig(name="b", resolution=SMALL))
    tokens = run(inputs, tmp_path, config(variants=twice))
    assert sum(encoded) == tokens.counts["images"]
    a, b = opened(inputs, tokens, "a"), opened(inputs, tokens, "b")
    assert [shard.parts(0) == other.parts(0) for shard, other in zip(a, b, strict=True)]


def test_counts_balance_and_dropped_samples_have_their_reason(made: Manifest) -> None:
    counts = made.counts
    assert counts["samples_read"] == 4 * PER_SHARD + 2
    assert counts["samples"] == 4 * PER_SHARD
    assert counts["dropped/truncated"] == 2
    images_per_round = 1 + 1 + 1 + 2 + 3 + 1  # caption, question, text_to_image, edit, video, page
    assert counts["images"] == 4 * PER_SHARD // len(TASKS) * images_per_round


def test_too_many_bad_images_fail_the_job(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 of 170 samples"):
        run(inputs, tmp_path, config(max_dropped_share=0.01))


def test_the_sidecar_has_the_length_of_every_text_variant(inputs: dict[str, Manifest], made: Manifest) -> None:
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from arm.model.vocabulary import text_ids

    tokenizer = AutoTokenizer.from_pretrained(inputs["text_tokenizer"].local_folder("model"))
    caption, description = (len(ids) for ids in text_ids(tokenizer, ["a cat", "a cat that sleeps"]))
    parts = pq.read_table(made.local("lengths/small/garden-00000.parquet"))["parts"].to_pylist()
    shard = opened(inputs, made, "small")[0]
    row = [str(task) for task in shard.tasks].index("caption")
    image = int(shard.heights[shard.starts[row]] * shard.widths[shard.starts[row]]) + 5
    assert [part["lengths"] for part in parts[row]] == [[image], [caption, description]]


def test_the_account_and_the_index_describe_the_file(made: Manifest) -> None:
    account = json.loads(made.local("reports/garden-00000.json").read_text())
    index = json.loads(made.local("index/small/garden-00000.json").read_text())
    assert account["samples"] == 2 * PER_SHARD == sum(entry["rows"] for entry in index["batches"])
    assert account["dropped"] == {"truncated": 1}
    assert account["variants"]["small"]["checked"] == TWO.check_samples
    shard = sum(account["variants"]["small"]["histogram"])
    rows = json.loads(made.local("checks.json").read_text())
    assert shard > 0
    assert set(rows["drift"]["small"]) == {"garden-00000", "garden-00001", "web-00000"}
    assert rows["too_few_codes"] == []


def test_the_bytes_depend_on_neither_windows_of_threads_nor_units_made_before(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    whole = run(inputs, tmp_path / "whole", config())
    again = jobs.plan(
        "tokenize-images", output=str(tmp_path / "again"), config=config(decode_threads=3),
        inputs={name: made.url for name, made in inputs.items()},
    )  # fmt: skip
    for name in ("shards/default/garden-00001.arrow", "reports/garden-00001.json"):
        again.folder.write(name, whole.local(name).read_bytes())
    for name in ("lengths/default/garden-00001.parquet", "index/default/garden-00001.json"):
        again.folder.write(name, whole.local(name).read_bytes())
    kept = Path(again.folder.url) / "shards/default/garden-00001.arrow"
    before = kept.stat().st_mtime_ns
    assert jobs.execute(again).digest == whole.digest
    assert kept.stat().st_mtime_ns == before


def test_small_windows_keep_the_rows_in_order(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 5)
    monkeypatch.setattr(decoding, "WINDOW_BYTES", 4_000)
    tokens = run(inputs, tmp_path, TWO)
    few, many = opened(inputs, made, "small"), opened(inputs, tokens, "small")
    index = json.loads(tokens.local("index/small/garden-00000.json").read_text())
    assert len(index["batches"]) > 4
    for whole, cut in zip(few, many, strict=True):
        assert np.array_equal(whole.uid_keys, cut.uid_keys)
        assert [[p.text for p in whole.parts(r)] for r in range(9)] == [
            [p.text for p in cut.parts(r)] for r in range(9)
        ]


@pytest.mark.parametrize("started", ["in turn", pytest.param("by the launcher", marks=pytest.mark.slow)])
def test_two_ranks_publish_what_one_publishes(
    started: str, inputs: dict[str, Manifest], made: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm import config as configs

    urls = {name: item.url for name, item in inputs.items()}
    if started == "by the launcher":
        given = {"config": configs.to_json(TWO), "resources": '{"ranks": 2, "threads": 1}'}
        two = launch.launch("tokenize-images", output=str(tmp_path), **given, **urls).manifest
        assert json.loads((Path(two.folder.url) / "run.json").read_text())["ranks"] == "2"
    else:
        plan = jobs.plan("tokenize-images", output=str(tmp_path), config=TWO, inputs=urls)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        jobs.execute(plan)
        assert plan.folder.list("reports/") == ["reports/garden-00001.json"]
        monkeypatch.setenv("RANK", "0")
        two = jobs.execute(plan)
    assert two.digest == made.digest


def test_parts_make_units_without_the_lock_and_the_job_sums_up(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Part 1 of 2 works while somebody holds the output's lock; the job then makes what part 0 would have made."""
    from arm import config as configs
    from arm.lock import output_lock

    urls = {name: item.url for name, item in inputs.items()}
    plan = jobs.plan("tokenize-images", output=str(tmp_path), config=TWO, inputs=urls)
    monkeypatch.setenv("ARM_PART", "")  # restored after the test
    with output_lock(plan.folder, "another"):
        launch.launch_part(
            "tokenize-images",
            "1/2",
            output=str(tmp_path),
            config=configs.to_json(TWO),
            resources='{"threads": 1}',
            **urls,
        )
    assert plan.folder.list("reports/") == ["reports/garden-00001.json"]
    assert not plan.folder.exists(manifest.NAME)
    monkeypatch.delenv("ARM_PART")
    assert jobs.execute(plan).digest == made.digest


def test_a_store_in_s3_gets_the_same_artifact_and_keeps_units_of_a_killed_run(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path, moto_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    bucket = new_bucket(f"tokens-{abs(hash(str(tmp_path))):x}")
    plan = jobs.plan(
        "tokenize-images", output=bucket, config=TWO, inputs={name: item.url for name, item in inputs.items()}
    )
    monkeypatch.setenv("ARM_PART", "")  # restored after the test
    launch.execute_part(plan, "2/3")
    assert plan.folder.list("reports/") == ["reports/web-00000.json"]
    monkeypatch.delenv("ARM_PART")
    assert jobs.execute(plan).digest == made.digest


@pytest.mark.parametrize("part", ["2/2", "x/2", "1", "-1/2"])
def test_a_part_that_is_none_is_refused(part: str, inputs: dict[str, Manifest], tmp_path: Path) -> None:
    plan = jobs.plan(
        "tokenize-images", output=str(tmp_path), config=TWO, inputs={name: made.url for name, made in inputs.items()}
    )
    with pytest.raises(UserError, match="is no part"):
        launch.execute_part(plan, part)


def test_units_of_another_tokenizer_in_the_folder_are_refused(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path
) -> None:
    plan = jobs.plan(
        "tokenize-images", output=str(tmp_path), config=TWO, inputs={name: item.url for name, item in inputs.items()}
    )
    account = json.loads(made.local("reports/web-00000.json").read_text())
    plan.folder.write("reports/web-00000.json", json.dumps({**account, "tokenizer_fingerprint": "e" * 64}).encode())
    with pytest.raises(UserError, match="token shards of two tokenizers do not mix"):
        jobs.execute(plan)


def test_a_unit_that_lost_a_file_is_no_smaller_data_set(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path
) -> None:
    plan = jobs.plan(
        "tokenize-images", output=str(tmp_path), config=TWO, inputs={name: item.url for name, item in inputs.items()}
    )
    for entry in made.files:
        if entry.path != "lengths/large/web-00000.parquet":
            plan.folder.write(entry.path, made.local(entry).read_bytes())
    with pytest.raises(IntegrityError, match=r"lengths/large/web-00000\.parquet is missing, though reports/web"):
        jobs.execute(plan)


def test_codes_that_are_not_those_written_are_found(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = token_shards.sample_batch

    def altering(samples, grids, layout):  # type: ignore[no-untyped-def]
        return real(samples, [(grid + 1) % 16 for grid in grids], layout)

    monkeypatch.setattr(token_shards, "sample_batch", altering)
    with pytest.raises(IntegrityError, match="does not hold the codes of"):
        run(inputs, tmp_path, config())


def test_drift_is_a_distance_between_histograms() -> None:
    """(1, 1, 0) and (0, 1, 1): the mixture is (1/4, 1/2, 1/4), the divergence 1/2 bit, its root .7071."""
    a, b = np.asarray([1, 1, 0]), np.asarray([0, 1, 1])
    assert drift(a, b) == pytest.approx(0.70710678)
    assert drift(a, b) == drift(b, a)
    assert drift(a, 5 * a) == 0
    assert drift(np.asarray([1, 0]), np.asarray([0, 1])) == 1
    assert drift(a, np.zeros(3, np.int64)) == 0


def test_units_with_less_than_twice_the_codes_in_use_cannot_drift() -> None:
    """Four codes in use: a unit of seven codes is passed over, one of eight is judged."""
    everything = np.asarray([5, 14, 3, 2, 0])
    assert not can_drift(np.asarray([5, 1, 1, 0, 0]), everything)
    assert can_drift(np.asarray([0, 8, 0, 0, 0]), everything)


def test_chance_alone_stays_below_the_default_bound_where_drift_is_judged() -> None:
    """512 equally likely codes: 1,024 draws lie about .34 from the rest, 64 draws far beyond the bound of .5."""
    random = np.random.default_rng(0)
    everything = random.multinomial(100_000, np.full(512, 1 / 512))
    judged, passed_over = (random.multinomial(n, np.full(512, 1 / 512)) for n in (1_024, 64))
    assert drift(judged, everything) < EncodeConfig().max_drift < drift(passed_over, everything)


def test_drift_beyond_the_bound_is_counted_and_named_or_fails(
    inputs: dict[str, Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = run(inputs, tmp_path / "warned", config(max_drift=0.0))
    assert tokens.counts["units_drifted"] == 3
    assert "default/garden-00000" in capsys.readouterr().err
    assert "default/web-00000" in json.loads(tokens.local("checks.json").read_text())["drifted"]
    with pytest.raises(UserError, match="drift beyond"):
        run(inputs, tmp_path / "failed", config(max_drift=0.0, fail_on_drift=True))


def test_a_floor_of_psnr_needs_a_detokenizer(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the input `detokenizer`"):
        run(inputs, tmp_path, config(min_psnr=10.0))


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """An imported tokenizer that renders its codes by itself."""
    folder = tmp_path_factory.mktemp("rendering")
    save_alone("janus", folder / "checkpoint")
    chosen = ImportModelConfig(path=str(folder / "checkpoint"), role="image_tokenizer", licence="MIT")
    import_model(output=LocalFolder(folder / "made"), config=chosen)
    return saved(folder / "made", "weights")


def test_rendered_checks_have_the_psnr_of_their_pictures_and_a_floor_fails_the_job(
    inputs: dict[str, Manifest], rendering: Manifest, tmp_path: Path
) -> None:
    given = {**inputs, "tokenizer": rendering, "detokenizer": rendering}
    tokens = run(given, tmp_path / "made", config(min_psnr=1.0))
    accounts = [json.loads(tokens.local(entry).read_text()) for entry in tokens.select("reports/")]
    found = [value for account in accounts for value in account["variants"]["default"]["psnr"]]
    assert len(found) == sum(account["variants"]["default"]["checked"] for account in accounts) > 0
    assert tokens.metrics["psnr"] == pytest.approx(np.mean(found), abs=1e-4)
    assert found[0] == pytest.approx(psnr_of_one(inputs["images"], rendering, tokens), abs=1e-3)
    with pytest.raises(UserError, match=r"mean PSNR of [\d.]+ dB, below min_psnr 90"):
        run(given, tmp_path / "failed", config(min_psnr=90.0))


def test_a_picture_that_is_rendered_perfectly_does_not_lift_the_mean_over_the_floor(
    inputs: dict[str, Manifest], rendering: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**inputs, "tokenizer": rendering, "detokenizer": rendering}
    monkeypatch.setattr(unit_files, "rendered_psnr", lambda checks, *_: [float("inf"), 20.0][: len(checks)])
    tokens = run(given, tmp_path / "made", config(min_psnr=1.0))
    assert (tokens.metrics["psnr"], tokens.metrics["psnr_infinite"]) == (20.0, len(tokens.select("reports/")))
    with pytest.raises(UserError, match=r"mean PSNR of 20.0 dB, below min_psnr 90"):
        run(given, tmp_path / "failed", config(min_psnr=90.0))


def psnr_of_one(images: Manifest, rendering: Manifest, tokens: Manifest) -> float:
    """Of the first check of the first unit: the image whose hashed uid is the smallest."""
    import hashlib
    import math

    from arm.data.shards import read_shard
    from arm.tokenizer.loading import detokenizer_folder, load_detokenizer

    visual = load_tokenizer(tokenizer_folder(rendering))
    first = [sample for n in (0, 1) for sample in read_shard(images.local(f"shards/garden-{n:05d}.tar"))]
    pictured = [s for s in first if s.uid not in bad_uids() and any(isinstance(part, Image) for part in s.parts)]
    chosen = min(pictured, key=lambda s: hashlib.sha256(b"check" + bytes.fromhex(s.uid)).digest()[:8])
    pixels = decode_image(next(part for part in chosen.parts if isinstance(part, Image)))
    image = to_images(fit_pixels(pixels, *target_size(*pixels.shape[:2], SMALL, visual.stride))[None])
    detokenizer = load_detokenizer(detokenizer_folder(rendering))
    rendered = detokenizer.render(visual.encode(image), visual, seeds=[0])
    return -10 * math.log10(float((rendered - image).square().mean()))


def test_configs_that_would_lose_samples_are_refused() -> None:
    with pytest.raises(UserError, match="min_psnr is checked on check_samples images"):
        EncodeConfig(min_psnr=10.0, check_samples=0)
    with pytest.raises(UserError, match="No variant takes the task 'text'"):
        EncodeConfig(variants=(VariantConfig(tasks=("edit",)),))
    with pytest.raises(UserError, match="each with its own name"):
        EncodeConfig(variants=(VariantConfig(), VariantConfig()))
    with pytest.raises(UserError, match="names a folder"):
        VariantConfig(name="../x")


def test_a_damaged_token_shard_is_found_by_the_read_back(
    inputs: dict[str, Manifest], made: Manifest, tmp_path: Path
) -> None:
    from arm.tokenizer.encoding.checks import Check

    path = tmp_path / "x.arrow"
    shutil.copyfile(LocalFolder(made.folder.url).fetch("shards/small/web-00000.arrow"), path)
    wrong = Check(0, b"\0" * 16, 0, 1, np.zeros((1, 1), np.uint16), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(IntegrityError, match=r"x\.arrow does not hold"):
        read_back(path, [wrong])
