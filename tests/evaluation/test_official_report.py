"""The report's part on other authors' benchmarks: our numbers beside the published ones, a baseline, samples, report.json."""

import html
import json
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from made_up_benchmarks import TAGS, make_data, make_evaluation, picture, publish, save_weights, write_lines
from made_up_store import HOSTILE
from read_page import read, section_of

from arm import cli
from arm import manifest as manifests
from arm.errors import UserError
from arm.evaluation.baseline import Entry, compare_with, differences, units_of, whole_units
from arm.evaluation.contamination.prompts import Asked, PromptIndex
from arm.evaluation.cost import Stopwatch, summarise
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.page.official.beside import WAYS
from arm.evaluation.page.official.published import PUBLISHED
from arm.evaluation.page.official.reading import is_record, read_measured
from arm.evaluation.page.official.samples import Budget, choose, clip, shrunk, verdict_of, wanted_of
from arm.evaluation.page.official.targets import NOTHING, TARGETS, departures
from arm.evaluation.page.store import read_lines, read_store
from arm.evaluation.pairing import Mean
from arm.evaluation.report import write_report

SECTIONS = ["benchmarks", "baseline", "categories", "samples"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    root = tmp_path_factory.mktemp("here") / "new-model"
    make_evaluation(root, data, {"model": 0.8, "finetuned": 0.6}, weak="counting")
    return root


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    root = tmp_path_factory.mktemp("before") / "old-model"
    make_evaluation(root, data, {"model": 0.7})
    return root


def numbers_of(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "report" / "report.json").read_text())
    return found


