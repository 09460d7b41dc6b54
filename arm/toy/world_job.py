"""make-world: the toy world as one artifact of files in standard formats.

    crawl/crawl.warc.gz  crawl/crawl.wat.gz      the toy web (arm.toy.site), replayed by arm.data.replay
    imports/captions/*.tar                       image shards: [image, caption]
    imports/questions/questions.jsonl, *.tar     LLaVA's JSON, one object a line, and a tar of its images
    imports/edits/*.parquet                      id, source_image and target_image {bytes, path}, instruction, meta (JSON)
    imports/pages/*.tar  imports/videos/*.tar    image shards: interleaved documents
    imports/text/documents.jsonl                 {"id", "text"}
    prompts/*.tar                                image shards: captions and [source, instruction] for RL
    evaluation/*.tar                             image shards: held-out prompts, questions, edits, captioned images

Each file is a unit of work: a pure function of (config, unit), drawn by one of a few processes, skipped on a rerun.
"""

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm import children
from arm.data.shards import write_shard
from arm.data.tar import write_members
from arm.manifest import Outcome
from arm.progress import Progress
from arm.records import Image, Sample, Text
from arm.storage import Folder, open_folder
from arm.toy.config import WorldConfig
from arm.toy.crawl import write_warc, write_wat
from arm.toy.datasets import draft, samples
from arm.toy.language import QUESTION_KINDS
from arm.toy.scene import CATEGORIES
from arm.toy.site import Page, build_pages

WARC, WAT = "crawl/crawl.warc.gz", "crawl/crawl.wat.gz"
CHUNK_PAGES = 50
"""Pages of the site that one process builds at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One file: `count` samples of a data set from index `first` on, in a format."""

    name: str
    dataset: str
    first: int
    count: int


def make_world(*, output: Folder, config: WorldConfig) -> Outcome:
    """Draw the toy world and write it as a crawl, data sets to import, prompts and evaluation sets."""
    units = [unit for unit in list_units(config) if not output.exists(unit.name)]
    progress = Progress("make-world: files", total=len(units) + 1)
    with _pool(config) as pool:
        built = [pool.submit(build_pages, numbers, config) for numbers in _page_ranges(config)]
        drawn = [pool.submit(write_unit, unit, output.url, config) for unit in units]
        counts = _write_crawl([page for future in built for page in future.result()], output, config)
        progress.advance()
        for future in drawn:
            future.result()
            progress.advance()
    progress.close()
    counts |= {f"samples/{name}": count for name, count in _sizes(config).items()}
    return Outcome(counts=counts, metrics=chance_scores(config))


def list_units(config: WorldConfig) -> list[Unit]:
    """Every file but the crawl's, the longest work first."""
    per_file, size = config.samples_per_shard, _sizes(config)
    units = []
    for dataset, pattern in FILES.items():
        for index, first in enumerate(range(0, size[dataset], per_file)):
            count = min(per_file, size[dataset] - first)
            units.append(Unit(name=pattern.format(index), dataset=dataset, first=first, count=count))
    for dataset, name in WHOLE_FILES.items():
        if size[dataset]:
            units.append(Unit(name=name, dataset=dataset, first=0, count=size[dataset]))
    return sorted(units, key=lambda unit: (-unit.count * COSTS.get(unit.dataset, 1), unit.name))


def write_unit(unit: Unit, output_url: str, config: WorldConfig) -> None:
    """Draw and publish one file."""
    with open_folder(output_url).publish(unit.name) as path:
        suffix = unit.name.rpartition(".")[2]
        if unit.name == WHOLE_FILES["questions"]:
            _write_conversations(path, unit, config)
        elif unit.dataset == "questions":
            _write_question_images(path, unit, config)
        elif suffix == "parquet":
            _write_triplets(path, unit, config)
        elif suffix == "jsonl":
            _write_texts(path, unit, config)
        else:
            write_shard(path, samples(unit.dataset, unit.first, unit.count, config))


def chance_scores(config: WorldConfig) -> dict[str, float]:
    """What the commonest answer of each kind of question scores on the evaluation set: chance/existence, …"""
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in QUESTION_KINDS}
    for index in range(config.evaluation_questions):
        one = draft("evaluation-questions", index, config)
        given = [part.text for part in one.parts if isinstance(part, Text) and part.role == "answer"]
        for kind, answer in zip(one.meta["kinds"], given, strict=True):
            answers[kind][answer] += 1
    asked = {kind: counted for kind, counted in answers.items() if counted}
    scores = {f"chance/{kind}": max(counted.values()) / counted.total() for kind, counted in asked.items()}
    total = sum(counted.total() for counted in asked.values())
    if total:
        scores["chance/questions"] = sum(max(counted.values()) for counted in asked.values()) / total
    return {name: round(score, 6) for name, score in scores.items()}


