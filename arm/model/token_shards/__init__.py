"""Token shards: Arrow IPC files of samples whose images are codes, with lengths and checksums beside them.

    with ShardWriter(path, schema(tokenizer_fingerprint=…, num_codes=…)) as writer:
        writer.write(sample_batch(samples, grids, writer.layout))
    write_lengths(sidecar, [lengths_batch(samples, grids, lengths, held_out)], text_fingerprint=…)
    shards = open_shards(tokens, tokenizer_fingerprint=…, num_codes=…)       shards[0].parts(7)

The format stands in `arm.model.token_shards.format`.
"""

from arm.model.token_shards.format import (
    FORMAT_VERSION,
    HELD_OUT_FRACTION,
    SPECIALS_PER_IMAGE,
    BatchEntry,
    ShardFiles,
    index_bytes,
    is_held_out,
    lengths_schema,
    part_texts,
    read_index,
    schema,
    text_fingerprint,
    text_variants,
)
from arm.model.token_shards.reading import (
    Part,
    Shard,
    check_tokenizer,
    open_shard,
    open_shards,
    read_batch,
    shard_files,
)
from arm.model.token_shards.sidecar import ShardLengths, find_uid, open_lengths
from arm.model.token_shards.writing import (
    Grid,
    ShardWriter,
    lengths_batch,
    sample_batch,
    write_lengths,
    write_shard,
)

__all__ = [
    "FORMAT_VERSION",
    "HELD_OUT_FRACTION",
    "SPECIALS_PER_IMAGE",
    "BatchEntry",
    "Grid",
    "Part",
    "Shard",
    "ShardFiles",
    "ShardLengths",
    "ShardWriter",
    "check_tokenizer",
    "find_uid",
    "index_bytes",
    "is_held_out",
    "lengths_batch",
    "lengths_schema",
    "open_lengths",
    "open_shard",
    "open_shards",
    "part_texts",
    "read_batch",
    "read_index",
    "sample_batch",
    "schema",
    "shard_files",
    "text_fingerprint",
    "text_variants",
    "write_lengths",
    "write_shard",
]
