"""The report page: it balances the books, escapes what the web says, and works while parts are missing."""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_store import HOSTILE, add, make_store
from read_page import read, section_of

from arm import config as configs
from arm.errors import UserError
from arm.evaluation.page.chain import balances, losses
from arm.evaluation.page.charts import line_chart, thin
from arm.evaluation.page.markup import duration, number, size, tag
from arm.evaluation.page.paper import STATED, look_up
from arm.evaluation.page.tokenizer import sentence_of
from arm.evaluation.report import write_report
from arm.rl.config import PolicyConfig, RewardConfig
from arm.tokenizer.config import DetokenizerConfig, TokenizerConfig
from arm.training.config import StageConfig

SECTIONS = ("release", "scores", "pictures", "visual-tokenizer", "the-chain", "curves", "samples-from-training", "mixture", "loss-weights",
            "departures-from-the-paper", "speeds", "where-everything-lies")  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store"))


def test_the_page_has_every_part(store: Path) -> None:
    path = write_report(str(store))
    assert path == store / "report" / "index.html"
    assert tuple(read(path).ids) == SECTIONS


def test_the_page_loads_nothing_and_runs_nothing(store: Path) -> None:
    reader = read(write_report(str(store)))
    assert "script" not in reader.tags
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in reader.addresses)
    page = (store / "report" / "index.html").read_text()
    assert "@import" not in page
    assert not re.findall(r"url\((?!data:)", page)


def test_hostile_text_is_shown_as_text(store: Path) -> None:
    reader = read(write_report(str(store)))
    assert "evil.test" not in "".join(reader.addresses)
    assert "".join(reader.text).count(HOSTILE) >= 4


def test_the_same_store_gives_the_same_page(store: Path) -> None:
    assert write_report(str(store)).read_bytes() == write_report(str(store)).read_bytes()


def test_the_numbers_on_the_page_are_those_of_the_artifacts(store: Path) -> None:
    text = " ".join("".join(read(write_report(str(store))).text).split())
    for said in ("4,800 pairs read = 3,500 pairs kept + 1,300 dropped", "900 records read = 700 pages read + 200 skipped",
                 "75.0%", "read 0.7040", "read 0.1012", "copying the source", "held back", "loss_normalisation"):  # fmt: skip
        assert said in text


def test_a_benchmark_that_rewarded_the_model_is_said_to_be_no_independent_test(store: Path) -> None:
    text = " ".join("".join(read(write_report(str(store))).text).split())
    assert "no independent tests of it: Editing of the edit policy (by made-up/1 in edit)." in text
    assert "no independent tests of it any more: gedit_en (by viescore_editing 1, asked of a-judge, in edit)." in text


def test_a_loss_lies_beside_its_held_out_loss_and_a_share_beside_what_was_asked_for(store: Path) -> None:
    """A target share that never changes is drawn, but no chart is only that."""
    curves = section_of(write_report(str(store)).read_text(), "curves")
    figures = [re.sub("<[^>]*>", " ", figure).split() for figure in curves.split("<figure")[1:]]
    assert any(figure[1] == "loss/codes" and "(held" in figure for figure in figures)
    assert any(figure[1] == "share/text" and "(share target 0." in " ".join(figure) for figure in figures)
    assert not any(figure[1].startswith("held out") for figure in figures)
    assert curves.count("curve beside") == 9  # in each of three stages: a loss, a share, a step's seconds


def test_the_speed_of_a_stage_is_shown_though_no_manifest_lists_it(store: Path, tmp_path: Path) -> None:
    curves = section_of(write_report(str(store)).read_text(), "curves")
    assert curves.count("speed/tokens per second") >= 3
    assert "rank 1, in 200 of 200 entries. The slowest rank's own work took 1.10 times the median's." in html.unescape(
        curves
    )
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    for path in copy.glob("*/*/view/speed.jsonl"):
        path.write_text("{damaged")
    assert "speed/tokens" not in write_report(str(copy)).read_text()