FILES = {
    "captions": "imports/captions/captions-{:05d}.tar",
    "questions": "imports/questions/images-{:05d}.tar",
    "edits": "imports/edits/edits-{:05d}.parquet",
    "pages": "imports/pages/pages-{:05d}.tar",
    "videos": "imports/videos/videos-{:05d}.tar",
    "prompts-t2i": "prompts/t2i-{:05d}.tar",
    "prompts-edits": "prompts/edits-{:05d}.tar",
    "evaluation-prompts": "evaluation/prompts-{:05d}.tar",
    "evaluation-questions": "evaluation/questions-{:05d}.tar",
    "evaluation-edits": "evaluation/edits-{:05d}.tar",
    "evaluation-captions": "evaluation/captions-{:05d}.tar",
}
WHOLE_FILES = {"questions": "imports/questions/questions.jsonl", "texts": "imports/text/documents.jsonl"}
COSTS = {"edits": 2, "prompts-edits": 10, "evaluation-edits": 12, "pages": 2, "videos": 3}
"""Rough time of a sample against a captioned image, so that long files start first."""


def _sizes(config: WorldConfig) -> dict[str, int]:
    return {
        "captions": config.num_captions,
        "questions": config.num_questions,
        "edits": config.num_edits,
        "pages": config.num_documents,
        "videos": config.num_videos,
        "texts": config.num_texts,
        "prompts-t2i": config.num_prompts,
        "prompts-edits": config.num_edit_prompts,
        "evaluation-prompts": config.evaluation_prompts_per_category * len(CATEGORIES),
        "evaluation-questions": config.evaluation_questions,
        "evaluation-edits": config.evaluation_edits,
        "evaluation-captions": config.evaluation_captions,
    }


class _Here:
    """Runs submitted work at once, in this process: what a pool of one would do, without its start."""

    def submit(self, work: Any, *arguments: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


@contextmanager
def _pool(config: WorldConfig) -> Iterator[Any]:
    """A pool of processes that die with this one."""
    if config.workers == 1:
        yield _Here()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker, (os.getpid(),)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker(parent: int) -> None:
    children.tie_to_parent(parent)()


def _page_ranges(config: WorldConfig) -> list[range]:
    starts = range(0, config.num_pages, CHUNK_PAGES)
    return [range(start, min(start + CHUNK_PAGES, config.num_pages)) for start in starts]


def _write_crawl(pages: Sequence[Page], output: Folder, config: WorldConfig) -> dict[str, int]:
    """Write the site's pages and images as WARC and WAT."""
    with output.publish(WARC) as warc, output.publish(WAT) as wat:
        written = write_warc(warc, pages, Path(WARC).name)
        write_wat(wat, written, Path(WAT).name, Path(WARC).name)
    return {
        "pages": len(pages),
        "good_images": config.num_images,
        "addresses": len({url for page in pages for url in page.answers}),
        "pictures_on_pages": sum(len(page.pictures) + (page.og_image is not None) for page in pages),
    }


def _write_conversations(path: Path, unit: Unit, config: WorldConfig) -> None:
    """LLaVA's layout: human and gpt take turns, the first question after the image's place."""
    with path.open("w", encoding="utf-8") as stream:
        for index in range(unit.first, unit.first + unit.count):
            one = draft("questions", index, config)
            texts = [part for part in one.parts if isinstance(part, Text)]
            turns = [
                {
                    "from": "human" if text.role == "question" else "gpt",
                    "value": ("" if turn else "<image>\n") + text.text,
                }
                for turn, text in enumerate(texts)
            ]
            line = {
                "id": f"q{index:06d}",
                "image": _image_name(index),
                "conversations": turns,
                "kinds": one.meta["kinds"],
                "scene_hash": one.meta["scene_hash"],
            }
            stream.write(json.dumps(line) + "\n")


def _write_question_images(path: Path, unit: Unit, config: WorldConfig) -> None:
    drawn = enumerate(samples("questions", unit.first, unit.count, config), start=unit.first)
    write_members(path, ((_image_name(index), _images(sample)[0].data) for index, sample in drawn))


def _image_name(index: int) -> str:
    return f"{index:06d}.png"


def _images(sample: Sample) -> list[Image]:
    return [part for part in sample.parts if isinstance(part, Image)]


def _write_triplets(path: Path, unit: Unit, config: WorldConfig) -> None:
    """Hugging Face's layout of image columns: struct<bytes, path>."""
    rows = []
    for index, sample in enumerate(samples("edits", unit.first, unit.count, config), start=unit.first):
        source, target = _images(sample)
        instruction = next(part.text for part in sample.parts if isinstance(part, Text))
        rows.append(
            {
                "id": f"e{index:06d}",
                "source_image": {"bytes": source.data, "path": f"{index:06d}-source.png"},
                "instruction": instruction,
                "target_image": {"bytes": target.data, "path": f"{index:06d}-target.png"},
                "meta": json.dumps(sample.meta, sort_keys=True),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, TRIPLETS), path, compression="none", row_group_size=500)


_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TRIPLETS = pa.schema(
    [
        ("id", pa.string()), ("source_image", _IMAGE), ("instruction", pa.string()),
        ("target_image", _IMAGE), ("meta", pa.string()),
    ]
)  # fmt: skip


def _write_texts(path: Path, unit: Unit, config: WorldConfig) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for index in range(unit.first, unit.first + unit.count):
            (part,) = draft(unit.dataset, index, config).parts
            assert isinstance(part, Text)
            stream.write(json.dumps({"id": f"d{index:06d}", "text": part.text}) + "\n")
