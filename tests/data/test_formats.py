"""Formats and shapes of import-samples: rows of every container become samples of every task; nothing in them is trusted."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importers import OTHER_PNG, PNG, dropped, kinds, run

from arm import recipes
from arm.data.config import ImportSource
from arm.data.formats.files import Files
from arm.data.formats.readers import FORMATS
from arm.data.tar import write_members
from arm.errors import IntegrityError, UserError
from arm.records import Image, Sample

CELL = {"bytes": PNG, "path": "x.png"}
Imported = tuple[list[Sample], dict[str, int]]


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def images(sample: Sample) -> list[bytes]:
    return [part.data for part in sample.parts if isinstance(part, Image)]


def turns(*words: str) -> list[dict[str, str]]:
    return [{"from": "human" if index % 2 == 0 else "gpt", "value": text} for index, text in enumerate(words)]


# --- questions


def test_conversations_of_every_kind(tmp_path: Path) -> None:
    """One image is the first part wherever its mark stands; several stand at their marks; none is fine, too."""
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/images/a.png").write_bytes(PNG)
    (tmp_path / "in/b.png").write_bytes(OTHER_PNG)
    openai = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A cat."},
    ]
    lines(
        tmp_path / "in/q.jsonl",
        {"id": 1, "image": "a.png", "conversations": turns("Red?\n<image>", "Yes.", "Sure?", "Yes!")},
        {"id": 2, "image": ["a.png", "b.png"], "conversations": turns("<image> or <image>?", "The first.")},
        {"id": 3, "conversations": turns("What is 1 + 1?", "2")},
        {"id": 4, "image": "a.png", "messages": openai},
        {"id": 5, "image": "a.png", "question": "Red?", "answer": "No."},
        {"id": 6, "image": ["a.png", "b.png"], "conversations": turns("<image>?", "?")},
        {"id": 7, "image": "a.png", "conversations": turns("Red?")},
        {"id": 8, "image": "a.png", "conversations": [{"from": "nobody", "value": "Red?"}]},
    )
    samples, counts = run(tmp_path, "json", tmp_path / "in", "question")
    assert [kinds(sample) for sample in samples] == [
        ["image", "question: Red?", "answer: Yes.", "question: Sure?", "answer: Yes!"],
        ["image", "question: or", "image", "question: ?", "answer: The first."],
        ["question: What is 1 + 1?", "answer: 2"],
        ["image", "question: Be brief.", "question: What?", "answer: A cat."],
        ["image", "question: Red?", "answer: No."],
    ]
    assert images(samples[1]) == [PNG, OTHER_PNG]
    assert dropped(counts) == {"image_marks": 1, "no_answer": 1, "bad_record": 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "bad_path"),
        ("a/../../secret.png", "bad_path"),
        ("/etc/passwd", "bad_path"),
        ("..\\secret.png", "bad_path"),
        ("file:///etc/passwd", "remote_file"),
        ("http://169.254.169.254/latest", "remote_file"),
        ("data:image/png;base64,AAAA", "remote_file"),
        ("gone.png", "no_image"),
        ("q.jsonl", "bad_image"),
        ("", "no_image"),
    ],
)
def test_a_name_in_a_row_reaches_nothing_but_the_files_of_its_source(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/ok.png").write_bytes(PNG)
    ask = turns("?", "!")
    lines(tmp_path / "in/q.jsonl", *({"image": n, "conversations": ask} for n in (name, "ok.png")))
    _, counts = run(tmp_path, "json", tmp_path / "in", "question")
    assert dropped(counts) == {reason: 1}


def test_a_link_out_of_the_data_set_is_refused_and_one_into_the_hubs_cache_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(PNG)
    (tmp_path / "in/a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UserError, match=r"a\.txt is a link out of .*in, .*to .*secret\.txt; put the files them"):
        run(tmp_path, "folder", tmp_path / "in", "caption")
    (tmp_path / "in/a.txt").unlink()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/b.txt").write_text("secret")
    (tmp_path / "in/below").symlink_to(tmp_path / "secrets")
    with pytest.raises(UserError, match=r"below is a link out of .*in, .*to .*secrets; put the files them"):
        run(tmp_path, "folder", tmp_path / "in/*/*.txt", "caption")
    cache = tmp_path / "datasets--x"
    (cache / "blobs").mkdir(parents=True)
    lines(cache / "blobs/123", {"text": "words"})
    (cache / "snapshots/main").mkdir(parents=True)
    (cache / "snapshots/main/t.jsonl").symlink_to("../../blobs/123")
    samples, _ = run(tmp_path, "json", cache / "snapshots/main", "text")
    assert kinds(samples[0]) == ["text: words"]


# --- JSON


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.floats(allow_nan=False), st.text(), st.lists(st.integers()))),
        max_size=6,
    ),
    st.integers(0, 6),
    st.sampled_from([None, 0, 3]),
)  # fmt: skip
def test_a_list_is_read_object_by_object_as_json_loads_reads_it_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], start: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("list") / "q.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
    source = ImportSource(name="given", path=str(path), format="json", task="text")
    found = [row.values for row in FORMATS["json"].read("q.json", Files(str(path)), source, start)]  # type: ignore[union-attr]
    assert found == rows[start:]


def test_a_list_of_many_windows_is_read_whole(tmp_path: Path) -> None:
    rows = [{"id": index, "text": f"{index} " * 40_000} for index in range(40)]  # 5 MB in windows of 1 MB
    (tmp_path / "q.json").write_text(json.dumps(rows))
    source = ImportSource(name="given", path=str(tmp_path), format="json", task="text")
    assert [row.values for row in FORMATS["json"].read("q.json", Files(str(tmp_path)), source, 0)] == rows  # type: ignore[union-attr]


def test_packed_lines_are_read_and_a_damaged_pack_is_named(tmp_path: Path) -> None:
    text = b'{"text": "one"}\n{"text": "two"}\n'
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "in/b.jsonl.zst").write_bytes(pa.compress(text.replace(b"o", b"0"), codec="zstd", asbytes=True))
    samples, _ = run(tmp_path, "json", tmp_path / "in", "text")
    assert [kinds(sample)[0] for sample in samples] == ["text: one", "text: two", "text: 0ne", "text: tw0"]
    for name in ("a.jsonl.gz", "b.jsonl.zst"):
        whole = (tmp_path / "in" / name).read_bytes()
        (tmp_path / "in" / name).write_bytes(whole[:12] + whole[13:-6])
        with pytest.raises(IntegrityError, match=rf"{name} cannot be unpacked or read"):
            run(tmp_path / name, "json", tmp_path / "in" / name, "text")
        (tmp_path / "in" / name).write_bytes(whole)


def test_text_that_no_file_can_hold_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "\\ud800"}\n{"text": "ok", "n": NaN, "x": "\\udfff"}\n')
    samples, counts = run(tmp_path, "json", tmp_path / "t.jsonl", "text")
    assert ([sample.meta for sample in samples], dropped(counts)) == ([{}], {"bad_text": 1})


# --- tars and folders


def test_webdataset_keys_texts_and_fields(tmp_path: Path) -> None:
    """The key ends at the first dot of the file's name; captions in txt, or in a field of the json, or several."""
    members = [
        ("v1.2/a.jpg", PNG), ("v1.2/a.txt", b" one "),
        ("v1.2/b.seg.png", OTHER_PNG), ("v1.2/b.PNG", PNG), ("v1.2/b.json", b'{"caption": "two", "url": "http://x.test/b", "original_height": "tall"}'),
        ("c.png", PNG), ("c.json", b'{"caption": ["short", "the longest one", "longer"]}'),
        (".hidden.png", PNG), ("d.png", PNG), ("d.txt", b"\xff"), ("e.png", PNG), ("e.json", b"["),
        ("f.png", PNG), ("f.txt", b"f"), ("f.txt", b"again"),
    ]  # fmt: skip
    write_members(tmp_path / "w.tar", members)
    samples, counts = run(tmp_path, "webdataset", tmp_path / "w.tar", "text_to_image")
    assert [kinds(sample)[1] for sample in samples] == ["caption: one", "caption: two", "caption: short"]
    assert [sample.meta for sample in samples] == [
        {"id": "v1.2/a"}, {"id": "v1.2/b", "url": "http://x.test/b"}, {"id": "c", "description": "the longest one"},
    ]  # fmt: skip
    assert images(samples[1]) == [PNG]
    assert dropped(counts) == {"bad_text": 1, "bad_record": 2}