def text_of(part: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", part)).split())


def changed(place: Path, tmp_path: Path, name: str, content: bytes) -> Path:
    """A copy of an evaluation with one file of its artifact replaced, listed anew."""
    copy = Path(shutil.copytree(place, tmp_path / place.name))
    (copy / "artifact" / "manifest.json").unlink()
    (copy / "artifact" / name).write_bytes(content)
    publish(copy, "evaluate-model", {"model": {"model": copy.name}})
    return copy


def test_the_page_and_its_numbers_say_the_same(here: Path, before: Path) -> None:
    page = write_report(str(here), str(before)).read_text()
    assert [name for name in read(here / "report" / "index.html").ids if name in SECTIONS] == SECTIONS
    numbers, shown = numbers_of(here), text_of(section_of(page, "benchmarks"))
    compared = 0
    for subject in numbers["subjects"].values():
        for name, found in subject["benchmarks"].items():
            for measure in TARGETS[name].measures:
                if measure.metric in found["estimates"]:
                    value = found["estimates"][measure.metric]
                    printed = [measure.printed(value[key]) for key in ("low", "high")]
                    counted = f"{found['protocol']['num_scored']} / {found['protocol']['num_expected']}"
                    assert f"{measure.printed(value['value'])} ≠ {' – '.join(printed)} {counted}" in shown
                    compared += 1
    assert compared == 2 * 5  # GenEval, SC and PQ of GEdit, POPE, MME
    assert {(row["model"], row["printed"]) for row in numbers["published"]} >= {("ARM", "0.79"), ("ARM-RL", "87.11")}
    for row in numbers["published"]:
        assert float(row["printed"]) == row["value"]
        assert row["printed"] in shown
        assert row["source"].startswith("arXiv 2606.11188")
        assert row["source"] in shown
        assert row["protocol"] in shown


def test_what_was_not_measured_has_no_column_and_no_published_row(here: Path) -> None:
    shown = text_of(section_of(write_report(str(here)).read_text(), "benchmarks"))
    assert {row["benchmark"] for row in numbers_of(here)["published"]} == {"geneval", "gedit_en", "pope", "mme"}
    assert "MMBench" not in shown
    assert "Chameleon" not in shown  # the paper gives neither POPE nor MME of it


def test_a_refused_headline_says_why_and_has_no_number(here: Path) -> None:
    shown = text_of(section_of(write_report(str(here)).read_text(), "benchmarks"))
    assert "refused 585 of 606 items have no score (1 failed)" in shown
    found = numbers_of(here)["subjects"]["model"]["benchmarks"]["gedit_en"]
    assert found["refused"] == "585 of 606 items have no score (1 failed)"
    assert "overall" not in found["estimates"]
    assert len(found["categories"]) == 11


def test_every_published_number_names_a_measure_of_a_benchmark() -> None:
    known = {f"{name}/{measure.metric}" for name, target in TARGETS.items() for measure in target.measures}
    named = [key for row in PUBLISHED for key in row.values]
    assert set(named) <= known
    assert all(float(value) > 0 for row in PUBLISHED for value in row.values.values())


def test_a_number_that_was_measured_otherwise_is_marked_with_the_reason(here: Path) -> None:
    """The judge's full name is the published judge; another model, another mode and an unchecked part are not the same."""
    same = {"mode": "official", "judge": "gpt-4.1-2025-04-14", "checked": {"all": "checked"}, "notes": []}
    assert departures("gedit_en", same) == []
    assert departures("gedit_en", {**same, "judge": "gpt-4.1-mini"}) == [
        "judged by gpt-4.1-mini, the published by GPT-4.1"
    ]
    assert departures("gedit_en", {**same, "judge": ""}) == ["no judge is named, the published by GPT-4.1"]
    other = {
        **same,
        "mode": "corrected",
        "checked": {"a": "checked", "b": "not checked against it"},
        "notes": ["2 images"],
    }
    assert departures("pope", other) == [
        "the corrected mode, without the faults of the authors' program", "not checked against the official program: b", "2 images",
    ]  # fmt: skip
    assert "≠ GenEval : 102 items; the published set has 2,212" in text_of(write_report(str(here)).read_text())


def test_hostile_text_stays_text_and_the_page_loads_nothing(here: Path, before: Path) -> None:
    reader = read(write_report(str(here), str(before)))
    assert "script" not in reader.tags
    assert all(
        address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for address in reader.addresses
    )
    assert "".join(reader.text).count(HOSTILE) >= 4


def test_the_same_artifacts_give_the_same_bytes(here: Path, before: Path) -> None:
    first = write_report(str(here), str(before)).read_bytes(), (here / "report" / "report.json").read_bytes()
    again = write_report(str(here), str(before)).read_bytes(), (here / "report" / "report.json").read_bytes()
    assert first == again
    assert str(here).encode() not in first[1]


def test_a_regression_is_red_and_has_a_word_and_a_sign(here: Path, before: Path) -> None:
    baseline = section_of(write_report(str(here), str(before)).read_text(), "baseline")
    rows = {text_of(row): row for row in baseline.split("<tr")}
    worse = [row for text, row in rows.items() if "counting" in text and "▼ regression" in text]
    assert worse
    assert any("GEdit-Bench EN GEdit-EN O" in text for text in rows)
    assert all('class="regression"' in row and 'class="bad"' in row for row in worse)
    numbers = {(item["subject"], item["benchmark"]): item for item in numbers_of(here)["comparisons"]}
    geneval = {found["category"]: found for found in numbers["model", "geneval"]["differences"]}
    assert set(geneval) == {"", *TAGS}
    assert geneval["counting"]["verdict"] == "regression"
    assert geneval["counting"]["high"] < 0
    assert numbers["model", "pope"]["differences"][0]["verdict"] == "better"
    assert numbers["finetuned", "pope"]["other"] == "model"  # the only subject of the baseline


def test_differences_over_all_items_are_those_of_the_recorded_numbers(here: Path, before: Path) -> None:
    """GenEval's mean of tags, POPE's mean F1, MME's sum and GEdit's group means, from items alone."""
    write_report(str(here), str(before))
    old = {item.benchmark: item for item in read_measured(read_store(str(before))[0])[0]}
    new = numbers_of(here)["subjects"]["model"]["benchmarks"]
    compared = [item for item in numbers_of(here)["comparisons"] if item["subject"] == "model"]
    seen = set()
    for item in compared:
        first = item["differences"][0]
        if new[item["benchmark"]]["refused"] is None:
            sides = [
                record["estimates"][first["metric"]]["value"]
                for record in (old[item["benchmark"]].record, new[item["benchmark"]])
            ]
            assert [first["before"], first["after"]] == pytest.approx(sides)
            assert first["difference"] == pytest.approx(sides[1] - sides[0])
            assert first["low"] <= first["difference"] <= first["high"]
            seen.add(item["benchmark"])
        for category in item["differences"][1:]:
            recorded = new[item["benchmark"]]["categories"].get(category["category"])
            if recorded and category["verdict"] != "too few items":
                assert category["after"] == pytest.approx(recorded["value"])
    assert seen == {"geneval", "pope", "mme"}


def test_an_evaluation_beside_itself_is_equal_everywhere(before: Path) -> None:
    (step,) = read_store(str(before))
    verdicts = {found.verdict for item in compare_with(step, step) for found in item.differences}
    assert verdicts == {"equal", "too few items"}  # two edits of a group say nothing


def test_other_judges_and_other_data_are_not_compared(tmp_path: Path, data: Path, before: Path) -> None:
    other = Path(shutil.copytree(data, tmp_path / "data"))
    questions = [
        {"question_id": n, "image": "a.png", "text": f"Is there an object y{n}?", "label": "yes"} for n in range(20)
    ]
    write_lines(other / "pope" / "coco_pope_random.json", questions)
    detector = DetectorConfig(model=str(save_weights(tmp_path / "other-detector")))
    make_evaluation(tmp_path / "new", other, {"model": 0.8}, names=("geneval", "pope", "mme"), detector=detector)
    page = write_report(str(tmp_path / "new"), str(before)).read_text()
    found = {item["benchmark"]: item for item in numbers_of(tmp_path / "new")["comparisons"]}
    assert found["geneval"]["apart"][0] == "judge: other-detector here, not stated in the baseline"
    assert found["geneval"]["apart"][1].startswith("judge settings: kind mask2former, files ")
    assert found["pope"]["apart"][0].startswith("data files: coco_pope_random.json ")
    assert found["geneval"]["differences"] == found["pope"]["differences"] == []
    assert found["mme"]["apart"] == []
    assert found["gedit_en"]["alone"] == "the baseline alone was asked"
    assert "not comparable: judge: other-detector here" in text_of(section_of(page, "baseline"))


def test_items_that_only_one_of_the_two_has_are_counted(tmp_path: Path, data: Path, before: Path) -> None:
    make_evaluation(tmp_path / "new", data, {"model": 0.8}, names=("pope",), lost=3)
    baseline = section_of(write_report(str(tmp_path / "new"), str(before)).read_text(), "baseline")
    (item,) = [item for item in numbers_of(tmp_path / "new")["comparisons"] if item["benchmark"] == "pope"]
    assert (item["num_common"], item["num_only_here"], item["num_only_there"]) == (57, 0, 3)
    assert "3 only in the baseline" in text_of(baseline)


def test_a_store_of_a_pipeline_is_compared_on_its_own_benchmarks_too(tmp_path: Path) -> None:
    """Ten drawings at one stage: all wrong before, all right now."""
    for name, right in (("old", False), ("new", True)):
        rows = [
            {"uid": str(n), "group": "colors", "outcome": "ok", "strict": right, "score": 0.5, "reasons": []}
            for n in range(10)
        ]
        write_lines(tmp_path / name / "artifact" / "items" / "finetuned" / "text_to_image" / "0.verdicts.jsonl", rows)
        estimate = {"value": float(right), "low": 0.0, "high": 1.0, "num_items": 10}
        record = {
            "dataset": "d", "checker": "c", "aggregation": "mean over all items", "sampling": {"seed": 0}, "headline": "mean",
            "refused": None, "estimates": {"mean": estimate}, "num_expected": 10, "num_scored": 10, "interval": "95%",
        }  # fmt: skip
        path = tmp_path / name / "artifact" / "protocols.json"
        path.write_text(json.dumps({"finetuned": {"text_to_image": record}}))
        publish(tmp_path / name, "evaluate-model", {})
    write_report(str(tmp_path / "new"), str(tmp_path / "old"))
    (item,) = numbers_of(tmp_path / "new")["comparisons"]
    assert item["differences"][0]["verdict"] == "better"
    assert item["differences"][0]["difference"] == 1.0


def test_models_of_one_name_are_told_apart_and_shown(here: Path, before: Path) -> None:
    """Both are called `knowing`; their skill, .8 or .6 here and .7 before, is a setting."""
    page = write_report(str(here), str(before)).read_text()
    shown = text_of(section_of(page, "baseline"))
    assert "GenEval, GEdit-Bench EN, POPE, MME perception : model: skill 0.8 here, 0.7 in the baseline" in shown
    assert "kind made up, name knowing, skill 0.8" in text_of(section_of(page, "benchmarks"))
    for subject in numbers_of(here)["subjects"].values():
        assert all(found["protocol"]["model"]["name"] == "knowing" for found in subject["benchmarks"].values())


def test_an_old_protocol_without_a_field_is_not_compared_and_says_which(tmp_path: Path) -> None:
    for name, stated in (("old", {}), ("new", {"dataset": "d", "checker": "c", "aggregation": "mean over all items"})):
        (tmp_path / name / "artifact").mkdir(parents=True)
        record = {**stated, "sampling": {"seed": 0}}
        (tmp_path / name / "artifact" / "protocols.json").write_text(json.dumps({"joint": {"text_to_image": record}}))
        publish(tmp_path / name, "evaluate-model", {})
    new, old = (read_store(str(tmp_path / name))[0] for name in ("new", "old"))
    (found,) = compare_with(new, old)
    assert found.apart == (
        "dataset: d here, not stated in the baseline", "checker: c here, not stated in the baseline",
        "aggregation: mean over all items here, not stated in the baseline",
    )  # fmt: skip
    assert found.differences == ()


def entry(benchmark: str, mean: Mean) -> Entry:
    return Entry(subject="m", benchmark=benchmark, metric="x", protocol={}, fields=(), rows=list, mean=mean)


def rows_of(scores: Mapping[str, float], group: str = "a") -> list[dict[str, Any]]:
    return [
        {"uid": uid, "group": group, "outcome": "ok", "strict": bool(score), "score": score}
        for uid, score in scores.items()
    ]


def test_a_circle_and_an_image_of_which_a_row_lacks_are_not_compared() -> None:
    """Of question 7 one side alone has the third rotation, of MME's image 1 nobody scored the second question."""
    circles = ["7", "1000007", "8", "1000008"]
    assert whole_units("mmbench", circles, {*circles, "2000007"}) == ["8", "1000008"]
    images = ["count/0000/0", "count/0000/1", "count/0001/0"]
    assert whole_units("mme", images, {*images, "count/0001/1"}) == images[:2]
    assert whole_units("geneval", ["00003/0000"], {"00003/0000", "00003/0001"}) == ["00003/0000"]


def test_a_prompts_images_a_circle_and_an_images_questions_are_one_unit() -> None:
    """Right and wrong: half a prompt, no circle, half of the questions of an MME image and not both: 50 of 200."""
    for benchmark, uids, name, score in (
        ("geneval", ("00003/0000", "00003/0001"), "00003", 0.5),
        ("mmbench", ("12", "1000012"), "12", 0.0),
        ("mme", ("count/0001/0", "count/0001/1"), "count/0001", 50.0),
    ):
        assert units_of(benchmark, rows_of(dict(zip(uids, (1.0, 0.0), strict=True)))) == [
            {"uid": name, "group": "a", "outcome": "ok", "score": score}
        ]


def test_fewer_than_five_items_in_common_say_nothing() -> None:
    mean = Mean(field="score", weighting="micro", factor=1.0)
    some = [rows_of({str(n): value for n in range(4)}) for value in (1.0, 0.0)]
    (found,) = differences(entry("wise", mean), *some, num_bootstraps=100, seed=0)
    assert found.verdict == "too few items"
    more = [rows_of({str(n): value for n in range(5)}) for value in (1.0, 0.0)]
    (found,) = differences(entry("wise", mean), *more, num_bootstraps=100, seed=0)
    assert (found.verdict, found.difference) == ("regression", -1.0)


def test_f1_of_pope_is_resampled_question_by_question() -> None:
    """Always yes on half yes: F1 2/3; every answer right: 1. The resampled difference stays above 0."""
    labels = ["yes", "no"] * 10
    yes = [
        {"uid": str(n), "group": "random", "answer": "yes", "strict": label == "yes"} for n, label in enumerate(labels)
    ]
    right = [{"uid": str(n), "group": "random", "answer": label, "strict": True} for n, label in enumerate(labels)]
    mean = Mean(field="score", weighting="micro", factor=1.0)
    total, one = differences(entry("pope", mean), yes, right, num_bootstraps=200, seed=0)
    assert (total.before, total.after) == (pytest.approx(2 / 3), 1.0)
    assert 0 < total.low < 1 / 3 < total.high
    assert (one.category, one.difference) == ("random", pytest.approx(1 / 3))


def test_an_artifact_alone_its_family_and_the_verb_give_the_report(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(here, tmp_path / "copy"))
    alone = write_report(str(copy / "artifact"))
    assert "benchmarks" in read(alone).ids
    manifests.load(str(copy / "artifact")).local("benchmarks/model/pope/scores.json")  # the artifact is as it was
    cli.main(["report", str(copy), "--baseline", str(here)])
    assert capsys.readouterr().out.strip() == str(copy / "report" / "index.html")
    assert numbers_of(copy)["baseline"]["name"] == here.name


def test_a_baseline_without_an_evaluation_is_one_sentence(tmp_path: Path, here: Path) -> None:
    with pytest.raises(UserError, match=r"baseline .* holds no evaluation"):
        write_report(str(here), str(tmp_path))


def test_a_damaged_result_costs_its_own_column_and_is_named(here: Path, tmp_path: Path) -> None:
    path = "benchmarks/model/pope/scores.json"
    copy = changed(here, tmp_path, path, b'{"headline": "mean_f1", "estimates": [], "protocol": {}}')
    shown = text_of(section_of(write_report(str(copy)).read_text(), "benchmarks"))
    assert f"1 results cannot be read: {path}." in shown
    assert numbers_of(copy)["unreadable"] == [path]
    assert set(numbers_of(copy)["subjects"]["model"]["benchmarks"]) == {"geneval", "gedit_en", "mme"}
    assert not is_record(
        {"headline": "x", "estimates": {"x": {"value": float("nan"), "low": 0, "high": 1}}, "protocol": {}}
    )


def test_questions_meet_their_verdicts_and_prompts_their_images(here: Path) -> None:
    """The words that the page shows beside a verdict are those of the same question: `In <set or task>: …`."""
    (step,) = read_store(str(here))
    for measured in read_measured(step)[0]:
        for item in measured.items:
            if measured.benchmark in ("pope", "mme"):
                prompt = measured.prompt_of(item)
                assert prompt.startswith(f"In {item['group']}: is there an object")
                said = str(measured.asked[item["uid"]]["prediction"]).startswith("Yes")
                assert item["strict"] == (said == ("object y" in prompt))
            elif measured.benchmark == "geneval":
                assert measured.picture_of(item)
    samples = text_of(section_of(write_report(str(here)).read_text(), "samples"))
    assert "expected cow>=1, found 0" in samples
    assert "answered no, expected yes" in samples
    assert "is visible" in samples  # what the judge wrote


def test_samples_are_half_right_from_all_groups_and_do_not_depend_on_their_order() -> None:
    items = [row | {"group": f"g{n % 3}"} for n, row in enumerate(rows_of({str(n): float(n % 2) for n in range(60)}))]
    chosen = choose(items, 8)
    assert [item["score"] for item in chosen] == [1.0] * 4 + [0.0] * 4
    assert {item["group"] for item in chosen[:4]} == {item["group"] for item in chosen[4:]} == {"g0", "g1", "g2"}
    shuffled = random.Random(0).sample(items, len(items))
    assert choose(shuffled, 8) == chosen
    few = [item for item in items if item["score"] or item["uid"] == "0"]
    assert [item["score"] for item in choose(few, 8)] == [1.0] * 7 + [0.0]
    assert choose(items[:2], 8) == sorted(items[:2], key=lambda item: -item["score"])


def test_verdicts_are_words() -> None:
    item = {"outcome": "ok", "strict": False, "score": 0.7}
    assert verdict_of({**item, "strict": True}, graded=False) == ("good", "right")
    assert verdict_of(item, graded=True) == ("part", "70% of the marks")
    assert verdict_of({**item, "score": 0.0}, graded=True) == ("bad", "wrong")
    assert verdict_of({**item, "outcome": "failed"}, graded=True) == ("bad", "failed")
    assert clip("a\n b" + "x" * 500) == "a b" + "x" * 397 + "…"


def test_the_right_answer_stands_beside_every_question(here: Path) -> None:
    """Also where the model gave it; a letter with its option, however the benchmark names options."""
    assert wanted_of({"wanted": "yes"}, {"prediction": "yes"}) == "yes"
    assert wanted_of({"wanted": "B"}, {"A": "a cat", "B": "a dog"}) == "B. a dog"  # MMBench
    assert wanted_of({"wanted": "B"}, {"choice_a": "a cat", "choice_b": "a dog"}) == "B. a dog"  # SEED-Bench
    assert wanted_of({"wanted": "B"}, {"options": "['a cat', 'a dog']"}) == "B. a dog"  # MMMU
    table = section_of(write_report(str(here)).read_text(), "samples").partition('class="asked"')[2]
    rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in table.split("</table>")[0].split("<tr")[2:]]
    assert len(rows) == 8
    assert {cells[0] for cells in rows} == {"yes", "no"}


