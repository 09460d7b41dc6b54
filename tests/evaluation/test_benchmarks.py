"""The benchmarks' items, parsing and aggregation, on items made by hand."""

import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arm.errors import UserError
from arm.evaluation import benchmark as benchmarks
from arm.evaluation.benchmark import aggregate_strict
from arm.evaluation.checker import judge_edits, judge_prompts, load_checker, parse_replies
from arm.evaluation.config import BENCHMARKS, EvaluateConfig
from arm.evaluation.editing import Editing, EditingWithSource
from arm.evaluation.evaluation_set import EvaluationSet, first_of_each_group, spread_over_groups
from arm.evaluation.generation import TextToImage
from arm.evaluation.items import Item, Output, Verdict
from arm.evaluation.understanding import ConstantAnswer, Understanding, constant_answers, normalise
from arm.evaluation.zero_shot import classes_of, label_of

SETTINGS: dict[str, Any] = {"num_bootstraps": 200, "seed": 0}
BLACK = np.zeros((4, 4, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Said:
    strict: bool
    score: float
    reasons: tuple[str, ...] = ()


class WhiteIsRight:
    """A checker for which an image is right as far as it is white; it cannot read meta data {"broken": True}."""

    def check_prompt(self, image: np.ndarray, meta: dict[str, Any]) -> Said:
        if meta.get("broken"):
            raise KeyError("include")
        return Said(bool(image.min() == 255), float(image.mean() / 255), () if image.min() == 255 else ("dark",))

    def check_edit(self, image: np.ndarray, source_image: np.ndarray, meta: dict[str, Any]) -> Said:
        changed = not np.array_equal(image, source_image)
        return Said(changed, float(changed))


def item(uid: str, group: str = "all", **fields: Any) -> Item:
    return Item(uid=uid, group=group, prompt=fields.pop("prompt", "a prompt"), **fields)


def verdict(uid: str, group: str, strict: bool, outcome: Any = "ok") -> Verdict:
    return Verdict(uid=uid, group=group, outcome=outcome, strict=strict, score=float(strict))


def test_macro_headline_is_the_mean_of_category_means() -> None:
    """colors 2 of 2, counting 1 of 4: mean (1 + .25) / 2 = .625, not 3 of 6."""
    verdicts = [verdict("1", "colors", True), verdict("2", "colors", True), verdict("3", "counting", True)]
    verdicts += [verdict(uid, "counting", False) for uid in "456"]
    scores = TextToImage().aggregate(verdicts, num_expected=6, **SETTINGS)
    assert {name: found.value for name, found in scores.published().items()} == {
        "colors": 1.0, "counting": 0.25, "mean": 0.625, "graded": 0.625,
    }  # fmt: skip
    assert scores.refused is None


def test_a_headline_is_refused_while_an_item_has_no_score_and_the_failure_is_no_zero() -> None:
    verdicts = [verdict("1", "a", True), verdict("2", "b", True), verdict("3", "a", False, outcome="failed")]
    scores = aggregate_strict("x", verdicts, weighting="micro", headline="strict", num_expected=4, **SETTINGS)
    assert scores.refused == "2 of 4 items have no score (1 failed)"
    assert "strict" not in scores.published()
    assert scores.estimates["a"].value == 1.0


def test_numbers_are_averaged_over_the_items_that_have_them() -> None:
    verdicts = [
        Verdict(uid="1", group="a", outcome="ok", numbers={"psnr": 20.0}),
        Verdict(uid="2", group="a", outcome="ok", numbers={"psnr": 23.0}),
        Verdict(uid="3", group="a", outcome="ok"),
    ]
    found = aggregate_strict("x", verdicts, weighting="micro", headline="strict", num_expected=3, **SETTINGS)
    assert found.estimates["psnr"].value == 21.5
    assert found.estimates["psnr"].num_items == 2


def test_a_checker_that_raises_fails_its_item_alone() -> None:
    items = [item("1"), item("2", meta={"broken": True}), item("3")]
    outputs = [Output(uid="1", image=BLACK + 255), Output(uid="2", image=BLACK), Output(uid="3", image=BLACK)]
    verdicts = parse_replies(items, judge_prompts(items, outputs, WhiteIsRight()))
    assert [(found.outcome, found.strict) for found in verdicts] == [("ok", True), ("failed", False), ("ok", False)]
    assert verdicts[1].reasons == ("KeyError: 'include'",)
    assert verdicts[2].reasons == ("dark",)


def test_a_missing_image_is_a_failure_and_not_a_wrong_answer() -> None:
    assert (
        parse_replies([item("1")], judge_prompts([item("1")], [Output(uid="1")], WhiteIsRight()))[0].outcome == "failed"
    )


def test_a_reply_of_another_item_or_without_a_score_is_a_failure() -> None:
    replies = [{"uid": "9", "strict": True, "score": 1.0}, {"uid": "2", "strict": True}]
    assert [found.outcome for found in parse_replies([item("1"), item("2")], replies)] == ["failed", "failed"]


def test_an_edit_is_checked_against_its_source() -> None:
    edits = [item("1", source=BLACK), item("2", source=BLACK)]
    outputs = [Output(uid="1", image=BLACK), Output(uid="2", image=BLACK + 1)]
    assert [reply["strict"] for reply in judge_edits(edits, outputs, WhiteIsRight())] == [False, True]


def test_edits_are_rendered_beside_their_sources_only_by_a_detokenizer_that_sees_them() -> None:
    """The codes and seeds are those of `editing`; each edit's own source goes with it."""
    asked: list[Any] = []
    tools = SimpleNamespace(
        detokenizer=SimpleNamespace(takes_sources=True),
        render=lambda codes, seeds, sources=None: asked.append((codes, seeds, sources)) or [BLACK, BLACK + 1],
    )
    subject: Any = SimpleNamespace(tools=tools, seeds=lambda items: [7, 8], draw=lambda items, seeds: ["a", "b"])
    edits = [item("1", source=BLACK), item("2", source=BLACK + 9)]
    outputs = EditingWithSource().generate(edits, subject)
    assert [(found.uid, int(found.image[0, 0, 0])) for found in outputs if found.image is not None] == [
        ("1", 0),
        ("2", 1),
    ]
    Editing().generate(edits, subject)
    (codes, seeds, sources), plain = asked
    assert (codes, seeds) == plain[:2] == (["a", "b"], [7, 8])
    assert [int(source[0, 0, 0]) for source in sources] == [0, 9]
    assert plain[2] is None
    tools.detokenizer.takes_sources = False
    with pytest.raises(UserError, match="source_condition"):
        EditingWithSource().generate(edits, subject)


def test_a_checker_is_named_by_its_module() -> None:
    with pytest.raises(UserError, match="cannot be imported"):
        load_checker("no.such.module")
    with pytest.raises(UserError, match="has no function check_prompt"):
        load_checker("json")
    with pytest.raises(UserError, match="empty"):
        load_checker("")


def test_questions_are_right_by_exact_match_after_normalising() -> None:
    questions = [item("1", reference="two"), item("2", reference="Yes"), item("3", reference="red")]
    replies = [{"uid": "1", "answer": " Two. "}, {"uid": "2", "answer": "yes it is"}, {"uid": "3", "answer": None}]
    verdicts = Understanding().parse(questions, replies)
    assert [(found.outcome, found.strict) for found in verdicts] == [("ok", True), ("ok", False), ("failed", False)]
    assert verdicts[1].reasons == ("answered 'yes it is', expected 'yes'",)
    assert normalise("Red .") == "red"


def test_chance_is_the_best_constant_answer_of_each_kind() -> None:
    """existence: yes yes no; counting: a tie, so the first in the alphabet."""
    answers = [
        ("existence", "yes"),
        ("existence", "yes"),
        ("existence", "no"),
        ("counting", "two"),
        ("counting", "one"),
    ]
    questions = [item(str(index), kind, reference=answer) for index, (kind, answer) in enumerate(answers)]
    assert constant_answers(questions) == {"existence": "yes", "counting": "one"}
    found = ConstantAnswer().items(
        EvaluationSet(prompts=(), questions=tuple(questions), edits=(), images=(), digest="d")
    )
    outputs = ConstantAnswer().generate(found, None)  # type: ignore[arg-type]
    replies = ConstantAnswer().judge(found, outputs, None)  # type: ignore[arg-type]
    scores = ConstantAnswer().aggregate(ConstantAnswer().parse(found, replies), num_expected=5, **SETTINGS)
    assert scores.estimates["accuracy"].value == pytest.approx(3 / 5)


def test_items_are_taken_from_the_groups_in_turn() -> None:
    items = [item("a1", "a"), item("a2", "a"), item("a3", "a"), item("b1", "b")]
    assert [found.uid for found in spread_over_groups(items, 3)] == ["a1", "b1", "a2"]
    assert [found.uid for found in first_of_each_group(items, 2)] == ["a1", "a2", "b1"]


def test_labels_are_given_or_the_one_coloured_object() -> None:
    assert label_of({"label": "tench"}) == "tench"
    assert label_of({"include": [{"class": "circle", "count": 1, "color": "red"}]}) == "red circle"
    assert label_of({"include": [{"class": "circle", "count": 2, "color": "red"}]}) is None
    assert label_of({"include": [{"class": "circle", "count": 1}]}) is None


def test_classes_are_every_colour_with_every_shape_or_the_labels() -> None:
    two = {"include": [{"class": "circle", "color": "red"}, {"class": "square", "color": "blue"}, {"class": "star"}]}
    assert classes_of([two, {}]) == ["blue circle", "blue square", "red circle", "red square"]
    assert classes_of([{"label": "tench"}, {"label": "hen"}, {"label": "tench"}]) == ["hen", "tench"]


def test_every_benchmark_of_the_table_exists_under_its_name() -> None:
    assert [benchmarks.find(name).name for name in BENCHMARKS] == list(BENCHMARKS)


@pytest.mark.parametrize("name", ["num_grid_images", "answer_tokens"])
def test_what_would_stop_an_evaluation_at_its_end_is_refused_at_its_start(name: str) -> None:
    with pytest.raises(UserError, match=rf"EvaluateConfig\.{name} is 0; it must be at least 1"):
        EvaluateConfig(**{name: 0})


def test_an_unknown_benchmark_is_refused_by_the_config_without_torch() -> None:
    with pytest.raises(UserError, match="no benchmark 'edting'; did you mean 'editing'"):
        EvaluateConfig(benchmarks=("edting",))
    with pytest.raises(UserError, match=r"no benchmark 'xyz'; known: constant_answer, copy_source, dpg, .*zero_shot"):
        EvaluateConfig(benchmarks=("pope", "xyz"))
    program = (
        "import sys\nfrom arm import cli\ntry:\n    cli.main(['evaluate-model', '--output', 'o', '--benchmarks', 'popo'])\n"
        "finally:\n    assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "There is no benchmark 'popo'; did you mean 'pope'?\n")
