"""tokenize-images: every curated sample as codes and text, in Arrow token shards (`arm.model.token_shards`).

The unit is an image shard: its token shard, its lengths and its account are published one after the other, the account
last, and a rerun skips units with an account.

    reports/garden-00000.json   {"samples": 2000, "images": 2600, "dropped": {"unreadable_image": 1}, "histogram": {"7": 12, …}}
"""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arm.data.shards import read_shard, shard_paths
from arm.device import make_deterministic, rank_device
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.model import token_shards
from arm.progress import track
from arm.records import Image, Sample, Text
from arm.storage import Folder
from arm.tokenizer.config import EncodeConfig
from arm.tokenizer.images import Pixels, fit, to_images
from arm.tokenizer.metrics import entropy_bits
from arm.tokenizer.visual import VisualTokenizer

SPECIALS_PER_IMAGE = 5
"""`<|vision_start|> H W <|image_pad|>` before the codes and `<|vision_end|>` after them."""

Row = dict[str, Any]
Codes = npt.NDArray[np.uint16]


def tokenize_images(
    *, images: Manifest, tokenizer: Manifest, text_tokenizer: Manifest, output: Folder, config: EncodeConfig
) -> Outcome:
    """Encode every image once and publish token shards, lengths and accounts."""
    make_deterministic(threads=config.threads)
    visual = VisualTokenizer.from_pretrained(tokenizer.local_folder("tokenizer")).to(rank_device())
    writer = ShardWriter(visual, text_tokenizer.local_folder("model"), output, config)
    paths = shard_paths(images)
    todo = [path for path in paths if not output.exists(report_name(path))]
    for path, loaded in read_ahead(todo, config):
        writer.write(path, loaded)
    reports = [dict(json.loads(output.read(report_name(path)))) for path in paths]
    return summarise(reports, visual.num_codes, config)


class ShardWriter:
    """Turns one image shard into one token shard."""

    def __init__(self, visual: VisualTokenizer, text_folder: Path, output: Folder, config: EncodeConfig) -> None:
        from transformers import AutoTokenizer

        self.visual, self.output, self.config = visual, output, config
        self.text: Any = AutoTokenizer.from_pretrained(text_folder)
        self.text_fingerprint = token_shards.text_fingerprint(self.text)
        self.fingerprint = visual.fingerprint

    def write(self, path: Path, loaded: "Loaded") -> None:
        """Publish the token shard of an image shard."""
        codes = self._encode([pixels for images in loaded.images for pixels in images])
        rows = list(to_rows(loaded.samples, iter(codes)))
        with self.output.publish(f"shards/{path.stem}.arrow") as target:
            token_shards.write_shard(
                target, rows, tokenizer_fingerprint=self.fingerprint, num_codes=self.visual.num_codes
            )
        with self.output.publish(f"lengths/{path.stem}.parquet") as target:
            held_out = [token_shards.is_held_out(row["uid"]) for row in rows]
            token_shards.write_lengths(target, self._lengths(rows), held_out, text_fingerprint=self.text_fingerprint)
        report = account(rows, loaded.dropped)
        self.output.write(report_name(path), (json.dumps(report, sort_keys=True) + "\n").encode())

    def _encode(self, pixels: list[Pixels]) -> list[Codes]:
        """Codes (rows, columns) of each image, in fixed batches."""
        found: list[Codes] = []
        for start in range(0, len(pixels), self.config.batch_size):
            batch = to_images(np.stack(pixels[start : start + self.config.batch_size]))
            codes = self.visual.encode(batch).cpu()
            smallest, largest = int(codes.min()), int(codes.max())
            assert 0 <= smallest <= largest < self.visual.num_codes
            found.extend(codes.numpy().astype(np.uint16))
        return found

    def _lengths(self, rows: list[Row]) -> list[list[int]]:
        """Token length of every part: text ids without specials; codes and five more for an image."""
        texts = [part["text"] for row in rows for part in row["parts"] if part["kind"] == "text"]
        ids = self.text(texts, add_special_tokens=False)["input_ids"] if texts else []
        counts = iter([len(row) for row in ids])
        return [
            [
                next(counts) if part["kind"] == "text" else len(part["codes"]) + SPECIALS_PER_IMAGE
                for part in row["parts"]
            ]
            for row in rows
        ]


