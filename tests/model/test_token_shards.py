"""Token shards: what is written is read back; the sidecar says it alone; nothing in a file is trusted."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_storage import moto_address, new_bucket, use_s3
from token_store import artifact

from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model import token_shards
from arm.model.token_shards import ShardFiles, ShardWriter, sample_batch
from arm.records import Image, Sample, Text, make_uid
from arm.storage import open_folder

__all__ = ["moto_address"]
FILES = ShardFiles("default", "garden-00000")
IDENTITY: dict[str, Any] = {"tokenizer_fingerprint": "f" * 64, "num_codes": 16}
IMAGE = Image(data=b"", format="png", height=9, width=9)
GRIDS = [np.asarray([[7, 0, 3], [1, 15, 2]], np.uint16), np.asarray([[5]], np.uint16), np.asarray([[6, 8]], np.uint16)]
SAMPLES = [
    Sample(
        uid=make_uid("a"), task="caption", parts=(IMAGE, Text(text="a cät", role="caption")), source="garden",
        licence="CC0", scores={"sharpness": 0.5}, meta={"description": "a cat that sleeps"},
    ),
    Sample(uid=make_uid("b"), task="text", parts=(Text(text=""),), source="garden"),
    Sample(uid=make_uid("c"), task="edit", parts=(IMAGE, Text(text="turn", role="answer"), IMAGE), source="garden"),
]  # fmt: skip
LENGTHS = [[[11], [4, 7]], [[0]], [[6], [2], [7]]]


def write(
    folder: Path,
    files: ShardFiles = FILES,
    *,
    batch_rows: int = 2,
    text: str = "t",
    **identity: Any,
) -> Manifest:
    """The three samples as an artifact of one shard."""
    for name in (files.shard, files.lengths, files.index):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    index = token_shards.write_shard(
        folder / files.shard, SAMPLES, GRIDS, batch_rows=batch_rows, **(IDENTITY | identity)
    )
    (folder / files.index).write_bytes(token_shards.index_bytes(index))
    batch = token_shards.lengths_batch(SAMPLES, GRIDS, LENGTHS, [False, True, False])
    token_shards.write_lengths(folder / files.lengths, [batch], text_fingerprint=text)
    return artifact(folder, "token-shards")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (shard,) = token_shards.open_shards(write(tmp_path), **IDENTITY)
    assert (shard.name, len(shard), shard.tasks.tolist()) == ("default/garden-00000", 3, ["caption", "text", "edit"])
    assert shard.starts.tolist() == [0, 2, 3, 6]
    assert shard.lengths.tolist() == [11, 4, 0, 6, 2, 7]
    assert shard.held_out.tolist() == [False, True, False]
    image, caption = shard.parts(0)
    assert image.codes is not None
    assert (image.codes.tolist(), image.height, image.width) == ([7, 0, 3, 1, 15, 2], 2, 3)
    assert (caption.text, caption.codes, caption.is_answer) == ("a cät", None, False)
    assert shard.parts(1)[0].text == ""
    before, answer, after = shard.parts(2)
    assert before.codes is not None and after.codes is not None  # noqa: PT018
    assert (before.codes.tolist(), answer.text, answer.is_answer, after.codes.tolist()) == ([5], "turn", True, [6, 8])


def test_columns_keep_what_else_is_known(tmp_path: Path) -> None:
    write(tmp_path)
    rows = pa.ipc.open_file(str(tmp_path / FILES.shard)).read_all().to_pylist()
    assert rows[0]["uid"] == bytes.fromhex(make_uid("a"))
    assert (rows[0]["licence"], json.loads(rows[0]["scores"])) == ("CC0", {"sharpness": 0.5})
    assert rows[0]["parts"][1]["variants"] == ["a cat that sleeps"]
    assert rows[2]["parts"][1]["variants"] == []


def test_the_same_samples_give_the_same_bytes_and_their_histogram(tmp_path: Path) -> None:
    layout = token_shards.schema(**IDENTITY)
    for name in ("a", "b"):
        with ShardWriter(tmp_path / name, layout) as writer:
            writer.write(sample_batch(SAMPLES, GRIDS, layout))
        assert writer.rows == 3
        assert writer.histogram.tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=3), max_size=8), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_any_shapes_in_any_record_batches_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[tuple[int, int]]], batch_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    grids = [[rng.integers(0, 16, shape, dtype=np.uint16) for shape in row] for row in shapes]
    samples = [
        Sample(uid=make_uid(str(i)), task="interleaved_web", parts=(IMAGE,) * len(row), source="s")
        for i, row in enumerate(grids)
    ]
    for name in (FILES.shard, FILES.lengths, FILES.index):
        (folder / name).parent.mkdir(parents=True)
    flat = [grid for row in grids for grid in row]
    token_shards.write_shard(folder / FILES.shard, samples, flat, batch_rows=batch_rows, **IDENTITY)
    lengths = [[[grid.size + 5] for grid in row] for row in grids]
    batch = token_shards.lengths_batch(samples, flat, lengths, [False] * len(grids))
    token_shards.write_lengths(folder / FILES.lengths, [batch], text_fingerprint="t")
    (shard,) = token_shards.open_shards(artifact(folder, "token-shards"), **IDENTITY)
    found = [[_grid(part) for part in shard.parts(row)] for row in range(len(shard))]
    assert found == [[grid.tolist() for grid in row] for row in grids]


def _grid(part: token_shards.Part) -> list[list[int]]:
    assert part.codes is not None
    grid: npt.NDArray[np.uint16] = part.codes.reshape(part.height, part.width)
    return grid.tolist()  # type: ignore[no-any-return]


def test_another_tokenizer_another_codebook_and_another_format_are_refused(tmp_path: Path) -> None:
    tokens = write(tmp_path)
    with pytest.raises(UserError, match="codes of visual tokenizer 'ffff"):
        token_shards.open_shards(tokens, tokenizer_fingerprint="e" * 64, num_codes=16)
    with pytest.raises(UserError, match="has 16 codes, the tokenizer 8"):
        token_shards.open_shards(tokens, tokenizer_fingerprint="f" * 64, num_codes=8)
    (tmp_path / "old/shards").mkdir(parents=True)
    (tmp_path / FILES.shard).replace(tmp_path / "old/shards/garden-00000.arrow")
    with pytest.raises(UserError, match=r"format 1, .* run tokenize-images again"):
        token_shards.open_shards(artifact(tmp_path / "old", "token-shards"), **IDENTITY)


def test_of_several_variants_one_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    tokens = write(tmp_path, ShardFiles("large", "garden-00000"))
    with pytest.raises(UserError, match="the variants default, large; name the one"):
        token_shards.open_shards(tokens, **IDENTITY)
    assert [shard.name for shard in token_shards.open_shards(tokens, variant="large", **IDENTITY)] == [
        "large/garden-00000"
    ]
    with pytest.raises(UserError, match="no variant 'small'"):
        token_shards.open_shards(tokens, variant="small", **IDENTITY)


def test_lengths_of_two_text_tokenizers_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path)
    tokens = write(tmp_path, ShardFiles("default", "garden-00001"), text="another")
    with pytest.raises(UserError, match="another text tokenizer"):
        token_shards.open_shards(tokens, **IDENTITY)


def change_lengths(folder: Path, change: Callable[[list[dict[str, Any]]], Any], **metadata: str) -> Manifest:
    """The three samples with a sidecar that says something else."""
    write(folder)
    table = pq.read_table(folder / FILES.lengths)
    rows = table.to_pylist()
    change(rows)
    changed = {name.encode(): value.encode() for name, value in metadata.items()}
    layout = table.schema.with_metadata(table.schema.metadata | changed)
    pq.write_table(pa.Table.from_pylist(rows, schema=layout), folder / FILES.lengths)
    return artifact(folder, "token-shards")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[2]["parts"].pop(), "its lengths describe other parts"),
        (lambda rows: rows[0].update(uid=bytes(16)), "its lengths describe other samples"),
        (lambda rows: rows[0].update(task="edit"), "its lengths describe other tasks"),
        (lambda rows: rows[2]["parts"][1].update(is_answer=False), "its lengths describe other answers"),
        (lambda rows: rows[0]["parts"][0].update(height=3, width=2), "its lengths describe other heights"),
        (
            lambda rows: rows[0]["parts"][1].update(is_text=False, height=2, width=1, lengths=[7]),
            "its lengths describe other kinds of parts",
        ),
        (lambda rows: rows[0]["parts"][1]["lengths"].pop(), "its lengths describe other texts"),
        (lambda rows: rows[0]["parts"][1].update(lengths=[]), "its lengths leave out a part"),
        (lambda rows: rows[0]["parts"][0].update(lengths=[12]), "its lengths are out of bounds"),
        (lambda rows: rows[0]["parts"][1].update(lengths=[-4, 7]), "its lengths are out of bounds"),
        (lambda rows: rows[0]["parts"][1].update(height=1), "its lengths are out of bounds"),
        (lambda rows: rows[0].update(held_out=None), "holds a missing value"),
        (lambda rows: rows[0]["parts"][0].update(width=None), "holds a missing value"),
    ],
)
def test_lengths_that_do_not_fit_the_shard_are_refused(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        token_shards.open_shards(change_lengths(tmp_path, change), **IDENTITY)


def test_format_2_is_refused(tmp_path: Path) -> None:
    tokens = change_lengths(tmp_path, list, format_version="2")
    with pytest.raises(
        UserError, match=r"lengths .*garden-00000\.parquet have format 2, not 3; run tokenize-images again"
    ):
        token_shards.open_lengths(tokens, FILES)
    layout = token_shards.schema(**IDENTITY)
    old = layout.with_metadata({**layout.metadata, b"format_version": b"2"})
    with pa.OSFile(str(tmp_path / FILES.shard), "wb") as sink, pa.ipc.new_file(sink, old):
        pass
    with pytest.raises(UserError, match="token-shard format 2, not 3; run tokenize-images again"):
        token_shards.open_shards(artifact(tmp_path, "token-shards"), **IDENTITY)


def test_the_sidecar_alone_says_what_the_shard_says_and_where_a_uid_lies(tmp_path: Path) -> None:
    tokens = write(tmp_path)
    (shard,) = token_shards.open_shards(tokens, **IDENTITY)
    (tmp_path / FILES.shard).unlink()
    lengths = token_shards.open_lengths(tokens, FILES)
    for field in dataclasses.fields(token_shards.ShardLengths):
        assert np.array_equal(getattr(lengths, field.name), getattr(shard, field.name)), field.name
    assert lengths.tasks.tolist() == ["caption", "text", "edit"]
    assert lengths.uid_keys.tolist() == [int.from_bytes(bytes.fromhex(s.uid)[:8], "little") for s in SAMPLES]
    assert lengths.is_text.tolist() == [False, True, True, False, True, False]
    assert lengths.is_answer.tolist() == [False, False, False, False, True, False]
    assert (lengths.heights.tolist(), lengths.widths.tolist()) == ([2, 0, 0, 1, 0, 1], [3, 0, 0, 1, 0, 2])
    assert (lengths.variant_starts.tolist(), lengths.variant_lengths.tolist()) == ([0, 0, 1, 1, 1, 1, 1], [7])
    assert list(token_shards.find_uid(tokens, bytes.fromhex(make_uid("b")))) == [("default/garden-00000", 1, True)]
    assert list(token_shards.find_uid(tokens, bytes.fromhex(make_uid("z")))) == []


def test_a_captioned_image_costs_19_bytes_in_the_sidecar_beside_2048_of_codes(tmp_path: Path) -> None:
    """16 of the uid; about one each of two lengths of texts that are uniform among 40 and 160 (5.3 and 7.3 bits)."""
    rng, grid = np.random.default_rng(0), np.zeros((32, 32), np.uint16)
    samples = [dataclasses.replace(SAMPLES[0], uid=make_uid(str(row))) for row in range(20_000)]
    counts = zip(rng.integers(10, 50, 20_000).tolist(), rng.integers(60, 220, 20_000).tolist(), strict=True)
    lengths = [[[1029], [caption, description]] for caption, description in counts]
    batch = token_shards.lengths_batch(samples, [grid] * 20_000, lengths, [False] * 20_000)
    token_shards.write_lengths(tmp_path / "lengths.parquet", [batch], text_fingerprint="t")
    assert 17 < (tmp_path / "lengths.parquet").stat().st_size / 20_000 < 19.5


def hostile(folder: Path, **part: Any) -> Manifest:
    """A shard of one image whose part says something wrong."""
    layout = token_shards.schema(**IDENTITY)
    fields = {"kind": "image", "role": "", "text": "", "codes": [1, 2], "height": 1, "width": 2, "variants": []} | part
    row = {
        "uid": bytes(16),
        "task": "caption",
        "parts": [fields],
        "source": "",
        "licence": "",
        "scores": "",
        "meta": "",
    }
    for name in (FILES.shard, FILES.lengths):
        (folder / name).parent.mkdir(parents=True)
    with pa.OSFile(str(folder / FILES.shard), "wb") as sink, pa.ipc.new_file(sink, layout) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=layout))
    sample = Sample(uid="00" * 16, task="caption", parts=(IMAGE,), source="")
    batch = token_shards.lengths_batch([sample], [np.zeros((1, 2), np.uint16)], [[[7]]], [False])
    token_shards.write_lengths(folder / FILES.lengths, [batch], text_fingerprint="t")
    return artifact(folder, "token-shards")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"codes": [1, 16]}, "the code 16; the visual tokenizer has 16"),
        ({"codes": [1]}, "height × width"),
        ({"codes": [], "height": 0}, "height × width"),
        ({"kind": "text"}, "height × width"),
        ({"codes": None}, "missing value"),
        ({"height": None}, "missing value"),
        ({"text": None}, "missing value"),
    ],
)
def test_values_out_of_bounds_are_refused(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        token_shards.open_shards(hostile(tmp_path, **part), **IDENTITY)


def test_a_code_beyond_the_codebook_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A code is 15; this visual tokenizer has 8 codes"):
        write(tmp_path, num_codes=8)


@pytest.mark.parametrize("cut", [0, 10, 500, -20])
def test_a_file_that_is_no_arrow_file_is_named(tmp_path: Path, cut: int) -> None:
    write(tmp_path)
    path = tmp_path / FILES.shard
    path.write_bytes(path.read_bytes()[:cut] + b"x")
    with pytest.raises(IntegrityError, match=r"garden-00000\.arrow"):
        token_shards.open_shards(artifact(tmp_path, "token-shards"), **IDENTITY)


def test_a_record_batch_in_object_storage_is_read_by_range_and_an_altered_one_is_found(
    tmp_path: Path, moto_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path / "local")
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    remote = open_folder(new_bucket(f"ranges-{abs(hash(str(tmp_path))):x}"))
    for entry in made.files:
        remote.write(entry.path, made.local(entry).read_bytes())
    tokens = dataclasses.replace(made, folder=remote)
    whole = token_shards.read_batch(made, FILES, 1, **IDENTITY)
    assert token_shards.read_batch(tokens, FILES, 1, **IDENTITY).equals(whole)
    assert not list((tmp_path / "cache").rglob("*.arrow")), "the range alone was fetched"
    data = bytearray(remote.read(FILES.shard))
    data[json.loads(remote.read(FILES.index))["batches"][1]["offset"] + 100] ^= 1
    remote.write(FILES.shard, bytes(data))
    with pytest.raises(IntegrityError, match=r"Record batch 1 of s3://.*garden-00000\.arrow is altered"):
        token_shards.read_batch(tokens, FILES, 1, **IDENTITY)
    assert token_shards.read_batch(tokens, FILES, 0, **IDENTITY).num_rows == 2


def test_a_record_batch_beyond_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    index = json.loads((tmp_path / FILES.index).read_bytes())
    index["batches"][1]["length"] = 1 << 50
    (tmp_path / FILES.index).write_bytes(token_shards.index_bytes(index))
    with pytest.raises(IntegrityError, match=r"Record batch 1 of .* ends after the file"):
        token_shards.read_batch(artifact(tmp_path, "token-shards"), FILES, 1, **IDENTITY)


def test_a_record_batch_is_read_by_range_and_checked_on_its_own(tmp_path: Path) -> None:
    tokens = write(tmp_path)
    batch = token_shards.read_batch(tokens, FILES, 1, **IDENTITY)
    assert batch.column("task").to_pylist() == ["edit"]
    entries = json.loads((tmp_path / FILES.index).read_bytes())["batches"]
    assert [entry["rows"] for entry in entries] == [2, 1]
    data = bytearray((tmp_path / FILES.shard).read_bytes())
    data[entries[1]["offset"] + entries[1]["length"] - 3] ^= 1
    (tmp_path / FILES.shard).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"Record batch 1 of .*garden-00000\.arrow is altered"):
        token_shards.read_batch(tokens, FILES, 1, **IDENTITY)
    assert token_shards.read_batch(tokens, FILES, 0, **IDENTITY).num_rows == 2
    (tmp_path / FILES.shard).write_bytes(data[: entries[1]["offset"] + 8])
    with pytest.raises(IntegrityError, match=r"Record batch 1 of .* is truncated: 8 bytes"):
        token_shards.read_batch(tokens, FILES, 1, **IDENTITY)
    with pytest.raises(UserError, match="lists 2 record batches, no number 2"):
        token_shards.read_batch(tokens, FILES, 2, **IDENTITY)


@pytest.mark.parametrize(
    "index",
    [
        b"[]", b"{", b'{"format_version": 3}', *(
            b'{"format_version": 3, "tokenizer_fingerprint": "", "num_codes": 1, "batches": [%s]}' % entry
            for entry in (
                b'{"offset": -1, "length": 1, "rows": 1, "sha256": ""}',
                b'{"offset": 0.5, "length": 1, "rows": 1, "sha256": ""}',
                b'{"offset": 0, "length": 1, "rows": 1, "sha256": 7}',
            )
        ),
    ],
)  # fmt: skip
def test_an_index_that_is_none_is_refused(tmp_path: Path, index: bytes) -> None:
    write(tmp_path)
    (tmp_path / FILES.index).write_bytes(index)
    with pytest.raises(IntegrityError, match="is no index"):
        token_shards.read_batch(artifact(tmp_path, "token-shards"), FILES, 0, **IDENTITY)
