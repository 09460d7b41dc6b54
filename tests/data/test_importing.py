"""import-samples: foreign formats become image shards; what is unfit is counted."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import captioned, picture, shards
from test_storage import moto_address, new_bucket, use_s3

from arm.data.config import ImportFormat, ImportSamplesConfig, ImportSource
from arm.data.formats import FORMATS
from arm.data.images import encode_image
from arm.data.importing import import_samples
from arm.data.shards import read_shard
from arm.data.tar import write_members
from arm.errors import IntegrityError, UserError
from arm.records import Image, Sample, make_uid
from arm.storage import LocalFolder, open_folder

__all__ = ["moto_address"]

PNG = encode_image(picture(0)).data


def imported(
    tmp_path: Path, form: ImportFormat, path: Path, task: str = "caption", **options: float
) -> tuple[list[Sample], dict[str, int]]:
    source = ImportSource(name="given", path=str(path), format=form, task=task, licence="CC0-1.0")
    config = ImportSamplesConfig(sources=(source,), samples_per_shard=2, **{"max_dropped_share": 0.9} | options)  # type: ignore[arg-type]
    outcome = import_samples(output=LocalFolder(tmp_path / "out"), config=config)
    samples = [sample for shard in sorted((tmp_path / "out/shards").iterdir()) for sample in read_shard(shard)]
    return samples, outcome.counts


def kinds(sample: Sample) -> list[str]:
    return ["image" if isinstance(part, Image) else f"{part.role}: {part.text}" for part in sample.parts]


def test_every_declared_format_has_a_reader() -> None:
    assert set(FORMATS) == set(ImportFormat.__args__)  # type: ignore[attr-defined]


def test_llava_conversations_with_images_in_a_tar_and_beside(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_members(folder / "images-00000.tar", [("a/1.png", PNG)])
    (folder / "2.png").write_bytes(b"broken")
    turns = [{"from": "human", "value": "<image>\nis it red?"}, {"from": "gpt", "value": "yes"}]
    lines = [
        {"id": "q1", "image": "a/1.png", "conversations": turns, "kinds": ["colour"]},
        {"id": "q2", "image": "2.png", "conversations": turns},
        {"id": "q3", "image": "gone.png", "conversations": turns},
        {"id": "q4", "image": "a/1.png"},
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    samples, counts = imported(tmp_path, "llava", folder, "question")
    assert kinds(samples[0]) == ["image", "question: is it red?", "answer: yes"]
    assert (samples[0].uid, samples[0].meta, samples[0].licence) == (
        make_uid("given", "q1"),
        {"kinds": ["colour"]},
        "CC0-1.0",
    )
    assert counts == {
        "samples_read": 5, "samples_imported": 1, "imported/given": 1,
        "dropped/bad_image": 1, "dropped/no_image": 1, "dropped/bad_record": 2,
    }  # fmt: skip


def test_editing_triplets_from_parquet(tmp_path: Path) -> None:
    cell = {"bytes": PNG, "path": "x.png"}
    rows = [
        {
            "id": "e1",
            "source_image": cell,
            "instruction": "make it blue",
            "target_image": cell,
            "meta": '{"operation": "recolour"}',
        },
        {
            "id": "e2",
            "source_image": cell,
            "instruction": "x",
            "target_image": {"bytes": b"", "path": ""},
            "meta": None,
        },
        {"id": "e1", "source_image": cell, "instruction": "again", "target_image": cell, "meta": None},
        {"id": "e4", "source_image": cell, "instruction": " ", "target_image": cell, "meta": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "edits.parquet")
    samples, counts = imported(tmp_path, "edit_parquet", tmp_path / "edits.parquet", "edit")
    assert kinds(samples[0]) == ["image", "instruction: make it blue", "image"]
    assert samples[0].meta == {"operation": "recolour"}
    assert {n: c for n, c in counts.items() if n.startswith("dropped")} == {
        "dropped/bad_image": 1, "dropped/duplicate_uid": 1, "dropped/empty_text": 1,
    }  # fmt: skip


def test_webdataset_and_folders_of_captioned_images(tmp_path: Path) -> None:
    members = {"x/1.png": PNG, "x/1.txt": b"one", "x/1.json": b'{"k": 1}', "x/2.png": PNG, "x/3.txt": b"three"}
    write_members(tmp_path / "w.tar", members.items())
    samples, counts = imported(tmp_path, "webdataset", tmp_path / "w.tar")
    assert [kinds(sample) for sample in samples] == [["image", "caption: one"]]
    assert (counts["dropped/no_text"], counts["dropped/no_image"], samples[0].meta) == (1, 1, {"k": 1})
    for name, data in members.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    samples, _ = imported(tmp_path / "2", "image_text_folder", tmp_path / "folder")
    assert [kinds(sample) for sample in samples] == [["image", "caption: one"]]


def test_text_lines_and_our_own_samples(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "words", "year": 1}\n{"txt": "?"}\n')
    samples, counts = imported(tmp_path, "jsonl_text", tmp_path / "t.jsonl", "text")
    assert (kinds(samples[0]), samples[0].meta, counts["dropped/bad_record"]) == (["text: words"], {"year": 1}, 1)
    own = captioned("own", picture(1), source="elsewhere")
    made = shards(tmp_path / "own", own)
    samples, _ = imported(tmp_path / "2", "samples", made.folder.fetch("shards/crawl-00000.tar"))
    assert samples == [own]


def test_a_source_inside_an_artifact_is_cut_into_shards_and_not_read_twice(tmp_path: Path) -> None:
    world = shards(tmp_path / "world", *(captioned(str(i), picture(i)) for i in range(5)))
    config = ImportSamplesConfig(
        sources=(ImportSource(name="five", path="shards", format="samples", num_samples=5),), samples_per_shard=2
    )
    outcome = import_samples(output=LocalFolder(tmp_path / "out"), config=config, source=world)
    assert sorted(p.name for p in (tmp_path / "out/shards").iterdir()) == [f"five-0000{i}.tar" for i in range(3)]
    (tmp_path / "world/shards/crawl-00000.tar").unlink()
    assert import_samples(output=LocalFolder(tmp_path / "out"), config=config, source=world) == outcome


def test_too_many_unfit_samples_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "words"}\n{"txt": "?"}\n')
    with pytest.raises(UserError, match="bad_record 1"):
        imported(tmp_path, "jsonl_text", tmp_path / "t.jsonl", "text", max_dropped_share=0.4)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edits.parquet"
    pq.write_table(pa.table({"source_image": [PNG] * 9, "instruction": ["x"] * 9, "target_image": [PNG] * 9}), path)
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1 no table PAR1", whole[:-9], whole[:4] + bytes(100) + whole[104:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"edits\.parquet is no Parquet file, or damaged"):
            imported(tmp_path, "edit_parquet", path, "edit")


@pytest.mark.parametrize(
    ("text", "words"), [("[{", "no JSON, or damaged"), ('{"a": 1}', "no JSON list"), ("[" * 10**6, "no JSON")]
)
def test_a_json_file_that_is_no_list_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(UserError, match=rf"q\.json .*{words}|q\.json is {words}"):
        imported(tmp_path, "llava", tmp_path / "q.json", "question")


def test_a_line_of_endless_brackets_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "words"}\n' + "[" * 10**6 + "\n")
    _, counts = imported(tmp_path, "jsonl_text", tmp_path / "t.jsonl", "text")
    assert (counts["samples_imported"], counts["dropped/bad_record"]) == (1, 1)


def test_samples_in_object_storage_are_imported_as_those_on_disk(
    tmp_path: Path, moto_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    address = new_bucket(f"samples-{abs(hash(str(tmp_path))):x}")
    for place in (open_folder(address), LocalFolder(tmp_path / "disk")):
        place.write("texts/a.jsonl", b'{"text": "one"}\n')
        place.write("texts/b/c.jsonl", b'{"text": "two", "id": "t"}\n')
    outcomes = []
    for index, path in enumerate((f"{address}/texts", str(tmp_path / "disk/texts"))):
        source = ImportSource(name="given", path=path, format="jsonl_text", task="text")
        output = LocalFolder(tmp_path / f"out{index}")
        counts = import_samples(output=output, config=ImportSamplesConfig(sources=(source,))).counts
        outcomes.append((counts, output.read("shards/given-00000.tar")))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]["samples_imported"] == 2


def test_a_source_without_a_task_is_refused() -> None:
    with pytest.raises(UserError, match="task"):
        ImportSource(name="x", path="x", format="llava")
