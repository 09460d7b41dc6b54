"""What lies where in token shards, format 3.

    shards/default/garden-00000.arrow      uid  task  parts  source  licence  scores  meta      in record batches
    lengths/default/garden-00000.parquet   uid  task  held_out  parts                           the sidecar
    index/default/garden-00000.json        offset, length, rows and sha256 of each record batch

    parts    [{kind 'image', role '', text '', codes [7 0 …], height 3, width 3, variants []},
              {kind 'text', role 'caption', text 'a red circle', codes [], height 0, width 0, variants ['A red circle on …']}]
    sidecar  [{is_text no, is_answer no, height 3, width 3, lengths [14]},
              {is_text yes, is_answer no, height 0, width 0, lengths [4, 9]}]

The sidecar says all that a plan asks of a sample, so that planning reads no shard. Its lengths are tokens, of a text and
each variant of it: an image counts its codes and five tokens around them; text ids are counted without specials.
`default` is the resolution variant: each has its own files, of the samples whose task it takes. Codes are uint16 in
raster order without an offset; text is text, its ids are made at load. The schema's metadata name the format, the visual
tokenizer (`tokenizer_fingerprint`, `num_codes`), the sidecar's the text tokenizer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.errors import IntegrityError, UserError
from arm.records import Sample, Text

FORMAT_VERSION = 3
"""2: a folder per variant, an index with checksums, variants of texts; codes are bounded by num_codes. 3: the sidecar knows
uids, tasks, kinds of parts and grids, too."""
MAX_CODES = 1 << 16
"""A code is a uint16."""
HELD_OUT_FRACTION = 0.01
SPECIALS_PER_IMAGE = 5
"""`<|vision_start|> H W <|image_pad|>` before the codes and `<|vision_end|>` after them."""

PART = pa.struct(
    [
        ("kind", pa.string()),
        ("role", pa.string()),
        ("text", pa.string()),
        ("codes", pa.list_(pa.uint16())),
        ("height", pa.uint16()),
        ("width", pa.uint16()),
        ("variants", pa.list_(pa.string())),
    ]
)
PART_LENGTHS = pa.struct(
    [
        ("is_text", pa.bool_()),
        ("is_answer", pa.bool_()),
        ("height", pa.uint16()),
        ("width", pa.uint16()),
        ("lengths", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """The names of the files of one shard."""

    variant: str
    unit: str

    @property
    def shard(self) -> str:
        return f"shards/{self.variant}/{self.unit}.arrow"

    @property
    def lengths(self) -> str:
        return f"lengths/{self.variant}/{self.unit}.parquet"

    @property
    def index(self) -> str:
        return f"index/{self.variant}/{self.unit}.json"


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """Where a record batch lies in its file, and the sha256 of those bytes."""

    offset: int
    length: int
    rows: int
    sha256: str


def schema(*, tokenizer_fingerprint: str, num_codes: int) -> pa.Schema:
    """The schema of a shard, with its metadata."""
    if not 1 <= num_codes <= MAX_CODES:
        raise UserError(f"Token shards hold codes of 16 bits; a tokenizer of {num_codes} codes does not fit.")
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "num_codes": str(num_codes),
    }
    fields = [("uid", pa.binary(16)), ("task", pa.string()), ("parts", pa.list_(PART)), ("source", pa.string())]
    fields += [("licence", pa.string()), ("scores", pa.string()), ("meta", pa.string())]
    return pa.schema(fields, metadata=metadata)


def lengths_schema(*, text_fingerprint: str) -> pa.Schema:
    """The schema of the sidecar, with its metadata."""
    metadata = {"format_version": str(FORMAT_VERSION), "text_fingerprint": text_fingerprint}
    fields = [
        ("uid", pa.binary(16)),
        ("task", pa.string()),
        ("held_out", pa.bool_()),
        ("parts", pa.list_(PART_LENGTHS)),
    ]
    return pa.schema(fields, metadata=metadata)


def check_identity(metadata: dict[bytes, bytes] | None, where: str, fingerprint: str, num_codes: int) -> None:
    """Refuse another format, and codes of another visual tokenizer."""
    found = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in (metadata or {}).items()
    }
    version = found.get("format_version", "unknown")
    if version != str(FORMAT_VERSION):
        raise UserError(f"{where} has token-shard format {version}, not {FORMAT_VERSION}; run tokenize-images again.")
    known = found.get("tokenizer_fingerprint", "")
    if known != fingerprint:
        raise UserError(
            f"{where} holds codes of visual tokenizer {known[:12]!r}, not {fingerprint[:12]!r}; tokenize with this one."
        )
    if found.get("num_codes") != str(num_codes):
        raise UserError(f"{where} has {found.get('num_codes', '?')} codes, the tokenizer {num_codes}.")


def index_bytes(index: dict[str, Any]) -> bytes:
    """An index as canonical JSON."""
    return (json.dumps(index, sort_keys=True) + "\n").encode()


def read_index(data: bytes, where: str, *, tokenizer_fingerprint: str, num_codes: int) -> list[BatchEntry]:
    """The record batches of a shard; `where` names it in errors."""
    try:
        values = json.loads(data)
        identity = {
            name.encode(): str(values[name]).encode()
            for name in ("format_version", "tokenizer_fingerprint", "num_codes")
        }
        batches = [BatchEntry(**entry) for entry in values["batches"]]
        sound = all(_is_sound(entry) for entry in batches)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise IntegrityError(f"{where} is no index of a token shard; tokenize again.")
    check_identity(identity, where, tokenizer_fingerprint, num_codes)
    return batches


def _is_sound(entry: BatchEntry) -> bool:
    numbers = (entry.offset, entry.length, entry.rows)
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and entry.length > 0
        and type(entry.sha256) is str
    )


def is_held_out(uid: bytes) -> bool:
    """Whether a sample belongs to the fixed held-out split: a function of its uid alone."""
    return int.from_bytes(hashlib.sha256(b"held-out" + uid).digest()[:4], "big") < HELD_OUT_FRACTION * 2**32


def text_fingerprint(tokenizer: Any) -> str:
    """A digest of a text tokenizer's vocabulary and merges."""
    state = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(state.encode()).hexdigest()


def text_variants(sample: Sample, part: Text) -> list[str]:
    """Other texts that may stand for this one: of a caption, the longer description."""
    description = str(sample.meta.get("description") or "")
    return [description] if part.role == "caption" and description not in ("", part.text) else []


def part_texts(samples: Sequence[Sample]) -> list[list[list[str]]]:
    """Of each sample and part: its text and the variants of it; nothing for an image.

    [image, caption 'a cat']  ->  [[], ['a cat', 'A cat that sleeps.']]
    """
    return [
        [[part.text, *text_variants(sample, part)] if isinstance(part, Text) else [] for part in sample.parts]
        for sample in samples
    ]