def test_bars_say_what_they_measure_which_is_what_the_paper_reports(here: Path) -> None:
    shown = text_of(section_of(write_report(str(here)).read_text(), "categories"))
    for said in ("GEdit-Bench EN O, the mean of √(SC · PQ), 0 to 10", "POPE F1 of yes, 0 to 100"):
        assert said in shown
    assert TARGETS["mmbench"].category_of("vanilla/logic_reasoning") == "logic_reasoning"
    assert TARGETS["mmbench"].category_of("circular/logic_reasoning") is None
    assert TARGETS["mme"].category_of("count") == "count"
    assert TARGETS["mme"].category_of("code_reasoning") is None  # the headline is of perception
    assert all(target.bars for target in TARGETS.values() if target.categories != NOTHING)


def test_a_large_picture_is_shown_smaller_and_a_full_page_shows_no_more(here: Path, tmp_path: Path) -> None:
    path = "benchmarks/model/geneval/made/00000/samples/0000.png"
    copy = changed(here, tmp_path, path, picture(0, 640))
    (step,) = read_store(str(copy))
    kind, data = shrunk(step, path) or ("", b"")
    assert kind == "jpeg"
    (tmp_path / "shown.jpg").write_bytes(data)
    assert max(PIL.Image.open(tmp_path / "shown.jpg").size) == 320
    assert shrunk(step, "benchmarks/model/geneval/made/00001/samples/0000.png") == ("png", picture(1))
    (copy / "artifact" / path).write_bytes(b"damaged")
    assert shrunk(step, path) is None
    budget = Budget(left=10)
    assert [budget.take(b"123456"), budget.take(b"123456"), budget.take(b"1234")] == [True, False, True]


