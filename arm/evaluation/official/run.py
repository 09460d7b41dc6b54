"""Runs one benchmark on one model: every stage is a file that a killed run finds again.

The images and answers that a model could not make are counted and left out: the scorer then refuses the headline.

made_from.json      {"results/detections.jsonl": digest of the images that were looked at}     other images: looked at anew
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from arm.evaluation.benchmarks import registry
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.benchmarks.result import Result, with_lost, write_result
from arm.evaluation.jsonl import to_lines
from arm.evaluation.models.model import Model
from arm.evaluation.official import judging
from arm.evaluation.official.answering import write_answers
from arm.evaluation.official.asked_images import versions_of_images
from arm.evaluation.official.config import FOLDER, OfficialConfig
from arm.evaluation.official.identity import judge_record
from arm.evaluation.official.suites import SUITES, Suite
from arm.evaluation.production.answers import answer_questions
from arm.evaluation.production.images import FAILURES, make_images
from arm.evaluation.production.layouts import Layout, Picture, find_layout, lay_out
from arm.evaluation.production.pictures import Pictures
from arm.evaluation.production.rows import Row, digest_of
from arm.evaluation.rubric import load_rubric
from arm.storage import Folder, LocalFolder, sha256_of

MADE, RESULTS, REPLIES = "made", "results", "replies.jsonl"
MADE_FROM, UNASKED = "made_from.json", "unasked.jsonl"
OURS = "the judge's rubric {} is ours: not comparable with published numbers"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A benchmark on a subject, with everything that it needs."""

    suite: Suite
    data: Files
    config: OfficialConfig
    output: Folder
    """The folder of the benchmark in the artifact."""
    place: str
    """Its name there: `benchmarks/<subject>/<benchmark>`."""
    scratch: Path
    """Journals and copies that belong to no artifact: a folder of the whole run's, which goes with it."""
    batch_size: int
    num_bootstraps: int
    seed: int

    @property
    def images(self) -> Pictures:
        """The data set's images."""
        return Pictures(self.data.folder, self.data.names)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """What is asked, by part; read once, for files may hold the images too."""
        return self.suite.asked(self.data)

    @property
    def layout(self) -> Layout:
        """Where the images that it makes lie."""
        return find_layout(self.suite.layout, edits=self.suite.task == "edit")

    @property
    def num_seeds(self) -> int:
        """Images a prompt."""
        return self.config.seeds or self.layout.num_seeds

    def lay_out(self, rows: list[Row]) -> list[Picture]:
        """The images that it makes of these rows."""
        return lay_out(rows, self.layout, self.num_seeds)


def run_images(bench: Bench, model: Model, kind: str) -> None:
    """Draw or edit, then let the detector, the questioner or the judge look."""
    suite, made = bench.suite, bench.output.child(MADE)
    rows = [row for part in bench.rows.values() for row in part]
    make_images(
        model, kind, rows, (suite.layout, bench.layout), made, num_seeds=bench.num_seeds, batch_size=bench.batch_size,
        sources=bench.images if suite.task == "edit" else None,
    )  # fmt: skip
    name, pictures = f"{RESULTS}/{suite.result}", bench.lay_out(rows)
    seen = _digest_of_pictures(made, pictures)
    if bench.output.exists(name) and _made_from(bench.output).get(name) == seen:
        return
    unasked: list[Row] = []
    if suite.judged == "objects":
        local = mirrored(made, made.list(), bench.scratch / MADE)
        bench.output.write(name, judging.detect(local, bench.config, bench.scratch))
    elif suite.judged == "questions":
        local = mirrored(made, made.list(), bench.scratch / MADE)
        answers, unasked = judging.ask_questions(
            local, bench.data, bench.config, bench.scratch, num_images=bench.num_seeds
        )
        bench.output.write(name, answers)
        bench.output.write(UNASKED, to_lines(unasked))
    else:
        _let_judge(bench, pictures, by_uid(pictures, rows), name)
    if not unasked:  # else the next run asks again
        bench.output.write(MADE_FROM, (json.dumps({name: seen}) + "\n").encode())


def _digest_of_pictures(made: Folder, pictures: list[Picture]) -> str:
    """Of the names and bytes of the images that were drawn."""
    there, digests = set(made.list()), {}
    for path in (picture.path for picture in pictures if picture.path in there):
        digests[path] = sha256_of(made.fetch(path))
        made.release(path)
    return digest_of(digests)


def _made_from(output: Folder) -> dict[str, str]:
    """File of a stage -> digest of the images that it was made from."""
    return dict(json.loads(output.read(MADE_FROM))) if output.exists(MADE_FROM) else {}


def _let_judge(bench: Bench, pictures: list[Picture], rows: Mapping[str, Row], name: str) -> None:
    judge = judging.open_judge(bench.config, bench.scratch)
    images = bench.images if bench.suite.task == "edit" else None
    try:
        marks = judging.give_marks(bench.suite, pictures, rows, bench.output.child(MADE), images, judge)
    finally:
        judge.ledger.close()
    bench.output.write(REPLIES, to_lines(marks))
    bench.output.write(name, judging.write_marks(bench.suite, marks, rows))


