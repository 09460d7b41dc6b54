"""Runs one benchmark on one subject, a file for each step, and goes on where a killed run stopped.

    items/<subject>/<benchmark>/00000.outputs.jsonl     {"uid", "text", "numbers"}
                                00000.images.tar        what was drawn, as an image shard
                                00000.replies.jsonl     what the judge said
                                00000.verdicts.jsonl    {"uid", "group", "outcome", "strict", "score", "reasons"}

A number holds `items_per_file` items. A file that is there is read, never made again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from arm.data.images import decode_image, encode_image
from arm.data.shards import read_shard, write_shard
from arm.errors import IntegrityError
from arm.evaluation.benchmark import Benchmark, Scores
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Pixels, Verdict, read_verdict, verdict_row
from arm.evaluation.subject import Subject
from arm.progress import Progress
from arm.records import Image, Sample, Text
from arm.storage import Folder

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A benchmark's numbers for one subject, with the verdicts behind them."""

    scores: Scores
    verdicts: tuple[Verdict, ...]
    items: tuple[Item, ...]


def run_benchmark(benchmark: Benchmark, subject: Subject, evaluation_set: EvaluationSet, output: Folder) -> Result:
    """Generate, judge, parse and aggregate; every step is published before the next begins."""
    items = benchmark.items(evaluation_set)
    size = subject.config.items_per_file
    verdicts: list[Verdict] = []
    progress = Progress(f"{subject.name}: {benchmark.name}", total=len(items))
    for number, start in enumerate(range(0, len(items), size)):
        chunk = items[start : start + size]
        verdicts += _run_chunk(
            benchmark, subject, chunk, output, f"{prefix_of(subject.name, benchmark.name)}{number:05d}"
        )
        progress.advance(len(chunk))
    progress.close()
    scores = benchmark.aggregate(
        verdicts, num_expected=len(items), num_bootstraps=subject.config.num_bootstraps, seed=subject.config.seed
    )
    return Result(scores=scores, verdicts=tuple(verdicts), items=tuple(items))


def prefix_of(subject: str, benchmark: str) -> str:
    """Where the files of a benchmark lie."""
    return f"items/{subject}/{benchmark}/"


def read_drawn(subject: str, benchmark: str, output: Folder) -> dict[str, Pixels]:
    """uid -> image of everything that was drawn for a benchmark."""
    names = [name for name in output.list(prefix_of(subject, benchmark)) if name.endswith(".images.tar")]
    return {uid: image for name in names for uid, image in _read_images(output, name).items()}


def _run_chunk(
    benchmark: Benchmark, subject: Subject, items: Sequence[Item], output: Folder, name: str
) -> list[Verdict]:
    def reply_rows() -> list[Row]:
        return benchmark.judge(items, _outputs(benchmark, subject, items, output, name), subject)

    def verdict_rows() -> list[Row]:
        replies = _rows(output, f"{name}.replies.jsonl", items, reply_rows)
        return [verdict_row(verdict) for verdict in benchmark.parse(items, replies)]

    return [read_verdict(row) for row in _rows(output, f"{name}.verdicts.jsonl", items, verdict_rows)]


def _outputs(benchmark: Benchmark, subject: Subject, items: Sequence[Item], output: Folder, name: str) -> list[Output]:
    """What was generated, read back from its files: a resumed run judges the very same bytes."""

    def output_rows() -> list[Row]:
        outputs = benchmark.generate(items, subject)
        _write_images(output, f"{name}.images.tar", items, outputs)
        return [_output_row(item, made) for item, made in zip(items, outputs, strict=True)]

    rows = _rows(output, f"{name}.outputs.jsonl", items, output_rows)
    images = _read_images(output, f"{name}.images.tar")
    return [
        Output(
            uid=item.uid, text=row["text"], numbers=row["numbers"],
            image=item.source if row["image"] == "source" else images.get(item.uid),
        )
        for item, row in zip(items, rows, strict=True)
    ]  # fmt: skip


def _output_row(item: Item, made: Output) -> Row:
    image = None if made.image is None else "source" if made.image is item.source else "drawn"
    return {"uid": made.uid, "text": made.text, "image": image, "numbers": dict(made.numbers)}


def _rows(output: Folder, name: str, items: Sequence[Item], make: Callable[[], list[Row]]) -> list[Row]:
    """The rows of a published file, or those that `make` gives, published first. One row an item, in their order."""
    if not output.exists(name):
        text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in make())
        output.write(name, text.encode())
    rows: list[Row] = [json.loads(line) for line in output.read(name).decode().split("\n") if line]
    if [row["uid"] for row in rows] != [item.uid for item in items]:
        raise IntegrityError(f"{output.url}/{name} does not hold the rows of its {len(items)} items; delete it.")
    return rows


def _write_images(output: Folder, name: str, items: Sequence[Item], outputs: Sequence[Output]) -> None:
    """Publish the drawn images as an image shard; nothing when there are none."""
    samples = [
        Sample(
            uid=item.uid,
            task="text_to_image",
            source="evaluation",
            parts=(encode_image(made.image), Text(text=item.prompt)),
        )
        for item, made in zip(items, outputs, strict=True)
        if made.image is not None and made.image is not item.source
    ]
    if samples:
        with output.publish(name) as path:
            write_shard(path, samples)


def _read_images(output: Folder, name: str) -> dict[str, Pixels]:
    if not output.exists(name):
        return {}
    parts = ((sample.uid, sample.parts[0]) for sample in read_shard(output.fetch(name)))
    return {uid: decode_image(part) for uid, part in parts if isinstance(part, Image)}