def test_a_text_with_a_line_separator_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    text = json.dumps({"uid": "a", "said": "one\u2028two\u0085three"}, ensure_ascii=False)
    (tmp_path / "artifact" / "items.jsonl").write_text(text + "\n")
    publish(tmp_path, "evaluate-model", {})
    (step,) = read_store(str(tmp_path))
    assert [row["uid"] for row in read_lines(step, "items.jsonl")] == ["a"]


def test_cost_and_contamination_beside_the_evaluation_are_shown(here: Path, tmp_path: Path) -> None:
    """Two images a call, decoding 4 s and 6 s: 2.5 s an image; of three prompts training has seen one."""
    copy = Path(shutil.copytree(here, tmp_path / "copy"))
    watches = [Stopwatch(seconds={"decode": seconds, "detokenize": 1.0}, tokens=2048) for seconds in (4.0, 6.0)]
    machine = {"device": "cuda", "name": HOSTILE, "threads": 2, "torch": "2"}
    cost = {
        "runs": [summarise(2, watches) | {"peak_memory_bytes": 3_000_000_000}],
        "memory": "gpu",
        "machine": machine,
        "model": {"name": "m"},
    }
    (copy / "cost.json").write_text(json.dumps(cost))
    index = PromptIndex([Asked(uid=str(n), text=f"a photo of a cow number {n}", meta={}) for n in range(3)])
    index.meet("sample-7", "A photo of a cow, number 1!", {})
    matches = {way: {} for way in WAYS} | index.matches()
    seen = {"items": 3, "contaminated": 1, "share": 0.333333, "matches": matches}
    (copy / "contamination").mkdir()
    report = {"training": [{"samples": 1}], "sets": {"geneval": seen}}
    (copy / "contamination" / "contamination.json").write_text(json.dumps(report))
    page = write_report(str(copy)).read_text()
    shown = text_of(section_of(page, "cost"))
    assert "decode 2.5 s 5.0 s 5.9 s" in shown
    assert "1,024" in shown
    assert "3.0 GB (gpu)" in shown
    assert "geneval 3 1 0 0 0 1 33.33%" in text_of(section_of(page, "contamination"))
    assert "sample-7" in section_of(page, "contamination")
    assert numbers_of(copy)["cost"]["runs"] == cost["runs"]
    (copy / "cost.json").write_text('{"runs": [{"phases": 3}]}')
    assert "cost.json has another shape" in section_of(write_report(str(copy)).read_text(), "cost")
