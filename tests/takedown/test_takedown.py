"""`arm takedown`: tombstones at once, everything that holds or learned from it, new versions without it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_ledger import STEPS, write_plan
from takedown_store import FINGERPRINT, TEXTS, UIDS, URLS, make_store, picture

from arm import cli, jobs, tombstones
from arm.data import filtering, holdings
from arm.data.comparing import SEEN
from arm.data.config import CurateConfig
from arm.data.refusing import refusing
from arm.data.shards import read_samples
from arm.data.taking_over import same_evaluation
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest, entries_of, load, point
from arm.model.token_shards import find_uid, open_shards
from arm.storage import LocalFolder
from arm.takedown import compaction
from arm.takedown.entries import read_entries


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store: Path = tmp_path_factory.mktemp("original") / "store"
    make_store(store)
    return store


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "store")


def take_down(store: Path, *words: str) -> None:
    cli.main(["takedown", *words, "--store", str(store)])


def impact_of(store: Path, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "tombstones" / "reports" / f"{number:05d}" / "impact.json").read_text())
    return found


def opened(store: Path, step: str) -> Manifest:
    return refusing(load(str(store / step)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_domain_takes_down_what_lies_below_it_wherever_it_went(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_down(store, "--domain", "BAD.test.")
    found = impact_of(store)
    assert found["uids"] == sorted([UIDS[2], UIDS[7]])
    shares = {
        item["kind"]: [item[n] for n in ("samples", "of_samples", "tokens", "of_tokens")] for item in found["artifacts"]
    }
    assert shares == {
        "filtered-pairs": [2, 8, 0, 0],
        "image-shards": [2, 8, 0, 0],
        "token-shards": [2, 13, 22, 113],  # 8 captions of 9 + 2, 5 texts of 5
    }
    shards = {item["file"]: [item["samples"], item["of_samples"]] for a in found["artifacts"] for item in a["files"]}
    assert shards["shards/crawl-00000.tar"] == [1, 4]
    assert shards["shards/default/b-00000.arrow"] == [2, 8]
    assert "shards/default/a-00000.arrow" not in shards
    (stage,) = found["stages"]
    assert (stage["first_step"], stage["last_step"], stage["kinds"]) == (0, 4, {"caption": 2})
    assert stage["seen"] == [{"step": 5, "documents": 2, "tokens": 18, "of_tokens": 59}]
    assert [item["kind"] for item in found["derived"]] == ["model", "release"]
    said = capsys.readouterr().out
    assert "1 tombstones written" in said
    assert "2 documents, 18 of 59 tokens (30.5%), steps 0 to 4" in said
    page = (store / "tombstones" / "reports" / "00001" / "index.html").read_text()
    assert "bad.test" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("words", "uids"),
    [
        (["--url", "HTTP://img.fine.test:80/x/../1.png#top"], [UIDS[1]]),
        (["--url", "http://blog.test/5"], [UIDS[5]]),  # of the page
        (["--domain", "img.fine.test"], [UIDS[n] for n in (0, 1, 3, 4, 5, 6)]),
        (["--sha256", "4" * 64], [UIDS[4]]),  # as it was served
        (["--sha256", hashlib.sha256(picture(6)).hexdigest().upper()], [UIDS[6]]),  # as it is stored
        (["--uid", TEXTS[1]], [TEXTS[1]]),
        (["--uid", UIDS[0], "--url", URLS[7]], [UIDS[0], UIDS[7]]),
    ],
)
def test_each_flag_finds_its_samples(store: Path, words: list[str], uids: list[str]) -> None:
    take_down(store, *words)
    assert impact_of(store)["uids"] == sorted(uids)


def test_every_reader_refuses_it_from_then_on(store: Path) -> None:
    assert len(list(read_samples(opened(store, "11-download-images")))) == 8
    take_down(store, "--domain", "bad.test")
    images = opened(store, "11-download-images")
    assert images.tombstones == {UIDS[2], UIDS[7]}
    assert [sample.uid for sample in read_samples(images)] == [uid for uid in UIDS if uid not in images.tombstones]
    assert opened(store, "10-filter-pairs").tombstones == images.tombstones
    assert opened(store, "16-train-model-pretrain").tombstones == frozenset()
    assert images.digest == load(str(store / "11-download-images")).digest


def test_what_is_made_after_a_takedown_refuses_what_the_set_knows_already(store: Path) -> None:
    take_down(store, "--domain", "bad.test")
    later = store / "11-download-images" / ("9" * 16)
    shutil.copytree(store / "11-download-images" / ("2" * 16), later)  # a later crawl brought the same images
    values = json.loads((later / "manifest.json").read_text())
    (later / "manifest.json").write_text(json.dumps({**values, "key": "9" * 64}))
    assert refusing(load(str(later))).tombstones == {UIDS[2], UIDS[7]}


def test_a_second_takedown_of_the_same_says_that_it_is_out(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_down(store, "--domain", "bad.test")
    before = files_of(store / "tombstones")
    capsys.readouterr()
    take_down(store, "--domain", "bad.test")
    assert "All 1 are out already, since takedown 1; nothing was written." in capsys.readouterr().out
    after = files_of(store / "tombstones")
    assert after["reports/latest/impact.json"] == before["reports/00001/impact.json"]
    assert {name: data for name, data in after.items() if "/latest/" not in name} == before
    take_down(store, "--domain", "bad.test", "--url", URLS[0])
    assert "1 tombstones written; every job that starts from now on refuses them, 1 were out already." in (
        capsys.readouterr().out
    )
    assert [version.number for version in tombstones.read_versions(str(store)) if version.search_of] == [2, 4]
    assert before.items() - files_of(store / "tombstones").items() == {
        (name, data) for name, data in before.items() if name.startswith("held/")
    }


def test_a_takedown_that_was_killed_in_its_search_holds_and_is_finished_by_the_next(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.takedown import command

    with monkeypatch.context() as killed:
        killed.setattr(command, "holdings_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            take_down(store, "--sha256", "7" * 64)
    assert opened(store, "11-download-images").tombstones == {UIDS[7]}
    assert opened(store, "10-filter-pairs").tombstones == frozenset()  # pairs know no checksum, and nobody has searched
    take_down(store, "--sha256", "7" * 64)
    assert opened(store, "10-filter-pairs").tombstones == {UIDS[7]}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"url": ["EMPTY"]}, r"EMPTY\S* names nothing to take down; write one url a line\.|names nothing"),
        ({"url": ["no address"]}, r"^--url is 'no address', which is no address: .*; nothing was taken down\.$"),
        ({"sha256": ["ab12"]}, r"^--sha256 is 'ab12', which is no sha256: give its 64 hexadecimal digits; nothing"),
        ({"uid": ["00" * 15]}, r"which is no uid of a sample"),
        ({"domain": ["http://a.test/"]}, r"which is no host name"),
        ({"domain": ["absent.txt"]}, r"^There is no file 'absent.txt' for --domain\.$"),
        ({"domain": ["LIST"]}, r"^Line 3 of .* is 'a b', which is no host name"),
        ({}, r"^Nothing is named to be taken down; give --domain, --sha256, --uid, --url a value"),
    ],
)
def test_a_wrong_entry_is_one_sentence(tmp_path: Path, asked: dict[str, list[str]], sentence: str) -> None:
    (tmp_path / "EMPTY").write_text("# nothing\n\n")
    (tmp_path / "LIST").write_text("good.test\n# a comment\na b\n")
    paths = {kind: [str(tmp_path / w) if w in ("EMPTY", "LIST") else w for w in words] for kind, words in asked.items()}
    with pytest.raises(UserError, match=sentence):
        read_entries(paths)


def test_a_file_holds_one_entry_a_line(tmp_path: Path) -> None:
    (tmp_path / "sites").write_text("\ufeffBad.test\n\n# seen twice\nbad.test.\nböse.test\n", encoding="utf-8")
    assert read_entries({"domain": [str(tmp_path / "sites")]})["domain"] == {"bad.test", "xn--bse-sna.test"}


def test_an_item_that_is_nowhere_is_kept_out_of_later_crawls(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_down(store, "--url", "http://nowhere.test/1.png")
    assert "holds any of it; the tombstones keep it out" in capsys.readouterr().out
    assert tombstones.read_versions(str(store))[0].entries["url"] == ("http://nowhere.test/1.png",)


def test_a_store_without_artifacts_still_gets_the_tombstones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        take_down(tmp_path / "new", "--domain", "bad.test")
    assert "holds no artifact; the tombstones are written" in capsys.readouterr().err
    assert tombstones.state_of(str(tmp_path / "new")) == 1


def test_a_set_that_lost_a_file_is_refused(store: Path) -> None:
    take_down(store, "--domain", "bad.test")
    (store / "tombstones" / "set" / "00001.json").unlink()
    with pytest.raises(IntegrityError, match="lacks a file of the tombstones"):
        tombstones.read_versions(str(store))


def test_two_writers_get_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tombstones.read_versions
    with monkeypatch.context() as raced:
        raced.setattr(tombstones, "read_versions", lambda store: read(store) if done else done.append(1) or [])
        done: list[int] = []
        tombstones.append(str(tmp_path), {"url": ["http://a.test/"]})
        done.clear()
        second = tombstones.append(str(tmp_path), {"url": ["http://a.test/", "http://b.test/"]})
    assert second is not None
    assert (second.number, second.entries["url"]) == (2, ("http://b.test/",))
    assert tombstones.append(str(tmp_path), {"url": ["http://a.test/"]}) is None


def test_an_unfinished_stage_is_counted_by_its_checkpoints(store: Path) -> None:
    begun = store / "17-train-model-continue" / ("7" * 16)
    write_plan(begun, STEPS)
    for step in (2, 4):
        seal = begun / ".work" / "checkpoints" / f"step-{step:08d}" / "seal.json"
        seal.parent.mkdir(parents=True)
        seal.write_text("{}")
    take_down(store, "--url", URLS[3], "--url", URLS[7])
    _, stage = impact_of(store)["stages"]
    assert (stage["finished"], stage["label"]) == (False, f"unfinished 17-train-model-continue/{'7' * 16}")
    seen = [[item[name] for name in ("step", "documents", "tokens", "of_tokens")] for item in stage["seen"]]
    assert seen == [[2, 1, 9, 24], [4, 2, 17, 50]]  # c7 at step 0, c3 at step 2


def test_a_ledger_that_does_not_fit_its_plan_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(store / "16-train-model-pretrain" / ("4" * 16), [*STEPS[:4], STEPS[2]])
    with pytest.raises(SystemExit):
        take_down(store, "--domain", "bad.test")
    assert "its ledger and its plan disagree; run `arm ledger verify` on it." in capsys.readouterr().err
    assert tombstones.state_of(str(store)) == 2  # the tombstones hold whatever the report says


def test_many_buckets_find_what_one_finds(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "SMALL_BYTES", 0)
    monkeypatch.setattr(holdings, "FLUSH_ROWS", 2)
    take_down(store, "--domain", "fine.test", "--domain", "bad.test")
    assert impact_of(store)["uids"] == sorted(UIDS)
    (folder, *_) = (store / "tombstones" / "index").iterdir()
    assert len(list(folder.glob("places-*.parquet"))) == len(list(folder.glob("keys-*.parquet"))) == holdings.MANY


def test_a_stage_after_another_inherits_what_that_has_seen(store: Path) -> None:
    pretrained = load(str(store / "16-train-model-pretrain"))
    after = store / "17-train-model-continue" / ("8" * 16)
    shutil.copytree(store / "16-train-model-pretrain" / ("4" * 16), after)
    values = json.loads((after / "manifest.json").read_text())
    inputs = {"tokens": "1" * 64, "base": pretrained.digest}
    config = {**values["config"], "stage": "continue"}
    (after / "manifest.json").write_text(json.dumps({**values, "key": "8" * 64, "inputs": inputs, "config": config}))
    take_down(store, "--domain", "bad.test")
    first, second = impact_of(store)["stages"]
    assert (first["inherits"], second["inherits"]) == ("", first["label"])
    assert second["first_step"] is None


def plan(store: Path, job: str, step: str, config: str = "{}", **inputs: str) -> jobs.Plan:
    urls = {name: str(store / place) for name, place in inputs.items()}
    return jobs.plan(job, output=str(store / step), config=config, inputs=urls)


def test_the_key_covers_what_an_input_lost_and_nothing_else(store: Path) -> None:
    def key(**inputs: str) -> str:
        return plan(store, "curate-images", "12-curate-images", **inputs).key

    before = key(crawled="11-download-images")
    take_down(store, "--url", "http://nowhere.test/1.png", "--uid", TEXTS[0])
    assert key(crawled="11-download-images") == before
    take_down(store, "--url", URLS[0])
    made = plan(store, "curate-images", "12-curate-images", crawled="11-download-images")
    assert made.key != before
    assert made.digests["tombstones/crawled"] == tombstones.digest_of([UIDS[0]])
    take_down(store, "--url", URLS[1])
    assert key(crawled="11-download-images") not in (before, made.key)


def test_an_output_made_before_stays_valid(store: Path) -> None:
    before = plan(store, "curate-images", "12-curate-images", crawled="11-download-images")
    folder = store / "12-curate-images" / before.key[:16]
    shutil.copytree(store / "11-download-images" / ("2" * 16), folder)
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**values, "key": before.key, "kind": "curated-shards"}))
    take_down(store, "--url", URLS[0])
    after = plan(store, "curate-images", "12-curate-images", crawled="11-download-images")
    assert after.key == before.key
    assert refusing(load(str(folder))).tombstones == {UIDS[0]}


def test_a_stage_of_training_goes_on_under_its_key(store: Path) -> None:
    inputs = {"tokens": "14-tokenize-images", "base": "16-train-model-pretrain", "tokenizer": "11-download-images"}
    before = plan(store, "train-model", "17-train-model", '{"steps": 2}', **inputs)
    take_down(store, "--domain", "bad.test")
    after = plan(store, "train-model", "17-train-model", '{"steps": 2}', **inputs)
    assert after.key == before.key
    assert (before.inputs["tokens"].tombstones, after.inputs["tokens"].tombstones) == (frozenset(), {UIDS[2], UIDS[7]})


def test_compaction_makes_versions_without_it(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_down(store, "--domain", "bad.test", "--compact")
    old, new = load(str(store / "14-tokenize-images" / ("3" * 16))), load(str(store / "14-tokenize-images"))
    assert (new.job, new.inputs["compacted"], new.kind) == ("takedown", old.digest, "token-shards")
    assert new.counts == {"samples_read": 13, "samples_kept": 11, "dropped/tombstone": 2}
    shards = open_shards(new, tokenizer_fingerprint=FINGERPRINT, num_codes=8)
    assert [len(shard) for shard in shards] == [3, 2, 6]
    assert not list(find_uid(new, bytes.fromhex(UIDS[7])))
    assert [row for _, row, _ in find_uid(new, bytes.fromhex(UIDS[6]))] == [5]
    assert [part.text for part in shards[2].parts(5)] == ["", "caption 6"]
    same = {entry.path: entry.sha256 for entry in old.files if "a-0000" in entry.path}
    assert same.items() <= {entry.path: entry.sha256 for entry in new.files}.items()
    images = load(str(store / "11-download-images"))
    assert [sample.uid for sample in read_samples(images)] == [UIDS[n] for n in (0, 1, 3, 4, 5, 6)]
    assert refusing(new).tombstones == frozenset()
    capsys.readouterr()
    take_down(store, "--domain", "bad.test", "--compact")
    assert "Nothing is left to compact." in capsys.readouterr().out


def test_the_next_crawl_takes_a_compacted_version_as_what_was_seen(store: Path) -> None:
    """Eight pairs were compared and two of them go, so six are remembered."""
    family = store / "10-filter-pairs"
    seen = [{"uid": bytes.fromhex(u), "url_key": n, "caption_key": n, "kept": True} for n, u in enumerate(UIDS)]
    pq.write_table(pa.Table.from_pylist(seen, SEEN), _folder(family / ("1" * 16) / "seen") / "part-00000.parquet")
    _rewrite(family / ("1" * 16), counts={"pairs_read": 8, "pairs_kept": 8, "pairs_remembered": 8})
    take_down(store, "--domain", "bad.test", "--compact")
    new = load(str(family))
    assert new.counts["pairs_remembered"] == pq.read_table(family / new.key[:16] / "seen").num_rows == 6
    assert filtering._seen_entries(new) == new.select("seen/")


def test_a_compacted_version_says_what_the_old_one_was_made_from_and_held_against(store: Path) -> None:
    folder = store / "11-download-images" / ("2" * 16)
    evaluation = load(str(store / "14-tokenize-images"))
    config = {"evaluation_distance": 3, "verify_difference": 0.1}
    inputs = {"crawled": "1" * 64, "evaluation": evaluation.digest}
    _rewrite(folder, inputs=inputs, config=config, counts={"urls_read": 9})
    take_down(store, "--domain", "bad.test", "--compact")
    new = load(str(store / "11-download-images"))
    assert inputs.items() <= new.inputs.items()
    assert same_evaluation(new, evaluation, replace(CurateConfig(), **config))
    assert new.counts["urls_read"] == 9


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _rewrite(folder: Path, **fields: Any) -> None:
    """The manifest of an artifact with other fields, and with the files that lie there now; the pointer follows."""
    made = replace(load(str(folder)), files=entries_of(LocalFolder(folder)), **fields)
    (folder / "manifest.json").write_bytes(made.to_json())
    point(str(folder.parent), made)


def test_lineage_leads_from_the_old_version_to_the_new(store: Path) -> None:
    from arm.tracking import lineage

    take_down(store, "--domain", "bad.test", "--compact")
    old, new = load(str(store / "11-download-images" / ("2" * 16))), load(str(store / "11-download-images"))
    assert new.digest in [node.digest for node in lineage.downstream(str(store), old.digest)]


def test_a_compacted_version_stands_in_for_the_old_one_once_that_is_deleted(store: Path) -> None:
    take_down(store, "--domain", "bad.test", "--compact")
    old = store / "11-download-images" / ("2" * 16)
    key = load(str(old)).key
    made = plan(store, "curate-images", "12-curate-images", crawled="11-download-images")
    standing = jobs.Plan(
        job=made.job, config={}, inputs={}, digests={}, key=key, output=str(store / "11-download-images")
    )
    assert standing.complete() == load(str(old))
    shutil.rmtree(old)
    found = standing.complete()
    assert found is not None
    assert found.inputs["compacted"]


def test_a_killed_compaction_goes_on_and_gives_the_same_bytes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(store, tmp_path / "other")
    take_down(other, "--domain", "bad.test", "--compact")
    calls: list[str] = []
    for name in ("_write_file", "_write_token_shard", "_described"):
        monkeypatch.setattr(compaction, name, _dying(getattr(compaction, name), calls))
    times = 0
    while times < 20:
        calls.clear()
        try:
            take_down(store, "--domain", "bad.test", "--compact")
            break
        except SystemExit:
            times += 1
    assert 1 < times < 20
    for step in ("10-filter-pairs", "11-download-images", "14-tokenize-images"):
        assert load(str(store / step)).digest == load(str(other / step)).digest


def _dying(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """The function, five calls a command long; the sixth is a kill."""

    def call(*arguments: Any) -> Any:
        calls.append(function.__name__)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return function(*arguments)

    return call