@dataclass(slots=True)
class Loaded:
    """The samples of a shard with their images fitted to the bucket."""

    samples: list[Sample] = field(default_factory=list)
    images: list[list[Pixels]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def load_shard(path: Path, config: EncodeConfig) -> Loaded:
    """Read and decode a shard; a sample that holds an unreadable image is dropped and counted."""
    loaded = Loaded()
    for sample in read_shard(path):
        try:
            images = [fit(part, config.height, config.width) for part in sample.parts if isinstance(part, Image)]
        except (OSError, ValueError, SyntaxError, UserError):
            loaded.dropped["unreadable_image"] += 1
            continue
        loaded.samples.append(sample)
        loaded.images.append(images)
    return loaded


def read_ahead(paths: list[Path], config: EncodeConfig) -> Iterator[tuple[Path, Loaded]]:
    """Yield each shard loaded, while a thread loads the next."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load_shard, paths[0], config) if paths else None
        for index, path in track(enumerate(paths), "tokenize-images: shards", total=len(paths)):
            assert coming is not None
            loaded = coming.result()
            if index + 1 < len(paths):
                coming = pool.submit(load_shard, paths[index + 1], config)
            yield path, loaded


def report_name(path: Path) -> str:
    """Where a shard's account lies."""
    return f"reports/{path.stem}.json"


def to_rows(samples: list[Sample], codes: Iterator[Codes]) -> Iterator[Row]:
    """Rows of a token shard; `codes` holds one grid per image, in order."""
    for sample in samples:
        parts = [_text_part(part) if isinstance(part, Text) else _image_part(next(codes)) for part in sample.parts]
        meta = json.dumps(sample.meta, sort_keys=True, ensure_ascii=False)
        yield {
            "uid": bytes.fromhex(sample.uid), "task": sample.task, "parts": parts,
            "source": sample.source, "licence": sample.licence, "meta": meta,
        }  # fmt: skip


def account(rows: list[Row], dropped: Counter[str]) -> Row:
    """What a shard holds and what was left out."""
    grids = [part["codes"] for row in rows for part in row["parts"] if part["kind"] == "image"]
    histogram = Counter(code for grid in grids for code in grid)
    return {
        "samples": len(rows),
        "images": len(grids),
        "dropped": dict(sorted(dropped.items())),
        "histogram": {str(code): histogram[code] for code in sorted(histogram)},
    }


def summarise(reports: list[Row], num_codes: int, config: EncodeConfig) -> Outcome:
    """Counts of the whole and statistics of its codes; too many dropped samples are a UserError."""
    counts = Counter({"samples": 0, "images": 0})
    histogram: Counter[str] = Counter()
    for report in reports:
        counts.update(samples=report["samples"], images=report["images"])
        counts.update({f"dropped/{reason}": number for reason, number in report["dropped"].items()})
        histogram.update(report["histogram"])
    lost = sum(number for name, number in counts.items() if name.startswith("dropped/"))
    if lost > config.max_dropped_share * (lost + counts["samples"]):
        raise UserError(f"{lost} of {lost + counts['samples']} samples hold an unreadable image; curate them first.")
    used = np.array(list(histogram.values()), dtype=np.float64)
    entropy = entropy_bits(used) if len(used) else 0.0
    metrics = {"code_usage": round(len(used) / num_codes, 6), "perplexity": round(2**entropy, 4)}
    return Outcome(counts={**counts, "samples_read": counts["samples"] + lost}, metrics=metrics)


def _text_part(part: Text) -> Row:
    return {"kind": "text", "role": part.role, "text": part.text, "codes": [], "height": 0, "width": 0}


def _image_part(grid: Codes) -> Row:
    height, width = grid.shape
    return {"kind": "image", "role": "", "text": "", "codes": grid.ravel().tolist(), "height": height, "width": width}
