"""GEdit-Bench: the official table on 1,212 made scores, both languages, failures by hand."""

import json
import re
from pathlib import Path

from arm.evaluation.benchmarks import gedit
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files


def test_the_printed_table_is_the_official_one(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/gedit"))
    printed = re.findall(r"^[\w -]+: \d.*$", files.text("made_expected_official_en.txt"), re.MULTILINE)
    found = gedit.score(files, files, ScoreConfig())
    assert found.details["printed"] == printed
    assert found.scores.refused is None
    assert found.scores.num_scored == 606
    chinese = gedit.score_cn(files, files, ScoreConfig())
    assert (chinese.protocol.benchmark, chinese.scores.num_scored) == ("gedit_cn", 606)


def write(folder: Path, group: str, scores: list[tuple[str, str]]) -> None:
    """A group's file in the official layout."""
    head = (
        "source_image,edited_image,instruction,sementics_score,quality_score,intersection_exist,instruction_language\n"
    )
    rows = [f"s.png,{group}/{n}.png,i,{sc},{pq},True,en" for n, (sc, pq) in enumerate(scores)]
    (folder / f"model_{group}_gpt_score.csv").write_text(head + "\n".join(rows) + "\n")


def test_groups_weigh_the_same_however_many_edits_they_have(tmp_path: Path) -> None:
    """O: 4 and (6 + 6) / 2: 5 over groups, not 5.33 over edits."""
    write(tmp_path, "color_alter", [("4", "4")])
    write(tmp_path, "subject-add", [("4", "9"), ("9", "4")])
    files = open_files(str(tmp_path))
    found = gedit.score(files, files, ScoreConfig())
    assert found.scores.estimates["overall"].value == 5.0
    assert "no edits of tone_transfer" in found.protocol.notes
    assert found.scores.refused == "603 of 606 items have no score (0 failed)"


def test_a_group_without_edits_of_the_intersection_makes_its_average_nan(tmp_path: Path) -> None:
    """An empty cell is true: pandas reads it as nan. False and 0 are false."""
    head = (
        "source_image,edited_image,instruction,sementics_score,quality_score,intersection_exist,instruction_language\n"
    )
    for number, group in enumerate(gedit.GROUPS):
        exists = ("", "True", "1", "False", "0")[min(number, 4)]
        (tmp_path / f"model_{group}_gpt_score.csv").write_text(head + f"s.png,{group}.png,i,4,9,{exists},en\n")
    found = gedit.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    printed = found.details["printed"]
    assert printed[10:13] == ["tone_transfer: 4.000, 9.000, 6.000", "Average: 4.000, 9.000, 6.000", "background_change: 4.000, 9.000, 6.000"]  # fmt: skip
    assert [line.endswith(": 4.000, 9.000, 6.000") for line in printed[12:]] == [True] * 3 + [False] * 9
    assert printed[-2:] == ["tone_transfer: nan, nan, nan", "Average Intersection: nan, nan, nan"]


def test_a_reply_that_does_not_parse_is_failed_not_drawn_at_random(tmp_path: Path) -> None:
    rows = [
        {"uid": "a", "group": "ps_human", "language": "en", "sc_reply": "[6, 9]", "pq_reply": '{"score": [6]}'},
        {"uid": "b", "group": "ps_human", "language": "en", "sc_reply": "Sorry.", "pq_reply": "[1, 1]"},
        {"uid": "c", "group": "ps_human", "language": "zh", "sc_reply": "[1, 1]", "pq_reply": "[1, 1]"},
    ]
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = open_files(str(tmp_path))
    items = gedit.score(files, files, ScoreConfig()).items
    assert [(item.uid, item.outcome) for item in items] == [("a", "ok"), ("b", "failed")]
    assert items[0].numbers["O"] == 6.0
    assert items[1].reasons == ("SC: no scores in 'Sorry.'",)
    assert [item.uid for item in gedit.score_cn(files, files, ScoreConfig()).items] == ["c"]
