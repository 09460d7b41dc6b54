"""Requests in the shape of lmms-eval's, put to made-up models: order, length, ends, images, and what is refused."""

import ast
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.lmms_requests import answers, losses, read_config, rounds
from arm.evaluation.models.model import Failed, Likelihood, Question, Unable

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = {"task": {"test": [{"grey": grey} for grey in range(5)]}}


@dataclass
class Asked:
    """What is read of lmms-eval's Instance."""

    args: tuple[Any, ...]


class Greys(Unable):
    """Says the grey of the first image, after the question's first word, with what else it would say behind."""

    name = "greys"

    def __init__(self, refused: Sequence[int] = ()) -> None:
        self.refused, self.batches = refused, list[tuple[int, int | None]]()

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        self.batches.append((len(questions), max_tokens))
        greys = [int(question.images[0][0, 0, 0]) for question in questions]
        return [
            Failed(f"grey {grey}") if grey in self.refused else f"{question.text.split()[0]} {grey}\n\nASSISTANT: more"
            for grey, question in zip(greys, questions, strict=True)
        ]


class Words(Unable):
    """A text is the likelier the shorter its words are; `b` is greedy."""

    def loglikelihood(self, questions: Sequence[Question], continuations: Sequence[str]) -> list[Likelihood]:
        return [
            Likelihood(logprob=-float(len(t)), num_tokens=len(t.split()), is_greedy=t == "b") for t in continuations
        ]


def grey_image(document: dict[str, int]) -> list[PIL.Image.Image]:
    return [PIL.Image.new("L", (3, 2), document["grey"])]


def asked(number: int, text: str = "say", **settings: Any) -> Asked:
    return Asked((text, settings, grey_image, number, "task", "test"))


def choice(text: Any, number: int = 0) -> Asked:
    return Asked(("which", text, grey_image, number, "task", "test"))


def test_answers_come_in_order_each_of_its_image_and_in_batches_of_one_length() -> None:
    model = Greys()
    lengths = (8, 8, 8, None, 4)
    requests = [
        asked(n, until=["\n\n"], **({"max_new_tokens": m} if m else {}))
        for n, m in zip((4, 0, 3, 1, 2), lengths, strict=True)
    ]
    assert list(answers(model, requests, DOCUMENTS, 2)) == ["say 4", "say 0", "say 3", "say 1", "say 2"]
    assert model.batches == [(2, 8), (1, 8), (1, None), (1, 4)]


def test_an_answer_ends_where_the_first_of_its_ends_begins() -> None:
    def said(**settings: Any) -> list[str | None]:
        return list(answers(Greys(), [asked(1, **settings)], DOCUMENTS, 1))

    assert said(until="ASSISTANT:") == ["say 1\n\n"]
    assert said(until=["more", "", "\n"]) == ["say 1"]
    assert said() == said(until=[]) == said(until=[None]) == ["say 1\n\nASSISTANT: more"]


def test_answers_are_handed_over_batch_by_batch() -> None:
    model = Greys()
    stream = answers(model, [asked(n) for n in range(4)], DOCUMENTS, 1)
    next(stream)
    assert len(model.batches) == 2  # the one given, and one held back


@pytest.mark.parametrize("refused", [(1, 3), (3,), (0, 1, 2, 3)])
def test_with_a_failed_answer_the_last_one_is_never_handed_over(refused: tuple[int, ...]) -> None:
    """Whoever zips answers with requests asks for four, and gets an error for the fourth."""
    handed: list[str | None] = []
    stream = answers(Greys(refused), [asked(n, until=["\n\n"]) for n in range(4)], DOCUMENTS, 2)
    with pytest.raises(UserError, match=rf"{len(refused)} of 4 answers failed \(grey {refused[0]}"):
        handed.extend(answer for _, answer in zip(range(4), stream, strict=False))
    assert handed == [None if n in refused else f"say {n}" for n in range(3)]


def test_no_requests_have_no_answers() -> None:
    assert list(answers(Greys(), [], DOCUMENTS, 2)) == []


