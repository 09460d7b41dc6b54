"""Holds training shards against evaluation sets; JSON and one page.

    {"training": [{"digest", "samples", "texts", "images", "bad_images"}],
     "sets": {"geneval": {"prompts": 553, "images": 0, "contaminated": 42, "share": 0.076,
                          "matches": {"equal": {"00007": ["<uid of a training sample>", …]}, "scene": {…}, "ngrams": {…},
                                      "image": {…}}}},
     "largest_share": 0.076}

`share` is of the set's items that training has seen: what it takes from the number. The report follows from its inputs:
no time and no path.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arm.data.deduplication import Fingerprints, contaminated, fingerprint_images, stack
from arm.data.images import BadImageError, decode_image
from arm.data.shards import read_samples
from arm.errors import UserError
from arm.evaluation.contamination.prompts import MAX_SAMPLES, MIN_SHARE, NGRAM, Asked, PromptIndex
from arm.evaluation.page.markup import Markup, count, section, table, tag
from arm.evaluation.page.style import POLICY, STYLE
from arm.evaluation.production.rows import Row, digest_of, first_of
from arm.manifest import Manifest
from arm.progress import Progress
from arm.records import Image, Sample, Text

PROMPTS = ("prompt", "Prompt", "instruction", "question", "text", "caption")
UIDS = ("item_id", "prompt_id", "key", "question_id", "uid", "id", "index")
ROLES = ("caption", "question", "instruction", "text")
"""Parts of a sample that may be a prompt; answers are too short to say anything."""
DISTANCE, DIFFERENCE = 4, 24.0
"""As curate-images: bits of the perceptual hash, and levels of the thumbnail that verifies it."""
BLOCK = 512
"""Training images compared at once."""
Print = tuple[bytes, int, bytes]
WAYS = ("equal", "scene", "ngrams", "image")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationItems:
    """One evaluation set: its prompts, and the fingerprints of its images by uid."""

    name: str
    digest: str
    prompts: tuple[Asked, ...] = ()
    images: tuple[tuple[str, Print], ...] = ()

    @property
    def num_items(self) -> int:
        """Items, each counted once: an image that comes with a prompt is one item with it."""
        return len({prompt.uid for prompt in self.prompts} | {uid for uid, _ in self.images})


def items_of_rows(name: str, rows: Sequence[Row]) -> EvaluationItems:
    """The prompts of a data file, named as the layouts name them: GenEval's by the number of the row."""
    prompts = []
    for index, row in enumerate(rows):
        text, uid = first_of(row, PROMPTS), first_of(row, UIDS)
        if not isinstance(text, str):
            raise UserError(f"Row {index + 1} of {name} has no prompt; it must be in one of {', '.join(PROMPTS)}.")
        prompts.append(Asked(uid=f"{index:05d}" if uid is None else str(uid), text=text, meta=row))
    return EvaluationItems(
        name=name, digest=digest_of([(item.uid, item.text) for item in prompts]), prompts=tuple(prompts)
    )


def items_of_shards(name: str, manifest: Manifest) -> EvaluationItems:
    """Prompts and images of an evaluation set that is an artifact of image shards."""
    prompts: list[Asked] = []
    images: list[tuple[str, Print]] = []
    for sample in read_samples(manifest):
        prompts += [Asked(uid=sample.uid, text=text, meta=sample.meta) for text in _texts(sample)[:1]]
        images += [(sample.uid, found) for found in prints_of(sample)[0]]
    return EvaluationItems(name=name, digest=manifest.digest, prompts=tuple(prompts), images=tuple(images))


def check_contamination(training: Sequence[Manifest], sets: Sequence[EvaluationItems]) -> dict[str, Any]:
    """The report: every training sample is read once."""
    if not training or not sets:
        raise UserError("Contamination needs training shards and an evaluation set; give at least one of each.")
    if len({item.name for item in sets}) < len(sets):
        raise UserError("Two evaluation sets have the same name; name them NAME=FILE.")
    indexes = [PromptIndex(item.prompts) for item in sets]
    looks: list[dict[str, list[str]]] = [{} for _ in sets]
    read = [_read(manifest, sets, indexes, looks) for manifest in training]
    found = {
        item.name: _summary(item, {**index.matches(), "image": dict(sorted(alike.items()))})
        for item, index, alike in zip(sets, indexes, looks, strict=True)
    }
    return {
        "training": read, "sets": found, "largest_share": max(item["share"] for item in found.values()),
        "settings": {"ngram": NGRAM, "ngram_share": MIN_SHARE, "distance": DISTANCE, "difference": DIFFERENCE},
    }  # fmt: skip