def by_uid(pictures: list[Picture], rows: list[Row]) -> dict[str, Row]:
    """The row that each picture was drawn from: layouts keep the order of the rows."""
    return {picture.requests[0].uid: row for picture, row in zip(pictures, rows, strict=True)}


def run_answers(bench: Bench, model: Model, kind: str) -> None:
    """Ask every part of the data set apart, and write the answers as the scorer reads them."""
    suite, images = bench.suite, bench.images
    gathered: list[Row] = []
    for part, rows in bench.rows.items():
        answers = bench.scratch / f"answers_{part}.jsonl"
        answer_questions(
            model, kind, rows, answers, style=suite.style, images=images, batch_size=bench.batch_size, part=part
        )
        found = [json.loads(line) for line in answers.read_text().split("\n") if line]
        bench.output.write(f"{MADE}/{answers.name}", answers.read_bytes())
        if "{part}" in suite.result:
            bench.output.write(f"{RESULTS}/{suite.result.format(part=part)}", write_answers(suite.name, found))
        gathered += found
    if "{part}" not in suite.result:
        bench.output.write(f"{RESULTS}/{suite.result}", write_answers(suite.name, gathered))


def score(bench: Bench, model: Mapping[str, Any] | None = None) -> Result:
    """Parse and aggregate what was judged, as `arm score` does, and write items and scores; `model` says who was asked."""
    suite, config = bench.suite, bench.config
    asked = bench.rows  # read here: the protocol names the files that were
    folder = bench.output.child(RESULTS)
    rubrics = [load_rubric(name) for name in suite.rubrics]
    mode = config.mode if suite.name in registry.CORRECTED else "official"
    judge, judge_settings = judge_record(suite, config)
    settings = ScoreConfig(
        mode=mode, judge=judge, judge_date=config.judge_date,
        prompt="\n".join(rubric.prompt for rubric in rubrics), num_bootstraps=bench.num_bootstraps, seed=bench.seed,
        images_a_prompt=bench.num_seeds if suite.layout else 0,
    )  # fmt: skip
    result = registry.score(suite.name, Files(folder, folder.list()), bench.data, settings)
    notes = [OURS.format(f"{rubric.name} {rubric.version}") for rubric in rubrics if rubric.source.startswith("ours")]
    protocol = replace(
        result.protocol, notes=(*result.protocol.notes, *notes),
        data_files={**result.protocol.data_files, **versions_of_images(suite, bench.data, asked)},
        prompt_style=suite.style if suite.task == "answer" else "", judge_settings=judge_settings, model=model or {},
    )  # fmt: skip
    result = with_lost(replace(result, protocol=protocol), lost(bench.output))
    write_result(result, bench.output, drawn_for(bench, [row for part in asked.values() for row in part]))
    return result


def drawn_for(bench: Bench, rows: list[Row]) -> dict[str, dict[str, str]]:
    """The scorer's uid of an item -> its prompt, and its image from the artifact's folder on; empty where none was drawn."""
    if bench.suite.task not in ("generate_images", "edit"):
        return {}
    made, found = set(bench.output.child(MADE).list()), {}
    for picture in bench.lay_out(rows):
        if picture.path in made:
            request = picture.requests[0]
            uid = f"{request.uid}/{request.number:04d}" if bench.suite.layout == "geneval" else request.uid
            found[uid] = {"image": f"{bench.place}/{MADE}/{picture.path}", "prompt": request.prompt}
    return found


def lost(output: Folder) -> Counter[str]:
    """Reason -> items of which nothing came to the scorer: what was not drawn, not answered, not asked about."""
    places = {f"{MADE}/{FAILURES}": "reason", UNASKED: "failed"}
    places |= dict.fromkeys(output.list(f"{MADE}/answers_"), "failed")
    found = Counter[str]()
    for name, field in places.items():
        lines = output.read(name).decode().split("\n") if output.exists(name) else []
        found.update(str(row[field]) for row in map(json.loads, filter(None, lines)) if field in row)
    return found


def mirrored(folder: Folder, names: list[str], scratch: Path) -> Path:
    """A local folder with the same files: itself, or copies of what lies in object storage."""
    if isinstance(folder, LocalFolder):
        return folder.path
    copies = LocalFolder(scratch)
    for name in names:
        if not copies.exists(name):
            copies.write(name, folder.read(name))
    return copies.path


def open_bench(name: str, subject: str, data: Files, config: OfficialConfig, output: Folder, **settings: int) -> Bench:
    """The benchmark of that name on a subject, in the artifact."""
    place = f"{FOLDER}/{subject}/{name}"
    return Bench(
        suite=SUITES[name], data=data, config=config, output=output.child(place), place=place,
        scratch=output.scratch(place), **settings,
    )  # fmt: skip
