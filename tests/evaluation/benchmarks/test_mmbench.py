"""MMBench: what VLMEvalKit and lmms-eval infer from each of 771 rows, and circles by hand."""

from pathlib import Path

import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks import mmbench
from arm.evaluation.benchmarks.choices import extract_lmms, infer_lmms, infer_vlmevalkit
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files

OPTIONS = {"A": "red", "B": "a dog", "C": "near"}


def test_every_row_every_circle_and_every_share_is_the_official_one(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/mmbench"))
    expected = files.json("made_expected_official.json")
    found = mmbench.score(files, files, ScoreConfig())
    rows = {row["index"]: row for row in files.rows("made_predictions.tsv")}
    assert len(found.items) == 771
    for item in found.items:
        row, official = rows[item.uid], expected["per_row"][item.uid]
        options = mmbench.options_of(row)
        assert (infer_vlmevalkit(row["prediction"], options) or False) == official["vlmeval_prefetch"]
        assert (infer_lmms(row["prediction"], options) or False) == official["lmms_can_infer"]
        assert item.answer == official["vlmeval_exact_opt"]
    for number, official in expected["groups"].items():
        circle = [item for item in found.items if int(item.uid) % 1_000_000 == int(number)]
        assert all(item.strict for item in circle) == official["vlmeval_exact_matching_hit"]
        assert all(item.numbers["lmms_static"] for item in circle) == official["lmms_static_hit"]
    names = ("circular", "circular_lmms", "vanilla", "vanilla_all_rows")
    values = [found.scores.estimates[name].value for name in names]
    overall = (
        "circular_vlmeval_exact_matching",
        "circular_lmms_static",
        "vanilla_circ0_vlmeval",
        "vanilla_all_rows_vlmeval",
    )
    assert values == [expected["overall"][name] for name in overall]
    assert found.scores.refused is None


@pytest.mark.parametrize(
    ("reply", "vlmevalkit", "lmms"),
    [
        ("(B)", "B", "B"),
        ("**B**", "B", None),
        ("The answer is A", "A", None),
        ("B is what one sees here in it", None, "B"),  # VLMEvalKit wants the letter among the last four words
        ("the Answer is c, and so on and so on", "C", None),  # but believes `answer is`, in any case
        ("A and B", None, None),
        ("I see red.", "A", "A"),
        ("red, a dog", None, None),
        ("Z", "Z", None),
        ("Cannot determine the answer: B", "Z", "B"),
        ("Failed to obtain answer via API B", None, None),
        ("red " * 9, None, "A"),  # 36 characters are more than twice the options' 3 + 5 + 4
        ("İİİİİİ a dog İİİİİ", None, "B"),  # 18 characters, but 29 in lower case: more than twice 12
        ("D", None, "D"),  # lmms-eval looks for A to E, whichever options there are
    ],
)
def test_inference_by_hand(reply: str, vlmevalkit: str | None, lmms: str | None) -> None:
    assert (infer_vlmevalkit(reply, OPTIONS), infer_lmms(reply, OPTIONS)) == (vlmevalkit, lmms)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B, since", "B"),
        ("it may be A but (C)", "C"),
        ("so B", "B"),
        ("答案是C", "C"),
        ("ABc", "B"),
        ("  ", None),
        ("x", None),
    ],
)
def test_static_extraction_takes_the_surest_shape(reply: str, letter: str | None) -> None:
    assert extract_lmms(reply, "ABC") == letter


@pytest.mark.parametrize(("reply", "answer"), [("None", "Z"), ("none", "A"), ("", "Z"), ("N/A", "Z")])
def test_an_answer_that_pandas_takes_for_empty_is_nan(reply: str, answer: str) -> None:
    row = {"index": "1", "A": "none", "B": "n/a", "answer": "A", "prediction": reply}
    assert mmbench.judge(row).answer == answer


def test_one_question_whose_option_pandas_takes_for_empty_does_not_stop_the_others(tmp_path: Path) -> None:
    head = "index\tquestion\tA\tB\tC\tD\tanswer\tprediction\n"
    rows = [
        "1\tq\tx\tNone\t\t\tA\tA",
        "1000001\tq\tNone\tx\t\t\tB\tB",
        "2\tq\tx\ty\t\t\tA\tA",
        "1000002\tq\ty\tx\t\t\tB\tB",
    ]
    (tmp_path / "predictions.tsv").write_text(head + "\n".join(rows) + "\n")
    found = mmbench.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert (found.scores.refused, found.scores.estimates["circular"].value) == (None, 1.0)
    (tmp_path / "predictions.tsv").write_text(head + rows[0] + "\n")
    with pytest.raises(UserError, match="No row of MMBench has 2 options"):
        mmbench.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_a_circle_is_right_when_every_rotation_is_and_lacks_rows_without_one(tmp_path: Path) -> None:
    head = "index\tquestion\tA\tB\tC\tD\tanswer\tl2-category\tprediction\n"
    rows = ["1\tq\tx\ty\t\t\tA\tlogic\tA", "1000001\tq\ty\tx\t\t\tB\tlogic\tB", "2\tq\tx\ty\tNone\t\tA\tlogic\tA"]
    (tmp_path / "predictions.tsv").write_text(head + "\n".join(rows) + "\n")
    found = mmbench.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    # question 2 has two options (None is pandas' missing value), hence two rotations, of which one lacks
    assert found.scores.refused == "1 of 4 items have no score (0 failed)"
    # the incomplete circle, right so far, is no right one: the complete one alone counts, where vanilla has both
    assert {name: found.scores.estimates[name].num_items for name in ("circular", "circular/logic", "vanilla/logic")} == {
        "circular": 1, "circular/logic": 1, "vanilla/logic": 2,
    }  # fmt: skip
    (tmp_path / "predictions.tsv").write_text(head + "\n".join([*rows, "1000002\tq\ty\tx\t\t\tB\tlogic\tA"]) + "\n")
    found = mmbench.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert found.scores.refused is None
    shares = {name: found.scores.estimates[name].value for name in ("circular", "vanilla", "vanilla_all_rows")}
    assert shares == {"circular": 0.5, "vanilla": 1.0, "vanilla_all_rows": 0.75}