def prints_of(sample: Sample) -> tuple[list[Print], int]:
    """Fingerprints of a sample's images, and how many could not be read."""
    prints, bad = [], 0
    for part in sample.parts:
        if isinstance(part, Image):
            try:
                made = fingerprint_images(decode_image(part)[None])
            except BadImageError:
                bad += 1
                continue
            prints.append((made.exact[0].tobytes(), int(made.phash[0]), made.thumbnail[0].tobytes()))
    return prints, bad


def _texts(sample: Sample) -> list[str]:
    return [part.text for part in sample.parts if isinstance(part, Text) and part.role in ROLES]


def _read(
    manifest: Manifest,
    sets: Sequence[EvaluationItems],
    indexes: Sequence[PromptIndex],
    looks: Sequence[dict[str, list[str]]],
) -> dict[str, Any]:
    """One training artifact against every set; its counts."""
    counts = {"samples": 0, "texts": 0, "images": 0, "bad_images": 0}
    references = [(item.images, stack([found for _, found in item.images])) for item in sets]
    waiting: list[tuple[str, Print]] = []
    wants_images = any(item.images for item in sets)
    progress = Progress("check contamination")
    for sample in read_samples(manifest):
        counts["samples"] += 1
        for text in _texts(sample):
            counts["texts"] += 1
            for index in indexes:
                index.meet(sample.uid, text, sample.meta)
        if wants_images:
            prints, bad = prints_of(sample)
            counts["bad_images"] += bad
            counts["images"] += len(prints)
            waiting += [(sample.uid, found) for found in prints]
        if len(waiting) >= BLOCK:
            _look(waiting, references, looks)
            waiting = []
        progress.advance()
    _look(waiting, references, looks)
    progress.close()
    return {"digest": manifest.digest, "kind": manifest.kind, **counts}


def _look(
    block: Sequence[tuple[str, Print]],
    references: Sequence[tuple[Sequence[tuple[str, Print]], Fingerprints]],
    looks: Sequence[dict[str, list[str]]],
) -> None:
    """Note which evaluation images are among, or look like, those of a block of training images."""
    if not block:
        return
    prints = stack([found for _, found in block])
    for (items, reference), alike in zip(references, looks, strict=True):
        if not items:
            continue
        for hit in np.flatnonzero(contaminated(prints, reference, DISTANCE, DIFFERENCE)).tolist():
            uid, found = block[hit]
            for item in np.flatnonzero(contaminated(reference, stack([found]), DISTANCE, DIFFERENCE)).tolist():
                samples = alike.setdefault(items[item][0], [])
                if len(samples) < MAX_SAMPLES and uid not in samples:
                    samples.append(uid)


def _summary(item: EvaluationItems, matches: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    seen = {uid for found in matches.values() for uid in found}
    return {
        "digest": item.digest, "items": item.num_items, "prompts": len(item.prompts), "images": len(item.images),
        "contaminated": len(seen), "share": round(len(seen) / max(item.num_items, 1), 6), "matches": matches,
    }  # fmt: skip


def to_json(report: Mapping[str, Any]) -> bytes:
    """The same report gives the same bytes."""
    return (json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def to_page(report: Mapping[str, Any]) -> bytes:
    """One page without scripts or network."""
    title = "ARM · contamination"
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title), Markup(f"<style>{STYLE}</style>"),
    )  # fmt: skip
    rows = [
        [name, count(item["items"]), *(count(len(item["matches"][way])) for way in WAYS), f"{item['share']:.2%}"]
        for name, item in report["sets"].items()
    ]
    overview = table(["evaluation set", "items", "equal prompt", "same scene", "n-grams", "image", "seen"], rows)
    read = report["training"]
    note = f"{count(sum(i['samples'] for i in read))} training samples in {len(read)} artifacts, each read once."
    parts = [
        tag("header", tag("h1", "Contamination"), tag("p", note)),
        section("Evaluation sets", "Items of which training has seen the prompt or the image.", overview),
        *(section(name, None, _listed(item["matches"])) for name, item in report["sets"].items()),
    ]
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", tag("main", *parts))}</html>\n'.encode()


def _listed(matches: Mapping[str, Mapping[str, list[str]]]) -> Markup | None:
    rows = _pairs((way, matches[way]) for way in WAYS)
    return table(["item", "found by", "training samples"], rows) if rows else None


def _pairs(matches: Iterable[tuple[str, Mapping[str, list[str]]]]) -> list[list[str]]:
    return [[uid, way, " ".join(samples)] for way, found in matches for uid, samples in found.items()]
