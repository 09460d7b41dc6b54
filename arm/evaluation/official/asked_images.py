"""The images that a benchmark asks about: which they are, and what tells them from others of the same names.

{"image": "a.png"}, a.png beside the questions    ->  {"images (1)": "1f0a9c11b2de"}
{"image": "iVBORw0K…"}, held by the data file     ->  {}     its digest covers it
"""

from collections.abc import Iterator, Mapping
from typing import Any

from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.official.classifying import IMAGES
from arm.evaluation.official.suites import Suite
from arm.evaluation.production.answers import pictures_of
from arm.evaluation.production.layouts import source_of
from arm.evaluation.production.pictures import Pictures
from arm.evaluation.production.rows import Row, digest_of
from arm.storage.known_digests import digests_of


def asked_images(suite: Suite, asked: Mapping[str, list[Row]]) -> Iterator[tuple[Any, str]]:
    """(image as the row names or holds it, part) of every row."""
    if suite.task not in ("answer", "edit"):
        return
    for part, rows in asked.items():
        for row in rows:
            for value in (source_of(row),) if suite.task == "edit" else pictures_of(row):
                yield value, part


def versions_of_images(suite: Suite, files: Files, asked: Mapping[str, list[Row]]) -> dict[str, str]:
    """One entry for all images in files of their own, beside those of `Files.versions`; none where there are none."""
    if suite.task == "classify":
        names = {name for name in files.names if name.lower().endswith(IMAGES)}
    else:
        pictures = Pictures(files.folder, files.names)
        found = (pictures.find_named(value, part) for value, part in asked_images(suite, asked))
        names = {name for name in found if name}
    digests = {name: _digest(files, name) for name in sorted(names)}
    return {f"images ({len(digests):,})": digest_of(digests)[:12]} if digests else {}


def _digest(files: Files, name: str) -> str:
    """A file from afar may leave the cache when it is read: all images of a set would fill it."""
    digest = digests_of({name: files.folder.fetch(name)})[name]
    files.folder.release(name)
    return digest
