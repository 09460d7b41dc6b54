"""Token shards: Arrow IPC files of samples whose images are codes, with a Parquet sidecar of token lengths.

    shards/garden-00000.arrow      uid  task  parts  source  licence  meta
    lengths/garden-00000.parquet   lengths (tokens of each part)  held_out

    parts   [{kind 'image', role '', text '', codes [7 0 …], height 3, width 3},
             {kind 'text', role 'caption', text 'a red circle', codes [], height 0, width 0}]
    lengths [14, 4]                an image counts its codes and five tokens around them; text ids without specials

Codes are uint16 without an offset; text is text, its ids are made at load. The schema's metadata name the visual
tokenizer (`tokenizer_fingerprint`, `num_codes`), the sidecar's the text tokenizer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest

FORMAT_VERSION = 1
HELD_OUT_FRACTION = 0.01

PART = pa.struct(
    [
        ("kind", pa.string()),
        ("role", pa.string()),
        ("text", pa.string()),
        ("codes", pa.list_(pa.uint16())),
        ("height", pa.uint16()),
        ("width", pa.uint16()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a tokenised sample: an image when it has codes, else a text."""

    text: str = ""
    is_answer: bool = False
    codes: npt.NDArray[np.uint16] | None = None
    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """An open shard with its lengths, flat: the parts of row r are `starts[r]` to `starts[r + 1]`. Texts and codes are
    read where they lie (memory map)."""

    name: str
    tasks: npt.NDArray[np.str_]
    uid_keys: npt.NDArray[np.uint64]
    """First eight bytes of each uid: the key of every random choice about it."""
    held_out: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    is_text: npt.NDArray[np.bool_]
    is_answer: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    """Tokens of each part."""
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    code_starts: npt.NDArray[np.int64]
    codes: npt.NDArray[np.uint16]
    texts: pa.Array

    def __len__(self) -> int:
        return len(self.tasks)

    def parts(self, row: int) -> list[Part]:
        """The parts of one sample."""
        return [self._part(index) for index in range(int(self.starts[row]), int(self.starts[row + 1]))]

    def _part(self, index: int) -> Part:
        if self.is_text[index]:
            return Part(text=self.texts[index].as_py(), is_answer=bool(self.is_answer[index]))
        codes = self.codes[self.code_starts[index] : self.code_starts[index + 1]]
        return Part(codes=codes, height=int(self.heights[index]), width=int(self.widths[index]))


def schema(*, tokenizer_fingerprint: str, num_codes: int) -> pa.Schema:
    """The schema of a shard, with its metadata."""
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "num_codes": str(num_codes),
    }
    fields = [("uid", pa.binary(16)), ("task", pa.string()), ("parts", pa.list_(PART))]
    fields += [("source", pa.string()), ("licence", pa.string()), ("meta", pa.string())]
    return pa.schema(fields, metadata=metadata)


def lengths_schema(*, text_fingerprint: str) -> pa.Schema:
    """The schema of the sidecar, with its metadata."""
    metadata = {"text_fingerprint": text_fingerprint}
    return pa.schema([("lengths", pa.list_(pa.int32())), ("held_out", pa.bool_())], metadata=metadata)


def is_held_out(uid: bytes) -> bool:
    """Whether a sample belongs to the fixed held-out split: a function of its uid alone."""
    return int.from_bytes(hashlib.sha256(b"held-out" + uid).digest()[:4], "big") < HELD_OUT_FRACTION * 2**32


def text_fingerprint(tokenizer: Any) -> str:
    """A digest of a text tokenizer's vocabulary and merges."""
    state = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(state.encode()).hexdigest()


def write_shard(path: Path, rows: Sequence[dict[str, Any]], *, tokenizer_fingerprint: str, num_codes: int) -> None:
    """Write one shard; each row has the columns of the schema, parts as dictionaries."""
    layout = schema(tokenizer_fingerprint=tokenizer_fingerprint, num_codes=num_codes)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, layout) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=layout))


def write_lengths(
    path: Path, lengths: Sequence[Sequence[int]], held_out: Sequence[bool], *, text_fingerprint: str
) -> None:
    """Write the sidecar of one shard."""
    layout = lengths_schema(text_fingerprint=text_fingerprint)
    columns = {"lengths": [list(row) for row in lengths], "held_out": list(held_out)}
    pq.write_table(pa.table(columns, schema=layout), path)


def open_shards(tokens: Manifest, *, tokenizer_fingerprint: str, num_codes: int) -> list[Shard]:
    """Open every shard of a token-shards artifact in name order; another visual tokenizer's codes are refused."""
    entries = tokens.select("shards/", ".arrow")
    if not entries:
        raise UserError(f"{tokens.url} ({tokens.kind}) holds no token shards.")
    shards = []
    for entry in entries:
        name = Path(entry.path).stem
        table = pa.ipc.open_file(pa.memory_map(str(tokens.local(entry)))).read_all()
        _check(table.schema.metadata or {}, entry.path, tokenizer_fingerprint, num_codes)
        sidecar = pq.read_table(tokens.local(f"lengths/{name}.parquet"))
        shards.append(_open(name, table, sidecar))
    return shards


def _check(metadata: dict[bytes, bytes], path: str, fingerprint: str, num_codes: int) -> None:
    found = metadata.get(b"tokenizer_fingerprint", b"").decode()
    if found != fingerprint:
        raise UserError(
            f"{path} holds codes of visual tokenizer {found[:12]!r}, not {fingerprint[:12]!r}; tokenize with this one."
        )
    if int(metadata.get(b"num_codes", b"0")) != num_codes:
        raise UserError(f"{path} has {metadata.get(b'num_codes', b'?').decode()} codes, the tokenizer {num_codes}.")


def _open(name: str, table: pa.Table, sidecar: pa.Table) -> Shard:
    if len(table) != len(sidecar):
        raise IntegrityError(f"Shard {name} has {len(table)} rows, its lengths {len(sidecar)}; tokenize again.")
    starts, parts = _flat(table["parts"])
    _, lengths = _flat(sidecar["lengths"])
    if len(lengths) != len(parts):
        raise IntegrityError(f"Shard {name} has {len(parts)} parts, its lengths {len(lengths)}; tokenize again.")
    code_starts, codes = _flat(parts.field("codes"))
    uids = b"".join(table["uid"].to_pylist())
    return Shard(
        name=name,
        tasks=np.asarray(table["task"].to_pylist(), dtype=np.str_),
        uid_keys=np.frombuffer(uids, dtype="<u8").reshape(-1, 2)[:, 0].copy(),
        held_out=np.asarray(sidecar["held_out"].to_pylist(), dtype=np.bool_),
        starts=starts,
        is_text=_equals(parts.field("kind"), "text"),
        is_answer=_equals(parts.field("role"), "answer"),
        lengths=np.asarray(lengths, dtype=np.int64),
        heights=np.asarray(parts.field("height").fill_null(0), dtype=np.int64),
        widths=np.asarray(parts.field("width").fill_null(0), dtype=np.int64),
        code_starts=code_starts,
        codes=np.asarray(codes),
        texts=parts.field("text"),
    )


def _flat(lists: Any) -> tuple[npt.NDArray[np.int64], Any]:
    """A list column as its offsets, starting at 0, and its flat values."""
    array = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    offsets = np.asarray(array.offsets, dtype=np.int64)
    return offsets - offsets[0], array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _equals(column: Any, word: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(column, word).fill_null(False)).astype(np.bool_)