def test_each_task_shows_what_it_read_of_what_was_asked_for_and_learned(store: Path) -> None:
    text = " ".join("".join(read(write_report(str(store))).text).split())
    assert "1,056,0000.7040 of 0.7000 asked for; 412,345 learned" in text
    assert "edit 2.5" in text  # a weight by kind; those of 1 are not shown


@pytest.mark.parametrize(
    ("name", "lost"),
    [("30-evaluate-model", {"scores", "pictures"}), ("31-register-model", {"release"}), ("10-train-tokenizer", {"samples-from-training"}),
     ("evaluate-tokenizer", {"visual-tokenizer"})],
)  # fmt: skip
def test_a_missing_part_leaves_out_its_section_alone(store: Path, tmp_path: Path, name: str, lost: set[str]) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    shutil.rmtree(copy / name)
    assert set(SECTIONS) - set(read(write_report(str(copy))).ids) == lost


def test_an_evaluated_tokenizer_stands_beside_its_ceilings_with_its_photographs(store: Path) -> None:
    page = write_report(str(store)).read_text()
    section = page.partition('id="visual-tokenizer"')[2].partition("</section>")[0]
    cells = [re.sub("<[^>]*>", " ", row).split() for row in section.split("<tr>")]
    assert ["zero-shot,", "two", "objects", "0.410", "0.620"] in cells  # photographs have no class
    assert ["PSNR", "(dB)", "22.0", "34.5", "7.16", "12.9"] in cells
    assert ["LPIPS", "0.213", "0.054"] in cells
    assert ["96×144", "0.250"] in cells
    assert section.count("data:image/png;base64,") == 2
    assert "come back at 22.0 dB" in section
    assert "27</b> photographs read = " in page


def test_the_sentence_on_photographs_says_where_they_are_lost() -> None:
    def said(ours: float, ceiling: float) -> str:
        measured = {"reconstruction/psnr_per_image": ours, "autoencoder/psnr_per_image": ceiling}
        evaluated = {"reconstruction/psnr_per_image": 22.0, "autoencoder/psnr_per_image": 34.0}
        return sentence_of(evaluated | {f"photographs/{name}": value for name, value in measured.items()})

    assert "about as well" in said(19.5, 30.0)
    assert "the codes and the detokenizer do not" in said(12.0, 32.0)
    assert "the autoencoder loses them" in said(7.0, 13.0)
    assert "Photographs" not in sentence_of({"reconstruction/psnr_per_image": 22.0, "autoencoder/psnr_per_image": 34.0})
    assert sentence_of({"reconstruction/psnr_per_image": 22.0}) == "Evaluated images come back at 22.0 dB."
    assert sentence_of({}) == "No detokenizer was given: nothing is rendered."


def test_of_many_evaluations_an_ablations_no_picture_is_embedded(tmp_path: Path) -> None:
    for place in range(5):
        add(tmp_path, f"ablation-evaluate-tokenizer/{place}", "evaluate-tokenizer", "tokenizer-evaluation",
            files={"samples/photographs.png": b"1"}, metrics={"code_usage": 0.1 * place})  # fmt: skip
    page = write_report(str(tmp_path)).read_text()
    assert page.count("<h3>ablation-evaluate-tokenizer/") == 5
    assert "data:image" not in page


def test_a_single_artifact_is_enough_and_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished artifact"):
        write_report(str(tmp_path))
    add(tmp_path, "01-make-world", "make-world", "world", counts={"images": 12})
    assert "the-chain" in read(write_report(str(tmp_path))).ids


