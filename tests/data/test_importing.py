"""import-samples: foreign formats become image shards; what is unfit is counted."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importers import PNG, dropped, kinds, run, samples_in
from pictures import captioned, picture, shards
from test_storage import moto_address, new_bucket, use_s3

from arm.data.config import ImportFormat, ImportSamplesConfig, ImportSource, VideoConfig
from arm.data.formats.readers import FORMATS
from arm.data.importing import import_samples
from arm.data.tar import write_members
from arm.errors import IntegrityError, UserError
from arm.storage import LocalFolder, open_folder

__all__ = ["moto_address"]


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
    samples, counts = run(tmp_path, "json", folder, "question")
    assert kinds(samples[0]) == ["image", "question: is it red?", "answer: yes"]
    assert (samples[0].meta, samples[0].licence) == ({"id": "q1", "kinds": ["colour"]}, "CC0-1.0")
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
            "target_image": {"bytes": b"no image", "path": ""},
            "meta": None,
        },
        {"id": "e1", "source_image": cell, "instruction": "make it blue ", "target_image": cell, "meta": None},
        {"id": "e4", "source_image": cell, "instruction": " ", "target_image": cell, "meta": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "edits.parquet")
    samples, counts = run(tmp_path, "table", tmp_path / "edits.parquet", "edit")
    assert kinds(samples[0]) == ["image", "instruction: make it blue", "image"]
    assert samples[0].meta == {"id": "e1", "operation": "recolour"}
    assert dropped(counts) == {"bad_image": 1, "duplicate_uid": 1, "empty_text": 1}


def test_webdataset_and_folders_of_captioned_images(tmp_path: Path) -> None:
    members = {"x/1.png": PNG, "x/1.txt": b"one", "x/1.json": b'{"k": 1}', "x/2.png": PNG, "x/3.txt": b"three"}
    write_members(tmp_path / "w.tar", members.items())
    samples, counts = run(tmp_path, "webdataset", tmp_path / "w.tar", "caption")
    assert [kinds(sample) for sample in samples] == [["image", "caption: one"]]
    assert (counts["dropped/no_text"], counts["dropped/no_image"], samples[0].meta) == (1, 1, {"id": "x/1", "k": 1})
    for name, data in members.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    samples, _ = run(tmp_path / "2", "folder", tmp_path / "folder", "caption")
    assert [kinds(sample) for sample in samples] == [["image", "caption: one"]]


def test_text_lines_and_our_own_samples(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "words", "year": 1}\n{"words": "?"}\n')
    samples, counts = run(tmp_path, "json", tmp_path / "t.jsonl", "text")
    assert (kinds(samples[0]), samples[0].meta, counts["dropped/no_text"]) == (["text: words"], {"year": 1}, 1)
    own = captioned("own", picture(1), source="elsewhere")
    made = shards(tmp_path / "own", own)
    samples, _ = run(tmp_path / "2", "samples", made.folder.fetch("shards/crawl-00000.tar"), "caption")
    assert samples == [own]


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


class DyingFolder(LocalFolder):
    """A folder whose process is killed at the n-th file that it publishes."""

    def __init__(self, path: Path, left: int) -> None:
        super().__init__(path)
        self.left = left

    @contextlib.contextmanager
    def publish(self, name: str) -> Iterator[Path]:
        self.left -= 1
        if self.left < 0:
            raise Killed
        with super().publish(name) as path:
            yield path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_killed_at_any_file_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """11 lines in two files, of which 2 are bad, in shards of 2: 9 samples in 5 shards."""
    lines = [json.dumps({"id": f"t{i}", "text": f"text {i}"}) for i in range(11)]
    lines[3] = lines[7] = "broken"
    for name, part in (("a.jsonl", lines[:5]), ("b.jsonl", lines[5:])):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("\n".join(part) + "\n")
    source = ImportSource(name="given", path=str(tmp_path / "in"), format="json", task="text")
    config = ImportSamplesConfig(sources=(source,), samples_per_shard=2, max_dropped_share=0.5)
    whole = import_samples(output=LocalFolder(tmp_path / "whole"), config=config)
    assert (whole.counts["samples_imported"], whole.counts["dropped/bad_record"]) == (9, 2)
    names = [f"shards/given-0000{i}.tar" for i in range(5)]
    assert list(files_of(tmp_path / "whole")) == ["counts/given.json", *names]
    deaths = 0
    for moment in range(20):
        folder = tmp_path / f"killed-{moment}"
        try:
            import_samples(output=DyingFolder(folder, moment), config=config)
        except Killed:
            deaths += 1
        assert import_samples(output=LocalFolder(folder), config=config) == whole
        assert files_of(folder) == files_of(tmp_path / "whole")
    assert deaths == 11  # five shards, each with its record, and the sum


def test_the_number_of_samples_counts_rows_whatever_becomes_of_them(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"words": "?"}\n{"text": "b"}\n{"text": "c"}\n')
    samples, counts = run(tmp_path, "json", tmp_path / "t.jsonl", "text", num_samples=3)
    assert ([kinds(sample)[0] for sample in samples], counts["samples_read"]) == (["text: a", "text: b"], 3)


def test_one_id_with_two_texts_is_two_samples_and_the_same_twice_is_one(tmp_path: Path) -> None:
    rows = [{"id": 7, "text": "a"}, {"id": 7, "text": "b"}, {"id": 7, "text": "a"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples, counts = run(tmp_path, "json", tmp_path / "t.jsonl", "text", options={"samples_per_shard": 10})
    assert ([sample.parts[0].text for sample in samples], dropped(counts)) == (["a", "b"], {"duplicate_uid": 1})  # type: ignore[union-attr]


def test_a_licence_of_a_row_goes_before_that_of_the_source_and_both_are_told(tmp_path: Path) -> None:
    rows = [{"text": "a", "rights": "CC-BY-4.0"}, {"text": "b", "rights": " "}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = ImportSource(
        name="given", path=str(tmp_path / "t.jsonl"), format="json", task="text", licence="MIT",
        columns={"licence": "rights"},
    )  # fmt: skip
    outcome = import_samples(output=LocalFolder(tmp_path / "out"), config=ImportSamplesConfig(sources=(source,)))
    assert [sample.licence for sample in samples_in(tmp_path / "out")] == ["CC-BY-4.0", "MIT"]
    assert outcome.licences == ("CC-BY-4.0", "MIT")


def test_a_source_that_is_declared_wrongly_fails_after_a_thousand_rows(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"words": "a"}\n' * 1_500)
    with pytest.raises(
        UserError, match=r"1000 of 1000 samples of 'given' are unfit \(no_text 1000\).* an unfit row has words"
    ):
        run(tmp_path, "json", tmp_path / "t.jsonl", "text")


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
    (tmp_path / "t.jsonl").write_text('{"text": "words"}\n{"words": "?"}\n')
    with pytest.raises(UserError, match="no_text 1"):
        run(tmp_path, "json", tmp_path / "t.jsonl", "text", options={"max_dropped_share": 0.4})


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edits.parquet"
    pq.write_table(pa.table({"source_image": [PNG] * 9, "instruction": ["x"] * 9, "target_image": [PNG] * 9}), path)
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1 no table PAR1", whole[:-9], whole[:4] + bytes(100) + whole[104:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"edits\.parquet is no Parquet file, or damaged"):
            run(tmp_path, "table", path, "edit")


@pytest.mark.parametrize(
    ("text", "words"), [("[{", "no JSON, or damaged"), ('{"a": 1}', "no JSON list"), ("[" * 10**6, "no JSON")]
)
def test_a_json_file_that_is_no_list_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(UserError, match=rf"q\.json .*{words}|q\.json is {words}"):
        run(tmp_path, "json", tmp_path / "q.json", "question")


def test_a_line_of_endless_brackets_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "words"}\n' + "[" * 10**6 + "\n")
    _, counts = run(tmp_path, "json", tmp_path / "t.jsonl", "text")
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
        source = ImportSource(name="given", path=path, format="json", task="text")
        output = LocalFolder(tmp_path / f"out{index}")
        counts = import_samples(output=output, config=ImportSamplesConfig(sources=(source,))).counts
        outcomes.append((counts, output.read("shards/given-00000.tar")))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]["samples_imported"] == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": ""}, "task of x is ''; give one of text"),
        ({"columns": {"imge": "jpg"}}, "names 'imge', which no sample of the task 'caption' has; did you mean 'image'"),
        ({"num_samples": 0}, "num_samples of x is 0"),
        ({"video": VideoConfig(max_frames=2)}, "video of x has no effect on the task 'caption'"),
    ],
)
def test_a_source_that_means_nothing_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ImportSource(**({"name": "x", "path": "x", "format": "json", "task": "caption"} | fields))


def test_an_empty_file_and_a_folder_of_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no file at"):
        run(tmp_path, "webdataset", tmp_path / "in", "caption")
    (tmp_path / "in/notes.doc").write_bytes(b"x")
    with pytest.raises(UserError, match=r"nothing in the format 'webdataset', which is a \.tar: it holds notes\.doc"):
        run(tmp_path, "webdataset", tmp_path / "in", "caption")
    (tmp_path / "in/a.tar").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"a\.tar is empty \(0 bytes\)"):
        run(tmp_path, "webdataset", tmp_path / "in", "caption")