def test_a_loss_is_a_mean_over_tokens_and_choices_come_without_the_blank_before_them() -> None:
    """ "ab cd" has a log-probability of -5 over 2 tokens; lmms-eval takes the choice of the least loss."""
    requests = [choice(" ab cd"), choice(" b"), choice(lambda document: f" {document['grey']}00", 3)]
    assert list(losses(Words(), requests, DOCUMENTS, 2)) == [(2.5, False), (1.0, True), (3.0, False)]


def test_a_model_without_likelihoods_says_so() -> None:
    with pytest.raises(UserError, match="greys gives no log-likelihoods"):
        list(losses(Greys(), [choice(" a")], DOCUMENTS, 1))
    with pytest.raises(UserError, match=r"without its question \(acc_mutual_info\)"):
        list(losses(Words(), [Asked(("", " a"))], DOCUMENTS, 1))


def further(document: dict[str, int], previous_output: list[str], round_idx: int, previous_round_info: Any) -> Any:
    """Asks as often as the document's grey says, of a lighter image each time."""
    lighter = [PIL.Image.new("RGB", (2, 2), (10 * round_idx,) * 3)]
    return lighter, f"{previous_output[-1]}!", round_idx > document["grey"], previous_output, round_idx


def conversation(number: int) -> Asked:
    return Asked(("say", {"until": ["\n\n"]}, grey_image, further, number, "task", "test"))


def test_rounds_go_on_until_the_task_ends_them() -> None:
    found = list(rounds(Greys(), [conversation(2), conversation(0)], DOCUMENTS))
    assert found == [["say 2", "say 10", "say 20"], ["say 0"]]


def test_a_conversation_with_a_failed_answer_has_none() -> None:
    stream = rounds(Greys((10,)), [conversation(2), conversation(0), conversation(0)], DOCUMENTS)
    assert [next(stream), next(stream)] == [None, ["say 0"]]
    with pytest.raises(UserError, match=r"1 of 3 answers failed \(grey 10\)"):
        next(stream)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.7), ("do_sample", True), ("num_beams", 5)])
def test_a_task_that_wants_other_answers_than_greedy_ones_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"{name} = {value}.*--gen_kwargs {name}="):
        list(answers(Greys(), [asked(0, **{name: value})], DOCUMENTS, 1))
    plain = asked(0, temperature=0.0, do_sample=False, num_beams=1, top_p=1.0)
    assert len(list(answers(Greys(), [plain], DOCUMENTS, 1))) == 1


def test_videos_are_refused_and_texts_without_images_are_not() -> None:
    def shown(visuals: Any) -> Asked:
        return Asked(("say", {}, lambda _: visuals, 0, "task", "test"))

    with pytest.raises(UserError, match="task shows a str; arm reads images alone"):
        list(answers(Greys(), [shown(["film.mp4"])], DOCUMENTS, 1))
    seen: list[Question] = []

    class Seen(Unable):
        def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
            seen.extend(questions)
            return ["yes" for _ in questions]

    clear = PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    list(answers(Seen(), [shown(None), shown([]), shown([clear, clear])], DOCUMENTS, 3))
    assert [len(question.images) for question in seen] == [0, 0, 2]
    assert np.array_equal(seen[2].images[0], np.full((2, 2, 3), 255))


def test_the_entry_point_names_what_the_plug_in_defines() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["arm"].partition(":")
    plug_in = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assigned = [ast.unparse(node.targets[0]) for node in plug_in.body if isinstance(node, ast.Assign)]
    assert name in assigned


def test_arguments_become_a_config() -> None:
    """lmms-eval makes numbers of what looks like one, and hands --batch_size over as text."""
    given = {"kind": "huggingface", "model": 7, "max_tokens": 9, "batch_size": "4"}
    assert read_config(given) == ModelConfig(kind="huggingface", model="7", max_tokens=9, batch_size=4)
    for wrong, message in (
        ({"device": "cuda:1"}, "--device cuda:1 has no effect"), ({"batch_size": "auto"}, "'auto'.*give a number"),
        ({"pretrained": "x"}, "no field 'pretrained'"), ({"max_tokens": "many"}, "must be int"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_config(wrong)
