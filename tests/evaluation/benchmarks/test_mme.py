"""MME: the official program's printed lines, and its reading of answers."""

from pathlib import Path

import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks import mme, registry
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files


def test_the_printed_lines_are_the_official_ones(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/mme"))
    found = mme.score(files, files, ScoreConfig())
    assert found.details["printed"].strip() == files.text("made_expected_official.txt").strip()
    assert found.scores.estimates["perception"].value == 740.0
    assert found.scores.estimates["cognition"].value == 290.0
    assert found.scores.refused is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [("YES", "yes"), (" Yes it is", "yes"), ("none", "no"), ("I do not know", "other"), ("Y", "other"), ("  yes", "other"),
     ("I no", "no"), ("not", "no"), ("The answer is yes", "other"), ("", "other"), ("noyes", "no")],
)  # fmt: skip
def test_an_answer_counts_in_the_first_four_characters(reply: str, answer: str) -> None:
    assert mme.parse(reply) == answer


def test_an_image_with_a_line_that_cannot_be_read_is_not_right_in_both(tmp_path: Path) -> None:
    """Of three lines that are read all are right, of two images one: accuracy 1, accuracy+ 1/2."""
    lines = ["a\tq\tYes\tyes", "a\tq\tNo\tno", "b\tq\tYes\tyes", "b\tq\tNo"]
    (tmp_path / "existence.txt").write_text("\n".join(lines) + "\n")
    found = mme.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert found.scores.estimates["existence"].value == 150
    assert found.protocol.num_failed == 1


def test_a_task_is_worth_accuracy_and_accuracy_plus(tmp_path: Path) -> None:
    """Image 1 both right, image 2 one: accuracy 3/4, accuracy+ 1/2: 125. Nine tasks lack: the headline is refused."""
    lines = ["a\tq\tYes\tyes", "a\tq\tNo\tno", "b\tq\tYes\tyes", "b\tq\tNo\tyes"]
    (tmp_path / "existence.txt").write_text("\n".join(lines) + "\n")
    found = mme.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert found.scores.estimates["existence"].value == 125
    # the 2,114 of perception without the 60 of existence
    assert found.scores.refused == "2054 of 2058 items have no score (0 failed)"
    (tmp_path / "existence.txt").write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(UserError, match=r"existence.txt has 3 lines; MME has two questions an image"):
        mme.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_questions_of_the_data_are_expected_task_by_task(tmp_path: Path) -> None:
    """Ten tasks of four questions; two of existence and all four of count lack: 6 of 40, and a task is not one item."""
    assert sum(mme.QUESTIONS.values()) == 2_374
    for task in mme.TASKS["Perception"]:
        for folder, suffix in (("data", ""), ("results", "\tyes")):
            (tmp_path / folder).mkdir(exist_ok=True)
            lines = [f"{image}\tq\t{label}{suffix}" for image in "ab" for label in ("Yes", "No")]
            (tmp_path / folder / f"{task}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "results/existence.txt").write_text("a\tq\tYes\tyes\na\tq\tNo\tno\n")
    (tmp_path / "results/count.txt").unlink()
    results, data = open_files(str(tmp_path / "results")), open_files(str(tmp_path / "data"))
    found = registry.score("mme", results, data, ScoreConfig())
    assert found.scores.refused == "6 of 40 items have no score (0 failed)"
    assert sorted(found.protocol.data_files) == sorted(f"{task}.txt" for task in mme.TASKS["Perception"])
    alone = registry.score("mme", results, open_files(str(tmp_path / "results")), ScoreConfig())
    assert (alone.protocol.num_missing, alone.protocol.data_files) == (60, {})


@pytest.mark.parametrize(("cognition", "published"), [((), 2_114), (("text_translation",), 2_374)])
def test_perception_alone_is_a_set_of_its_own(tmp_path: Path, cognition: tuple[str, ...], published: int) -> None:
    """Cognition left out whole takes nothing from the headline; left out in part it is noted."""
    for task in (*mme.TASKS["Perception"], *cognition):
        (tmp_path / f"{task}.txt").write_text("a\tq\tYes\tyes\na\tq\tNo\tno\n")
    found = mme.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert found.scores.published()["perception"].value == 2_000
    size, *others = found.protocol.notes
    assert size == f"{20 + 2 * len(cognition)} items; the published set has {published:,}"
    assert len(others) == (3 if cognition else 0)
