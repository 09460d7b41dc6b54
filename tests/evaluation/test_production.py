"""Images and answers of any model in the benchmarks' layouts: made once, whatever happens on the way."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm import cli
from arm.errors import UserError
from arm.evaluation.items import Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.kinds import KINDS, find, load
from arm.evaluation.models.made_images import MadeImages
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Question, Unable
from arm.evaluation.production.answers import answer_questions, prompt_of
from arm.evaluation.production.images import grid, make_images
from arm.evaluation.production.layouts import LAYOUTS, find_layout, lay_out
from arm.evaluation.production.pictures import Pictures, read_picture
from arm.evaluation.production.rows import read_rows
from arm.storage import LocalFolder


class Grey(Unable):
    """Draws the grey level seed mod 200 and answers with the prompt's length; stops before item `dies_at`."""

    name = "grey"
    independent = True

    def __init__(self, dies_at: int = 10**9, refuses: str = "", reason: str = "refused") -> None:
        self.calls, self.dies_at, self.refuses, self.reason = 0, dies_at, refuses, reason

    def protocol(self) -> dict[str, Any]:
        return {"shade": "grey"}

    def _next(self) -> None:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        made: list[Pixels | Failed] = []
        for drawing in drawings:
            self._next()
            shade = np.full((4, 4, 3), drawing.seed % 200, dtype=np.uint8)
            made.append(Failed(self.reason) if drawing.prompt == self.refuses else shade)
        return made

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        return [255 - drawing.source for drawing in drawings if drawing.source is not None]

    def answer(self, questions: Sequence[Question]) -> list[str | Failed]:
        made: list[str | Failed] = []
        for question in questions:
            self._next()
            refused = question.text == self.refuses
            made.append(Failed("refused") if refused else f"{len(question.text)} {len(question.images)}")
        return made


META = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a photo of a cow"},
]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, private ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def draw(model: Grey, folder: Path, layout: str = "geneval", seeds: int = 4, rows: Any = META) -> dict[str, int]:
    return make_images(
        model, "grey", rows, (layout, LAYOUTS[layout]), LocalFolder(folder), num_seeds=seeds, batch_size=3
    )


def test_geneval_gets_its_official_folders(tmp_path: Path) -> None:
    counts = draw(Grey(), tmp_path)
    assert counts == {"images_expected": 8, "images_there": 0, "images_made": 8, "images_failed": 0}
    names = [f"0000{row}/samples/000{seed}.png" for row in (0, 1) for seed in range(4)]
    assert set(tree(tmp_path)) == {*names, "00000/metadata.jsonl", "00001/metadata.jsonl", "protocol.json"}
    assert json.loads((tmp_path / "00001/metadata.jsonl").read_text()) == META[1]
    assert len({(tmp_path / name).read_bytes() for name in names}) > 1


