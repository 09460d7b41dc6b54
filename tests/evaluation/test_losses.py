"""What has no score is counted with its reason, printed, and made again: no number hides what it left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arm import manifest as manifests
from arm.errors import UserError
from arm.evaluation import summary
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.imaging import encode_png
from arm.evaluation.items import Pixels
from arm.evaluation.losses import MAX_REASONS, NO_ANSWER, account
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Question, Unable
from arm.evaluation.official import judging
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.evaluation import check_failed
from arm.evaluation.official.readiness import open_data
from arm.evaluation.official.run import Bench, lost, open_bench, run_answers, run_images, score
from arm.manifest import Manifest
from arm.storage import LocalFolder

PROMPTS = [
    {"tag": tag, "include": [{"class": "cow", "count": 1}], "prompt": f"a photo of {tag}"} for tag in ("one", "two")
]


class Forgetful(Unable):
    """Cannot do what holds one of the words, and says yes or draws the seed's grey otherwise."""

    name, independent = "forgetful", True

    def __init__(self, *forgotten: str) -> None:
        self.forgotten = forgotten

    def protocol(self) -> dict[str, Any]:
        return {}

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        return [Failed("status 500") if self._forgets(question.text) else "Yes." for question in questions]

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        return [
            Failed(f"refused {drawing.prompt!r}")
            if self._forgets(drawing.prompt)
            else np.full((8, 8, 3), drawing.seed % 256, np.uint8)
            for drawing in drawings
        ]

    def _forgets(self, text: str) -> bool:
        return any(word in text for word in self.forgotten)


def bench_of(name: str, root: Path, **options: Any) -> Bench:
    config = OfficialConfig(data=str(root / "data"), **options)
    output = LocalFolder(root / "out")
    return open_bench(name, "model", open_data(name, config), config, output, batch_size=2, num_bootstraps=100, seed=0)


def pope(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    for name in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": n, "image": "a.png", "text": f"{name} {n}?", "label": ("yes", "no")[n % 2]}
            for n in range(4)
        ]
        (folder / f"coco_pope_{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def publish(root: Path) -> Manifest:
    folder = LocalFolder(root / "out")
    folder.write("protocols.json", b"{}")
    return Manifest(
        kind="evaluation", job="evaluate-model", version=1, key="0" * 64, config={}, inputs={}, counts={}, metrics={},
        files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip


def test_reasons_are_counted_without_what_they_quote_and_add_up_to_the_items_without_a_score() -> None:
    """Two replies that differ, three places without an answer, of which two are explained, and one item of which nothing is there."""
    reasons = ["no score in 'Sorry'", "no score in 'I\ncannot'", *[NO_ANSWER] * 3]
    assert account(reasons, 6, {"status 500": 2}) == {
        "no score in '…'": 2, "status 500": 2, "no answer": 1, "no result": 1,
    }  # fmt: skip
    many = account([f"reason {number}" for number in range(MAX_REASONS + 3)], MAX_REASONS + 3)
    assert (len(many), many["other reasons"]) == (MAX_REASONS + 1, 3)


def test_questions_that_nobody_answered_stand_in_the_protocol_and_in_what_is_printed(tmp_path: Path) -> None:
    """Three of twelve questions failed, one in each set."""
    pope(tmp_path / "data/pope")
    bench = bench_of("pope", tmp_path)
    run_answers(bench, Forgetful("1?"), "made up")
    score(bench)
    protocol = json.loads(bench.output.read("scores.json"))["protocol"]
    assert (protocol["num_failed"], protocol["num_missing"], protocol["unscored"]) == (0, 3, {"status 500": 3})
    assert [" ".join(line.split()) for line in summary.lines(publish(tmp_path))] == [
        "model/pope mean_f1 refused 9 ok, 0 failed, 3 missing", "3 × status 500",
    ]  # fmt: skip
    run_answers(bench, Forgetful(), "made up")
    score(bench)
    (line,) = summary.lines(publish(tmp_path))
    assert line.split()[:3] == ["model/pope", "mean_f1", "0.6667"]
    assert line.endswith("12 ok, 0 failed, 0 missing")


def test_images_that_come_later_are_looked_at_and_what_was_seen_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run had judged the images of one prompt; the next one draws the other prompt's, too."""
    (tmp_path / "data/geneval").mkdir(parents=True)
    (tmp_path / "data/geneval/evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    looks: list[int] = []

    def detect(made: Path, config: OfficialConfig, scratch: Path) -> bytes:
        paths = sorted(made.glob("*/samples/*.png"))
        looks.append(len(paths))
        rows = [
            {"prompt_index": int(path.parents[1].name), "sample": int(path.stem), "detections": {},
             "metadata": PROMPTS[int(path.parents[1].name)]}
            for path in paths
        ]  # fmt: skip
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    monkeypatch.setattr(judging, "detect", detect)
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector/config.json").write_text("{}")
    bench = bench_of("geneval", tmp_path, seeds=2, detector=DetectorConfig(model=str(tmp_path / "detector")))
    run_images(bench, Forgetful("two"), "made up")
    protocol = score(bench).protocol
    assert (protocol.num_missing, protocol.unscored) == (2, {"refused '…'": 2})
    run_images(bench, Forgetful(), "made up")
    assert score(bench).protocol.unscored == {}
    run_images(bench, Forgetful(), "made up")
    assert looks == [2, 4]
    (tmp_path / "out/benchmarks/model/geneval/made/00000/samples/0000.png").write_bytes(
        encode_png(np.zeros((8, 8, 3), np.uint8))
    )
    run_images(bench, Forgetful(), "made up")
    assert looks == [2, 4, 4]


def test_nothing_private_is_left_of_a_finished_benchmark(tmp_path: Path) -> None:
    """Journals lie in the run's working folder, which goes when its artifact is complete."""
    pope(tmp_path / "data/pope")
    bench = bench_of("pope", tmp_path)
    run_answers(bench, Forgetful(), "made up")
    output = LocalFolder(tmp_path / "out")
    assert any((tmp_path / "out/.work").rglob("answers_*.jsonl"))
    output.discard_scratch()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]


def test_what_the_model_or_the_questioner_failed_on_is_named_by_benchmark_with_the_most_frequent_reasons(
    tmp_path: Path,
) -> None:
    """Two images of DPG that were not drawn and one that was not asked about, five answers of POPE for four reasons."""
    folder = LocalFolder(tmp_path)
    lines = {
        "dpg/made/failures.jsonl": [{"path": name, "reason": "no image in the folder"} for name in "ab"],
        "dpg/unasked.jsonl": [{"uid": "c", "failed": "HTTP 400: no"}],
        "pope/made/answers_random.jsonl": [{"uid": n, "failed": f"HTTP 40{n % 4}"} for n in range(5)] + [{"uid": 5}],
    }
    for name, rows in lines.items():
        folder.write(f"benchmarks/model/{name}", "".join(json.dumps(row) + "\n" for row in rows).encode())
    places = {name: folder.child(f"benchmarks/model/{name}") for name in ("dpg", "pope", "mme")}
    scored: Any = {"model": {name: SimpleNamespace(lost=lost(place)) for name, place in places.items()}}
    with pytest.raises(UserError, match="the same command asks for these alone again") as caught:
        check_failed(scored, EvaluateConfig())
    assert str(caught.value).startswith(
        "8 items failed: 3 of model/dpg (2 × no image in the folder; 1 × HTTP 400: no), "
        "5 of model/pope (2 × HTTP 400; 1 × HTTP 401; 1 × HTTP 402; …); nothing is published"
    )
    check_failed(scored, EvaluateConfig(official=OfficialConfig(publish_failed=True)))