def test_editing_triplets_from_a_webdataset_and_with_names_of_their_own(tmp_path: Path) -> None:
    members = [
        ("1.source.png", PNG), ("1.target.png", OTHER_PNG), ("1.txt", b"turn it"),
        ("2.source.png", PNG), ("2.txt", b"no target"),
    ]  # fmt: skip
    write_members(tmp_path / "a.tar", members)
    renamed = [("1.before.png", PNG), ("1.after.png", OTHER_PNG), ("1.json", b'{"edit": {"words": "turn it"}}')]
    write_members(tmp_path / "b.tar", renamed)
    columns = {"source_image": "before.png", "target_image": "after.png", "instruction": "json.edit.words"}
    first, counts = run(tmp_path / "1", "webdataset", tmp_path / "a.tar", "edit")
    second, _ = run(tmp_path / "2", "webdataset", tmp_path / "b.tar", "edit", columns=columns)
    assert [sample.parts for sample in first] == [sample.parts for sample in second]
    assert (images(first[0]), dropped(counts)) == ([PNG, OTHER_PNG], {"no_image": 1})


def test_a_folders_key_ends_at_the_last_dot(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, data in {"a.b.PNG": PNG, "a.b.txt": b"x", "a.txt": b"y", "c.png": PNG}.items():
        (tmp_path / "in" / name).write_bytes(data)
    samples, counts = run(tmp_path, "folder", tmp_path / "in", "caption")
    assert ([(s.meta["id"], kinds(s)[1]) for s in samples], dropped(counts)) == (
        [("a.b", "caption: x")],
        {"no_text": 1},
    )


# --- tables


def save_to_disk(folder: Path, *shards: pa.Table, **state: Any) -> Path:
    """What `datasets.Dataset.save_to_disk` writes: Arrow streams, and a state that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{index:05d}-of-{len(shards):05d}.arrow" for index in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, shard.schema) as writer:
            writer.write_table(shard, max_chunksize=2)
    described = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "x",
        "_indices_data_files": None,
    }
    (folder / "state.json").write_text(json.dumps(described | state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def captions(*texts: str) -> pa.Table:
    return pa.Table.from_pylist([{"image": CELL, "caption": text, "width": 36} for text in texts])


def test_a_saved_data_set_is_read_in_the_order_of_its_state(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "set", captions("a", "b", "c"), captions("d"))
    pq.write_table(captions("stale"), folder / "cache.parquet")  # what `map` leaves behind
    samples, _ = run(tmp_path, "table", folder, "caption")
    assert [kinds(sample) for sample in samples] == [["image", f"caption: {text}"] for text in "abcd"]
    assert samples[0].meta == {"width": 36}


def test_one_split_is_imported_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("test", "train"):
        save_to_disk(root / split, captions(split))
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(UserError, match=r"holds the splits test, train; name one, .*set/train'"):
        run(tmp_path, "table", root, "caption")
    samples, _ = run(tmp_path, "table", root / "train", "caption")
    assert kinds(samples[0])[1] == "caption: train"
    hub = tmp_path / "hub/data"
    hub.mkdir(parents=True)
    for split in ("dev", "train"):
        pq.write_table(captions(split), hub / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"the splits dev, train; .*hub/data/train\*\.parquet'"):
        run(tmp_path / "2", "table", tmp_path / "hub", "caption")
    samples, _ = run(tmp_path / "2", "table", hub / "train-*.parquet", "caption")
    assert kinds(samples[0])[1] == "caption: train"


def test_a_saved_data_set_that_is_not_whole_is_named(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "a", captions("a"), captions("b"))
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(IntegrityError, match=r"lacks data-00001-of-00002\.arrow, which state\.json names"):
        run(tmp_path, "table", folder, "caption")
    chosen = save_to_disk(tmp_path / "b", captions("a"), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(UserError, match="flatten_indices"):
        run(tmp_path, "table", chosen, "caption")
    path = save_to_disk(tmp_path / "c", captions("a")) / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense" * 9, whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"\.arrow is no Arrow file, or damaged"):
            run(tmp_path / "out", "table", path, "caption")


@pytest.mark.parametrize("start", [0, 1, 4, 5, 9, 10])
def test_reading_from_a_row_on_gives_what_follows_it(tmp_path: Path, start: int) -> None:
    rows = [{"text": f"text {index}"} for index in range(10)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    save_to_disk(tmp_path / "set", table)
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    write_members(tmp_path / "a.tar", [(f"{index}.txt", row["text"].encode()) for index, row in enumerate(rows)])
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text"], *([row["text"]] for row in rows)])
    arrow = "set/data-00000-of-00001.arrow"
    formats = {
        "a.parquet": "table",
        arrow: "table",
        "a.csv": "table",
        "a.jsonl": "json",
        "a.json": "json",
        "a.tar": "webdataset",
    }
    for name, form in formats.items():
        source = ImportSource(name="given", path=str(tmp_path), format=form, task="text")  # type: ignore[arg-type]
        read = list(FORMATS[form].read(name, Files(str(tmp_path)), source, start))
        assert len(read) == 10 - start, name
        if name != "a.tar":
            assert [row.values for row in read] == rows[start:], name  # type: ignore[union-attr]


def test_rows_of_csv_with_too_many_cells_cost_themselves(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text,n\n"one, two",1\nthree\nfour,4,4\n')
    samples, counts = run(tmp_path, "table", tmp_path / "t.csv", "text")
    assert (kinds(samples[0]), samples[0].meta, dropped(counts)) == (["text: one, two"], {"n": "1"}, {"bad_record": 2})


def test_an_endless_line_of_csv_costs_itself_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    """32 MiB without a line break are read in two pieces of 16, each too long for a text."""
    (tmp_path / "t.csv").write_bytes(b"text\nok\n" + b"x" * (1 << 25))
    samples, counts = run(tmp_path, "table", tmp_path / "t.csv", "text")
    assert ([kinds(sample) for sample in samples], dropped(counts)) == ([["text: ok"]], {"long_text": 2})
    (tmp_path / "t.csv").write_bytes(b"text\n\xff\xfe\n")
    with pytest.raises(IntegrityError, match=r"t\.csv is no CSV file in UTF-8"):
        run(tmp_path / "2", "table", tmp_path / "t.csv", "text")


def test_interleaved_pages_are_two_lists_with_gaps(tmp_path: Path) -> None:
    """OBELICS gives addresses: the images that img2dataset fetched are found by theirs, pages go on without the others."""
    page = {"images": [None, "http://x.test/b.png", None], "texts": ["before", None, "after"], "metadata": "[null]"}
    (tmp_path / "in").mkdir()
    fetched = [("000.json", b'{"url": "http://x.test/b.png", "status": "success"}'), ("000.png", PNG), ("000.txt", b"")]
    write_members(tmp_path / "in/00000.tar", [*fetched, ("001.png", OTHER_PNG)])
    rows = [
        page,
        page | {"images": ["http://x.test/gone.png", "http://x.test/b.png", "001.png"]},
        page | {"images": ["http://x.test/gone.png", None, None]},
        page | {"images": [None, None, None]},
        page | {"images": ["../b.png", None, None]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/p.parquet")
    samples, counts = run(tmp_path, "table", tmp_path / "in", "interleaved_web")
    assert [kinds(sample) for sample in samples] == [
        ["text: before", "image", "text: after"],
        ["text: before", "image", "image", "text: after"],
        ["text: before", "text: after"],
    ]
    assert (images(samples[1]), samples[0].meta) == ([PNG, OTHER_PNG], {"metadata": "[null]"})
    assert dropped(counts) == {"no_image": 1, "bad_path": 1}


# --- every data set that the recipe `small` names


def blip3o(folder: Path) -> None:
    write_members(folder / "00000.tar", [("000000000.jpg", PNG), ("000000000.txt", b"A long caption.")])


def llava_next(folder: Path) -> None:
    row = {
        "id": "000000033471",
        "image": CELL,
        "conversations": turns("<image>\nWhat?", "A bus."),
        "data_source": "coco",
    }
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), folder / "data/train-00000-of-00250.parquet")


def omniedit(folder: Path) -> None:
    row = {
        "omni_edit_id": "task_obj_add_1", "task": "addition", "src_img": CELL, "edited_img": CELL,
        "edited_prompt_list": ["Add a boat.", "Let there be a boat."], "width": 36, "sc_score_1": 9, "sc_reasoning": "fine",
    }  # fmt: skip
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), folder / "data/train-00000-of-00571.parquet")
    pq.write_table(pa.Table.from_pylist([row | {"omni_edit_id": "dev"}]), folder / "data/dev-00000-of-00001.parquet")


def obelics(folder: Path) -> None:
    row = {
        "images": [None, "https://x.test/1.jpg"], "metadata": "[null, {}]", "general_metadata": '{"url": "https://x.test"}',
        "texts": ["A page.", None],
    }  # fmt: skip
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), folder / "data/train-00000-of-01439.parquet")
    (folder / "images").mkdir()
    members = [("000000000.jpg", PNG), ("000000000.json", b'{"url": "https://x.test/1.jpg"}'), ("000000000.txt", b"")]
    write_members(folder / "images/00000.tar", members)


def fineweb(folder: Path) -> None:
    row = {
        "text": "A page.",
        "id": "<urn:uuid:1>",
        "dump": "CC-MAIN-2013-20",
        "url": "http://x.test",
        "score": 3.4,
        "int_score": 3,
    }
    (folder / "sample/10BT").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row]), folder / "sample/10BT/000_00000.parquet")


SMALL: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "captions": (blip3o, "data/blip3o-long-caption", ["image", "caption: A long caption."]),
    "questions": (llava_next, "data/llava-next", ["image", "question: What?", "answer: A bus."]),
    "edits": (omniedit, "data/omniedit", ["image", "instruction: Add a boat.", "image"]),
    "pages": (obelics, "data/obelics", ["text: A page.", "image"]),
    "texts": (fineweb, "data/fineweb-edu", ["text: A page."]),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_sets_of_the_small_recipe_are_imported_as_they_are_published(tmp_path: Path, name: str) -> None:
    make, root, expected = SMALL[name]
    (declared,) = (s for s in recipes.find("small").config("import-samples-training").sources if s.name == name)
    folder = tmp_path / root
    folder.mkdir(parents=True)
    make(folder)
    samples, counts = run(
        tmp_path, declared.format, tmp_path / declared.path, declared.task, columns=dict(declared.columns), licence=declared.licence
    )  # fmt: skip
    assert ([kinds(sample) for sample in samples], dropped(counts)) == ([expected], {})