@pytest.mark.parametrize("dies_at", [0, 1, 4, 7])
def test_a_killed_run_makes_the_missing_images_only_and_the_same_bytes(tmp_path: Path, dies_at: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    draw(Grey(), whole)
    with pytest.raises(KeyboardInterrupt):
        draw(Grey(dies_at), killed)
    there = len(list(killed.rglob("*.png")))
    (killed / "00000/samples").mkdir(parents=True, exist_ok=True)
    (killed / "00000/samples/.tmp-killed.png").write_bytes(b"half")
    again = Grey()
    assert draw(again, killed)["images_made"] == again.calls == 8 - there
    assert tree(killed) == tree(whole)
    assert draw(Grey(dies_at=0), killed)["images_there"] == 8


class Batched(Grey):
    """Draws its place in the batch: rounding that depends on the batch, made large."""

    independent = False

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        self._next()
        return [np.full((4, 4, 3), place * 50 + drawing.number, np.uint8) for place, drawing in enumerate(drawings)]

    def answer(self, questions: Sequence[Question]) -> list[str | Failed]:
        self._next()
        return [f"{place} of {len(questions)}" for place, _ in enumerate(questions)]


def test_a_batch_is_made_again_whole_where_rounding_depends_on_it(tmp_path: Path, pictures: Path) -> None:
    draw(Batched(), tmp_path / "whole")
    draw(Batched(), tmp_path / "torn")
    for name in ("00000/samples/0001.png", "00001/samples/0003.png"):
        (tmp_path / "torn" / name).unlink()
    again = Batched()
    assert draw(again, tmp_path / "torn")["images_made"] == again.calls == 2
    assert tree(tmp_path / "torn") == tree(tmp_path / "whole")
    ask(Batched(), tmp_path / "whole.jsonl", pictures, 2)
    with pytest.raises(KeyboardInterrupt):
        ask(Batched(1), tmp_path / "killed.jsonl", pictures, 2)
    assert ask(Batched(), tmp_path / "killed.jsonl", pictures, 2)["questions_there"] == 2
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_progress_of_a_resumed_run_starts_at_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of eight images are there; the other three are one batch."""
    told: list[dict[str, Any]] = []
    draw(Grey(), tmp_path)
    for seed in range(3):
        (tmp_path / f"00001/samples/000{seed}.png").unlink()
    monkeypatch.setattr("arm.progress.tell", lambda **values: told.append(values) or True)
    monkeypatch.setattr("arm.progress.INTERVAL_SECONDS", 0.0)
    draw(Grey(), tmp_path)
    assert [(row["name"], row["done"], row["total"]) for row in told] == [("draw images", 8, 8)]


def test_what_a_model_refuses_is_counted_and_tried_again(tmp_path: Path) -> None:
    counts = draw(Grey(refuses="a photo of a cow"), tmp_path)
    assert counts["images_failed"] == 4
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert failures[0] == {"path": "00001/samples/0000.png", "reason": "refused"}
    assert draw(Grey(), tmp_path)["images_made"] == 4
    assert not (tmp_path / "failures.jsonl").exists()


def test_half_an_emoji_in_the_reason_of_a_refusal_is_a_question_mark(tmp_path: Path) -> None:
    assert draw(Grey(refuses="a photo of a cow", reason="no \ud83d"), tmp_path)["images_failed"] == 4
    assert json.loads((tmp_path / "failures.jsonl").read_text().splitlines()[0])["reason"] == "no ?"


def test_other_prompts_or_settings_are_not_mixed_in(tmp_path: Path) -> None:
    draw(Grey(), tmp_path)
    with pytest.raises(UserError, match="outputs of another run: prompts was"):
        draw(Grey(), tmp_path, rows=META[:1])
    with pytest.raises(UserError, match="seeds was 4, now 2"):
        draw(Grey(), tmp_path, seeds=2)


def test_dpg_lays_four_images_out_as_a_square(tmp_path: Path) -> None:
    draw(Grey(), tmp_path, "dpg", rows=[{"item_id": "7", "prompt": "a field"}])
    assert PIL.Image.open(tmp_path / "7.png").size == (8, 8)
    corners = [np.full((1, 1, 3), value, np.uint8) for value in (1, 2, 3, 4)]
    assert grid(corners)[:, :, 0].tolist() == [[1, 2], [3, 4]]


def test_edits_read_their_sources_and_keep_gedits_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    PIL.Image.new("RGB", (6, 4), (10, 10, 10)).save(tmp_path / "in/a.png")
    rows = [
        {
            "key": "k1",
            "task_type": "color_alter",
            "instruction_language": "cn",
            "instruction": "invert",
            "image": "a.png",
        }
    ]
    make_images(
        Grey(), "grey", rows, ("gedit", find_layout("gedit", edits=True)), LocalFolder(tmp_path / "out"),
        num_seeds=1, batch_size=2, sources=Pictures(LocalFolder(tmp_path / "in")),
    )  # fmt: skip
    made = PIL.Image.open(tmp_path / "out/fullset/color_alter/cn/k1.png")
    assert (made.size, made.getpixel((0, 0))) == ((6, 4), (245, 245, 245))


@pytest.mark.parametrize(
    ("layout", "rows", "seeds", "sentence"),
    [
        ("geneval", [{"prompt": "a cow"}], 4, "Row 1 has no `tag` and `include`"),
        ("wise", [{"prompt_id": 1, "Prompt": " "}], 1, "The row of 1 has no prompt"),
        ("wise", [{"prompt_id": "../../x", "Prompt": "a"}], 1, "cannot name a file"),
        ("wise", [{"prompt_id": 1, "Prompt": "a"}] * 2, 1, "Two rows are to be drawn as 1.png"),
        ("wise", [{"prompt_id": 1, "Prompt": "a"}], 4, "one image a row, not 4"),
        ("dpg", [{"item_id": 1, "prompt": "a"}], 3, "4 images out as a square"),
    ],
)
def test_wrong_prompts_are_one_sentence(layout: str, rows: Any, seeds: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        lay_out(rows, LAYOUTS[layout], seeds)


QUESTIONS = [
    {"question_id": 1, "image": "a.png", "text": "Is there a snowboard?", "label": "yes"},
    {"question_id": 2, "image": "a.png", "text": "Is there a car?", "label": "no"},
    {"question_id": 3, "text": "Why?", "label": "no"},
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    PIL.Image.new("RGB", (6, 4)).save(tmp_path / "in/a.png")
    return tmp_path / "in"


def ask(model: Grey, output: Path, pictures: Path, batch_size: int = 1) -> dict[str, int]:
    images = Pictures(LocalFolder(pictures))
    return answer_questions(model, "grey", QUESTIONS, output, style="none", images=images, batch_size=batch_size)


def test_answers_keep_the_fields_that_popes_scorer_reads(tmp_path: Path, pictures: Path) -> None:
    """21 characters and one image; 4 characters and none."""
    ask(Grey(), tmp_path / "a.jsonl", pictures)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == ["21 1", "15 1", "4 0"]
    assert {name: rows[0][name] for name in ("question_id", "question", "label")} == {
        "question_id": 1, "question": "Is there a snowboard?", "label": "yes",
    }  # fmt: skip


def test_a_right_answer_in_the_row_is_not_written_over(tmp_path: Path) -> None:
    rows = [{"index": 5, "question": "Which?", "A": "one", "answer": "A"}]
    answer_questions(Grey(), "grey", rows, tmp_path / "m.jsonl", style="none", images=None, batch_size=1)
    row = json.loads((tmp_path / "m.jsonl").read_text())
    assert (row["answer"], row["prediction"], row["response"], row["index"]) == ("A", "13 0", "13 0", 5)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_killed_answers_go_on_behind_a_torn_line(tmp_path: Path, pictures: Path, dies_at: int) -> None:
    ask(Grey(), tmp_path / "whole.jsonl", pictures)
    output = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        ask(Grey(dies_at), output, pictures)
    with (tmp_path / "killed.jsonl.partial").open("ab") as stream:
        stream.write(b'{"uid": "3", "ans')
    again = Grey()
    assert ask(again, output, pictures)["questions_there"] == dies_at
    assert again.calls == 3 - dies_at
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "killed.jsonl.partial").exists()


def test_a_refused_question_has_no_answer_and_is_asked_again(tmp_path: Path, pictures: Path) -> None:
    output = tmp_path / "a.jsonl"
    assert ask(Grey(refuses="Why?"), output, pictures, 2)["questions_failed"] == 1
    row = json.loads(output.read_text().splitlines()[2])
    assert (row["answer"], row["failed"]) == (None, "refused")
    assert ask(Grey(), output, pictures)["questions_answered"] == 1
    assert json.loads(output.read_text().splitlines()[2])["answer"] == "4 0"


def test_choices_and_hints_stand_as_the_style_has_them() -> None:
    row = {"index": "1", "hint": "Look.", "question": "Which?", "A": "one", "B": "two", "C": "nan", "answer": "B"}
    wanted = "Look.\nWhich?\nA. one\nB. two\nAnswer with the option's letter from the given choices directly."
    assert prompt_of(row, "1", "choice") == wanted
    assert prompt_of(row, "1", "mmbench") == (
        "Look. Which? There are several options:\nA. one\nB. two\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    mmmu = {"id": "validation_Art_1", "question": "Which?", "options": "['one', 'two']", "answer": "B"}
    assert prompt_of(mmmu, "1", "none") == "Which?\nA. one\nB. two"
    assert prompt_of({"question": "Why?", "options": "[]"}, "1", "none") == "Why?"
    seed = {"question_id": "1", "question": "How many?", "choice_a": 0, "choice_b": 1}
    assert prompt_of(seed, "1", "none") == "How many?\nA. 0\nB. 1"


def test_rows_are_read_from_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pope.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "r.tsv").write_text("a\tb\n1\tx\n2\ty\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    for name in ("r.jsonl", "pope.json", "r.json", "r.tsv", "r.parquet"):
        assert read_rows(str(tmp_path / name)) == rows
    for name in ("r.jsonl", "pope.json", "r.json", "r.tsv"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())  # a byte order mark
        assert read_rows(str(tmp_path / name)) == rows
    (tmp_path / "keyed.json").write_text('{"7": {"prompt": "x"}}')
    assert read_rows(str(tmp_path / "keyed.json")) == [{"key": "7", "prompt": "x"}]
    (tmp_path / "seed.json").write_text('{"question_type": {"a": 1}, "questions": [{"question_id": "7"}]}')
    assert read_rows(str(tmp_path / "seed.json")) == [{"question_id": "7"}]
    (tmp_path / "dpg").mkdir()
    for name in ("10", "9"):
        (tmp_path / f"dpg/{name}.txt").write_text(f"prompt {name}\n")
    assert [row["item_id"] for row in read_rows(str(tmp_path / "dpg"))] == ["9", "10"]


def test_an_image_outside_of_its_folder_is_not_read(tmp_path: Path, pictures: Path) -> None:
    PIL.Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    PIL.Image.new("RGB", (1, 2)).save(pictures / "COCO_val2014_000000000042.jpg")
    images = Pictures(LocalFolder(pictures))
    assert read_picture("a.png", images).shape == read_picture("a", images).shape == (4, 6, 3)
    assert read_picture(42, images).shape == (2, 1, 3)
    for name in ("../secret.png", str(tmp_path / "secret.png"), "absent.png"):
        with pytest.raises(UserError, match="There is no image"):
            read_picture(name, images)
    data = (tmp_path / "secret.png").read_bytes()
    assert read_picture({"bytes": data, "path": None}, None).shape == (2, 2, 3)


def test_images_are_found_in_the_folders_of_their_archives() -> None:
    names = [
        "val2014/COCO_val2014_000000000042.jpg", "MME/artwork/images/1.jpg", "MME/posters/images/1.jpg",
        "singleturn/animal/7.jpg", "singleturn/human/7.jpg", "SEED-Bench-image/12_34", "12.jpg", "old/12.jpg",
    ]  # fmt: skip
    images = Pictures(LocalFolder(Path("bench")), names)
    assert images.find("COCO_val2014_000000000042.jpg") == images.find(42) == names[0]
    assert images.find("1.jpg", "artwork") == names[1]
    assert images.find("animal/7.jpg") == names[3]
    assert images.find("12_34") == names[5]
    assert images.find("12.jpg") == "12.jpg"
    assert images.find("al/7.jpg") is None
    with pytest.raises(UserError, match=r"artwork/images/1.jpg and MME/posters/images/1.jpg, .*leave one of them"):
        images.find("1.jpg")


def test_images_made_elsewhere_are_found_by_uid_and_number(tmp_path: Path) -> None:
    for name, shade in (("7.png", 1), ("8_1.jpg", 2), ("00003/samples/0002.png", 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (8, 8), shade).save(tmp_path / name)
    made = MadeImages(tmp_path)
    wanted = [("7", 0), ("8", 1), ("00003", 2), ("9", 0)]
    found = made.generate_images([Drawing(uid=uid, prompt="", seed=0, number=number) for uid, number in wanted])
    assert [image if isinstance(image, Failed) else int(image[0, 0, 0]) for image in found] == [
        1, 2, 3, Failed("no image in the folder"),
    ]  # fmt: skip
    (tmp_path / "7_0.png").write_bytes((tmp_path / "7.png").read_bytes())
    with pytest.raises(UserError, match="are both image 0 of '7'"):
        MadeImages(tmp_path)


@pytest.mark.parametrize(
    ("values", "task", "sentence"),
    [
        ({"kind": "diffuser", "model": "x"}, "answer", "no kind of model 'diffuser'; did you mean 'diffusers'"),
        ({"kind": "diffusers", "model": "x"}, "answer", "answers no questions; kinds that do: ours, huggingface"),
        ({"kind": "openai"}, "answer", "ModelConfig.model is empty"),
        ({"kind": "openai", "model": "x", "guidance": 2.0}, "answer", "guidance has no effect on a model of the kind"),
        ({"kind": "huggingface", "model": "absent/weights"}, "answer", "nothing is downloaded here.*hf download"),
        ({"kind": "folder", "model": "absent"}, "edit", "There is no folder of images at 'absent'"),
        (
            {"model": "absent"},
            "answer",
            "'absent' is no model of the kind 'ours': neither a finished register-model .*--model.kind for a model of others",
        ),
    ],
)
def test_wrong_models_are_one_sentence(values: dict[str, Any], task: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(ModelConfig(**values), task)


def test_every_kind_lists_settings_that_exist_and_tasks_that_its_adapter_has() -> None:
    import importlib

    for name, kind in KINDS.items():
        module, _, attribute = kind.adapter.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), name
        assert set(kind.settings) <= set(ModelConfig.__dataclass_fields__)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    (tmp_path / "model_index.json").touch()
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"needs the package diffusers.*arm-platform\[model\]"):
        load(ModelConfig(kind="diffusers", model=str(tmp_path)), "generate_images")
    assert find(ModelConfig(kind="diffusers", model="x"), "edit").can == ("generate_images", "edit")


def test_the_command_draws_from_a_folder_and_fails_while_images_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "made/00000.png")
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in META))
    command = [
        "generate-images", "--kind", "folder", "--model", str(tmp_path / "made"), "--layout", "geneval",
        "--prompts", str(tmp_path / "meta.jsonl"), "--output", str(tmp_path / "out"), "--seeds", "1",
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "1 could not be made" in capsys.readouterr().err
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "made/00001.png")
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "outputs of another run: settings was" in capsys.readouterr().err
    cli.main([*command[:-3], str(tmp_path / "other"), *command[-2:]])
    assert (tmp_path / "other/00001/samples/0000.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate-images", "--kind", "folder", "--model", "x", "--output", "y"], "--prompts"),
        (
            ["generate-images", "--kind", "openai", "--model", "x", "--output", "y", "--prompts", "absent.jsonl"],
            "There is no file at 'absent.jsonl'",
        ),
        (
            ["answer-questions", "--kind", "folder", "--model", "x", "--output", "y", "--questions", "z"],
            "A model of the kind 'folder' answers no questions; kinds that do: ours, huggingface, autoregressive, openai.",
        ),
    ],
)
def test_wrong_commands_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert sentence in capsys.readouterr().err