def test_damaged_files_cost_their_own_part_only(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    inside = copy / "30-evaluate-model" / "0123456789abcdef"
    (inside / "protocols.json").write_text("{")
    (inside / "images" / "reconstruction.png").write_bytes(b"")
    (copy / "31-register-model" / "0123456789abcdef" / "run.json").write_text("[]")
    (copy / "05-filter-pairs" / "0123456789abcdef" / "manifest.json").write_text("nonsense")
    ids = read(write_report(str(copy))).ids
    assert "scores" not in ids
    assert {"pictures", "the-chain", "release"} <= set(ids)


def test_the_report_needs_the_standard_library_only() -> None:
    code = "import sys, arm.evaluation.report; sys.exit(bool({'torch', 'numpy', 'PIL', 'boto3', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_books_balance_by_kind_of_loss_else_over_all() -> None:
    counts = {"found": 5, "kept": 4, "dropped/a": 1, "records": 9, "pages": 7, "skipped/b": 2}
    assert [(b.read, b.kept, b.kind, b.lost) for b in balances(counts)] == [
        ("records", "pages", "skipped", 2), ("found", "kept", "dropped", 1),
    ]  # fmt: skip
    alike = balances({"documents_made": 7, "pages_read": 7, "records_read": 9, "skipped/b": 2})
    assert [(b.read, b.kept) for b in alike] == [("records_read", "pages_read")]
    mixed = balances({"read": 6, "kept": 3, "dropped/a": 1, "failed/b": 2})
    assert [(b.read, b.kept, b.kind, b.lost) for b in mixed] == [("read", "kept", "lost", 3)]
    assert balances({"read": 6, "kept": 3, "dropped/a": 1}) == []
    assert balances({"read": 6, "kept": 6, "dropped/a": 0}) == []
    assert losses({"dropped/a": 1, "dropped/b": 3, "dropped/c": 0, "kept": 3, "share/x": 1}) == {
        "dropped/b": 3,
        "dropped/a": 1,
    }


def test_a_chart_puts_the_highest_value_at_the_top_and_the_last_at_the_right() -> None:
    """Plot area: x 44 to 252, y 8 (highest) to 100 (lowest)."""
    chart = line_chart("loss", [(0, 1.0), (5, 3.0), (10, 2.0)])
    assert 'points="44.0,100.0 148.0,8.0 252.0,54.0"' in chart
    assert "<b>2.00</b>" in chart


def test_many_points_are_thinned_to_means() -> None:
    assert thin([(1, 4), (2, 6), (3, 0), (4, 2)], 2) == [(2, 5), (4, 1)]
    assert thin([(1, 4)], 2) == [(1, 4)]
    assert len(thin([(float(i), 0.0) for i in range(1001)], 160)) == 160


@given(st.text())
def test_no_text_can_leave_its_element(text: str) -> None:
    shown = tag("td", text, title=text)
    assert shown.count("<") == shown.count(">") == 2
    assert shown.count('"') == 2


def test_numbers_are_written_for_people() -> None:
    assert [number(value) for value in (0, 0.1234, 1.234, 18.04, 123.4, 1234.5, 0.0001)] == [
        "0", "0.123", "1.23", "18.0", "123", "1,234", "0.0001",
    ]  # fmt: skip
    assert [duration(value) for value in (4.2, 42, 200, 7500)] == ["4.2 s", "42 s", "3 min 20 s", "2 h 05 min"]
    assert [size(value) for value in (12, 3400, 5.6e6)] == ["12 B", "3.4 kB", "5.6 MB"]


def test_every_value_of_the_paper_names_a_field_of_its_config_whose_default_is_the_papers() -> None:
    """A renamed field would silently leave the report. Stages other than the default's differ in numbers."""
    reward = RewardConfig(judge="made-up")
    defaults: dict[str, Any] = {
        "train-tokenizer": TokenizerConfig(), "train-detokenizer": DetokenizerConfig(),
        "train-model": StageConfig(), "train-policy": PolicyConfig(stage="t2i", reward=reward),
    }  # fmt: skip
    plain = {job: configs.to_dict(config) for job, config in defaults.items()}
    for stated in STATED:
        found, value = look_up(plain[stated.job], stated.field)
        assert found, f"{stated.job} has no field {stated.field}"
        if stated.stage in ("", plain[stated.job].get("stage")):
            assert value == stated.value, f"{stated.job} {stated.field}: {value} is not the paper's {stated.value}"
