"""The files of one unit: a token shard, its lengths and its index for each variant, and last the account.

    shards/default/garden-00000.arrow   lengths/default/garden-00000.parquet   index/default/garden-00000.json
    reports/garden-00000.json
        {"samples_read": 2001, "samples": 2000, "dropped": {"truncated": 1}, "images": 2600, "variants":
         {"default": {"rows": 2000, "images": 2600, "histogram": [12, 0, …], "psnr": [21.4, …]}}, …}

A unit whose account is there is complete; a killed one is written again, to the same bytes.
"""

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]

from arm.model import token_shards
from arm.storage import Folder
from arm.tokenizer.config import EncodeConfig
from arm.tokenizer.encoding.checks import Checks, read_back, rendered_psnr
from arm.tokenizer.encoding.decoding import Row, Window
from arm.tokenizer.encoding.lengths import Measure
from arm.tokenizer.encoding.units import Unit
from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer

Account = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every unit is made with."""

    visual: ImageTokenizer
    measure: Measure
    detokenizer: ImageDetokenizer | None
    identity: dict[str, str | int]
    """Format version and fingerprints: written into every account."""
    config: EncodeConfig


class UnitFiles:
    """Takes the encoded windows of a unit and publishes its files at a clean exit."""

    def __init__(self, unit: Unit, output: Folder, tools: Tools) -> None:
        self.unit, self.output, self.tools = unit, output, tools
        self._files: dict[str, VariantFile] = {}
        self._stack = contextlib.ExitStack()
        self._counts: Counter[str] = Counter(samples_read=0, samples=0, images=0)
        self._dropped: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            accounts = {name: file.close() for name, file in self._files.items()}
        for name, file in self._files.items():
            file.publish_sidecars(self.output, token_shards.ShardFiles(name, self.unit.name))
        account = {
            **self.tools.identity, **self._counts, "dropped": dict(self._dropped), "variants": accounts,
        }  # fmt: skip
        self.output.write(self.unit.report, (json.dumps(account, sort_keys=True) + "\n").encode())

    def write(self, window: Window) -> None:
        """Add a window to every variant that takes its rows."""
        images = sum(len(row.pictures) for row in window.rows)
        self._counts.update(samples_read=window.num_read, samples=len(window.rows), images=images)
        self._dropped.update(window.dropped)
        for variant in self.tools.config.variants:
            rows = [row for row in window.rows if variant.takes(row.sample.task)]
            if rows:
                self._file(variant.name).write(rows)

    def _file(self, variant: str) -> "VariantFile":
        """The variant's file; it exists from its first row on."""
        if variant not in self._files:
            name = token_shards.ShardFiles(variant, self.unit.name).shard
            path = self._stack.enter_context(self.output.publish(name))
            self._files[variant] = VariantFile(variant, path, self.tools)
        return self._files[variant]


class VariantFile:
    """The token shard of one unit in one variant, written a record batch at a time."""

    def __init__(self, variant: str, path: Path, tools: Tools) -> None:
        self.variant, self.path, self.tools = variant, path, tools
        layout = token_shards.schema(tokenizer_fingerprint=tools.visual.fingerprint, num_codes=tools.visual.num_codes)
        self._writer = token_shards.ShardWriter(path, layout)
        self._checks = Checks(tools.config.check_samples)
        self._lengths: list[pa.RecordBatch] = []
        self._num_batches = self._num_images = 0

    def write(self, rows: list[Row]) -> None:
        """Write one record batch and remember its lengths and some of its images."""
        samples = [row.sample for row in rows]
        grids = [picture.codes[picture.sizes[self.variant]] for row in rows for picture in row.pictures]
        self._writer.write(token_shards.sample_batch(samples, grids, self._writer.layout))
        held_out = [token_shards.is_held_out(bytes.fromhex(sample.uid)) for sample in samples]
        self._lengths.append(token_shards.lengths_batch(samples, grids, self.tools.measure(samples, grids), held_out))
        for number, row in enumerate(rows):
            self._checks.offer(row, self.variant, (self._num_batches, number))
        self._num_batches, self._num_images = self._num_batches + 1, self._num_images + len(grids)

    def close(self) -> Account:
        """Finish the file, read the checks back, and return the variant's account."""
        self._writer.close()
        chosen = self._checks.chosen()
        read_back(self.path, chosen)
        account: Account = {
            "rows": self._writer.rows,
            "images": self._num_images,
            "checked": len(chosen),
            "histogram": self._writer.histogram.tolist(),
        }
        if self.tools.detokenizer is not None:
            account["psnr"] = rendered_psnr(chosen, self.tools.visual, self.tools.detokenizer)
        return account

    def publish_sidecars(self, output: Folder, files: token_shards.ShardFiles) -> None:
        """Publish the lengths and the index."""
        fingerprint = str(self.tools.identity["text_fingerprint"])
        with output.publish(files.lengths) as target:
            token_shards.write_lengths(target, self._lengths, text_fingerprint=fingerprint)
        output.write(files.index, token_shards.index_bytes(self._writer.index))
