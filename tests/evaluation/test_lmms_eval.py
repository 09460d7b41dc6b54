"""The plug-in under lmms-eval's own program: its tasks, prompts and metrics give the numbers of our scorers.

Runs where lmms-eval can be imported; docs/14-benchmarks.md says how to put it beside this project.
"""

import base64
import io
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lmms_tasks
import numpy as np
import PIL.Image
import pytest
from lmms_tasks import REPLIES, mmbench_rows, mme_rows, pope_rows, seed_rows, write_rounds, write_task
from loopback import JsonHandler, serving
from tiny import make_language_model, visual_tokenizer
from tiny_lmm import CODES, tiny_model
from tiny_rivals import save_llava
from transformers import AutoTokenizer

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.registry import score
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.kinds import load
from arm.evaluation.models.model import Question
from arm.model.lmm import initialise

pytestmark = pytest.mark.skipif(
    not lmms_tasks.is_there(), reason="lmms-eval is not installed; docs/14-benchmarks.md says how"
)
SETS = {
    "random": (("Yes", "No", "yes", "no", "Yes", "No", "Yes"), ("yes", "no", "yes", "yes", "no", "no", "yes")),
    "popular": (("No", "Yes", "no", "No"), ("yes", "yes", "no", "no")),
    "adversarial": (("Yes", "Yes", "No", "Yes"), ("yes", "no", "yes", "yes")),
}
POPE = {"random": "pope/pope_random.yaml", "popular": "pope/pope_pop.yaml", "adversarial": "pope/pope_adv.yaml"}
MME = {
    "existence": (("Yes", "No", "yes.", "No", "nothing of that", "no"), ("Yes", "No", "Yes", "Yes", "No", "No")),
    "color": (("Yes", "Yes", "No", "no"), ("Yes", "No", "Yes", "No")),
    "code_reasoning": (("Yes", "A"), ("Yes", "No")),
}
MMBENCH = (
    (("A", "A"), ("B. a dog", "B"), ("C", "C"), ("D", "D")),
    (("a cow", "C"), ("A", "D")),
    (("nothing of that", "A"), ("B", "B")),
    (("a cow", "C"), ("B", "B")),
    (("D", "D"),),
)
SEED = (("A", "B", "C", "D", "A"), ("A", "C", "C", "A", "A"))
Row = dict[str, Any]


class Service(ThreadingHTTPServer):
    """An endpoint that says of a picture what its corner means; refuses questions that hold a word of `refused`."""

    refused: tuple[str, ...] = ()
    asked: list[Row]


class Handler(JsonHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        sent = json.loads(self.read())
        server.asked.append(sent)
        image, text = sent["messages"][0]["content"]
        refused = any(word in text["text"] for word in server.refused)
        data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
        says = REPLIES[PIL.Image.open(io.BytesIO(data)).getpixel((0, 0))[0]]  # type: ignore[index]
        self.reply({"choices": [{"message": {"content": says}}]}, 400 if refused else 200)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(Service(("127.0.0.1", 0), Handler)) as server:
        server.asked = []
        yield server


class Run:
    """What one run of lmms-eval printed and left."""

    def __init__(self, folder: Path, names: Sequence[str], model_args: str, address: str = "", *more: str) -> None:
        points = folder / "entry_points"
        if not points.is_dir():
            lmms_tasks.install_entry_points(points)
        output = folder / f"output-{len(list(folder.glob('output-*')))}"
        output.mkdir()
        paths = [str(points), str(lmms_tasks.ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HOME": str(folder / "huggingface"), "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1", "OPENAI_BASE_URL": address, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
            "LMMS_CACHE_RUN_ID": "one",
        }  # fmt: skip
        command = lmms_tasks.command(folder, names, model_args, output, *more)
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        self.printed = done.stdout + done.stderr
        self.numbers: dict[str, dict[str, float]] = {}
        self.samples: dict[str, list[Row]] = {}
        for path in output.rglob("[0-9]*_results.json"):
            for task, found in json.loads(path.read_text())["results"].items():
                self.numbers[task] = {name.removesuffix(",none"): value for name, value in found.items()}
        for name in names:
            for path in output.rglob(f"*_samples_{name}.jsonl"):
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                self.samples[name] = sorted(rows, key=lambda row: row["doc_id"])

    def answers(self, task: str) -> list[str]:
        """What the model answered, as lmms-eval wrote it down."""
        return [row["filtered_resps"] for row in self.samples[task]]


@pytest.fixture(scope="module")
def run(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of all tasks at the endpoint, four requests in flight."""
    folder = tmp_path_factory.mktemp("lmms")
    for name, (said, wanted) in SETS.items():
        write_task(folder, f"our_{name}", POPE[name], name, pope_rows(said, wanted))
    rows = [row for task, (said, wanted) in MME.items() for row in mme_rows(task, said, wanted)]
    write_task(folder, "our_mme", "mme/mme.yaml", "test", rows)
    aggregation = "lmms_eval.tasks.mmbench.en_utils.mmbench_aggregate_dev_results_static"
    only = f"metric_list:\n- metric: gpt_eval_score\n  aggregation: !function {aggregation}\n  higher_is_better: true\n"
    write_task(folder, "our_mmbench", "mmbench/mmbench_en_dev_static.yaml", "dev", mmbench_rows(MMBENCH), only)
    write_task(folder, "our_seed", "seedbench/seedbench.yaml", "test", seed_rows(*SEED))
    write_rounds(folder, "our_rounds", ("Yes", "No"))
    names = [*(f"our_{name}" for name in SETS), "our_mme", "our_mmbench", "our_seed", "our_rounds"]
    address = f"http://127.0.0.1:{service.server_port}/v1"
    return Run(folder, names, "kind=openai,model=tiny,max_tokens=7", address, "--batch_size", "4")


def test_every_answer_reaches_its_row_and_tasks_say_how_long_it_may_be(run: Run, service: Service) -> None:
    assert run.numbers, run.printed
    for name, (said, _) in SETS.items():
        assert run.answers(f"our_{name}") == list(said)
    assert run.answers("our_mmbench") == [says for circle in MMBENCH for says, _ in circle]
    lengths = Counter(sent["max_tokens"] for sent in service.asked)
    assert lengths == {128: 15, 16: 12, 1024: 11, 7: 5, 3: 4}  # pope, mme, mmbench; seed names none


def test_a_task_of_two_rounds_asks_twice_and_the_second_question_is_its_own(run: Run, service: Service) -> None:
    asked = [sent["messages"][0]["content"][-1]["text"] for sent in service.asked if sent["max_tokens"] == 3]
    sure = "Are you sure?"
    assert asked == ["Yes or no?", f"You said Yes. {sure}", "Yes or no?", f"You said No. {sure}"]
    assert run.numbers["our_rounds"]["both"] == 1


def test_pope_is_the_same_number(run: Run, tmp_path: Path) -> None:
    for name, (_, wanted) in SETS.items():
        answers = run.answers(f"our_{name}")
        questions = [{"question_id": n, "image": "", "text": "", "label": right} for n, right in enumerate(wanted)]
        _write_lines(tmp_path / f"coco_pope_{name}.json", questions)
        _write_lines(tmp_path / f"{name}.jsonl", [{"question_id": n, "answer": text} for n, text in enumerate(answers)])
    found = _estimates("pope", tmp_path)
    theirs = {name: run.numbers[f"our_{name}"] for name in SETS}
    for name in SETS:
        assert found[f"{name}/f1"] == pytest.approx(theirs[name]["pope_f1_score"], abs=1e-12)
        assert found[f"{name}/accuracy"] == pytest.approx(theirs[name]["pope_accuracy"], abs=1e-12)
    assert found["mean_f1"] == pytest.approx(np.mean([numbers["pope_f1_score"] for numbers in theirs.values()]))
    assert all(0 < found[f"{name}/f1"] < 1 for name in SETS)


def test_mme_is_the_same_number(run: Run, tmp_path: Path) -> None:
    answers = iter(run.answers("our_mme"))
    for task, (_, wanted) in MME.items():
        lines = [f"{n // 2}.png\tIs it?\t{right}\t{next(answers)}\n" for n, right in enumerate(wanted)]
        (tmp_path / f"{task}.txt").write_text("".join(lines))
    found = _estimates("mme", tmp_path)
    assert found["perception"] == pytest.approx(run.numbers["our_mme"]["mme_perception_score"], abs=1e-9)
    assert found["cognition"] == pytest.approx(run.numbers["our_mme"]["mme_cognition_score"], abs=1e-9)
    assert found["perception"] == pytest.approx(100 * (5 / 6 + 2 / 3) + 100 * 2 / 4)  # "noth" holds a no


def test_mmbench_is_the_same_number(run: Run, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "image"} for row in mmbench_rows(MMBENCH)]
    answered = [{**row, "prediction": text} for row, text in zip(rows, run.answers("our_mmbench"), strict=True)]
    _write_lines(tmp_path / "predictions.jsonl", answered)
    found = _estimates("mmbench", tmp_path)
    assert 100 * found["circular_lmms"] == pytest.approx(run.numbers["our_mmbench"]["gpt_eval_score"], abs=1e-9)


def test_seed_is_the_same_number(run: Run, tmp_path: Path) -> None:
    rows = [
        {"question_id": str(n), "prediction": text, "gt_answer": right}
        for n, (text, right) in enumerate(zip(run.answers("our_seed"), SEED[1], strict=True))
    ]
    _write_lines(tmp_path / "result.jsonl", rows)
    found = _estimates("seed", tmp_path)
    assert found["all"] == run.numbers["our_seed"]["seed_all"] == 3 / 5


def test_a_failed_answer_gives_no_number_and_is_asked_for_again_alone(service: Service, tmp_path: Path) -> None:
    said, wanted = SETS["random"]
    write_task(tmp_path, "our_random", "pope/pope_random.yaml", "random", pope_rows(said, wanted))
    service.refused, service.asked[:] = ("image 1?", "image 6?"), []
    address = f"http://127.0.0.1:{service.server_port}/v1"
    given = (["our_random"], "kind=openai,model=tiny", address, "--use_cache", str(tmp_path / "cache"))
    first = Run(tmp_path, *given)
    assert "2 of 7 answers failed (HTTP 400" in first.printed
    assert not first.numbers
    service.refused, service.asked[:] = (), []
    second = Run(tmp_path, *given)
    assert len(service.asked) == 2
    assert second.answers("our_random") == list(said)
    assert second.numbers["our_random"]["pope_accuracy"] == 5 / 7


@pytest.mark.parametrize("kind", ["huggingface", "ours"])
def test_answers_and_likelihoods_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "model") if kind == "huggingface" else _release(tmp_path / "model")
    choices = ("circle", "square", "garden", "two")
    pope, seed = pope_rows(*SETS["popular"]), seed_rows(*SEED, choices)
    write_task(tmp_path, "our_popular", "pope/pope_pop.yaml", "popular", pope)
    write_task(tmp_path, "our_choice", "seedbench/seedbench_ppl.yaml", "test", seed)
    size = {"image_size": 12} if kind == "ours" else {}
    cache = ("--use_cache", str(tmp_path / "cache"))
    named = "".join(f",{name}={value}" for name, value in size.items())
    done = Run(tmp_path, ["our_popular", "our_choice"], f"kind={kind},model={folder},dtype=float32{named}", "", *cache)
    assert done.numbers, done.printed
    model = load(ModelConfig(kind=kind, model=str(folder), dtype="float32", **size), "answer")  # type: ignore[arg-type]
    asked = [
        _question(row["question"] + "\nAnswer the question using a single word or phrase.", row["image"])
        for row in pope
    ]
    answers = [str(answer).partition("\n\n")[0].strip() for one in asked for answer in model.answer([one], 128)]
    assert done.answers("our_popular") == answers
    right = 0
    for row, sample in zip(seed, done.samples["our_choice"], strict=True):
        questions = [_question(f"{row['question']} Answer :", row["image"][0])] * len(choices)
        found = [-one.logprob / one.num_tokens for one in model.loglikelihood(questions, choices)]
        assert [float(loss) for loss, _ in sample["filtered_resps"]] == pytest.approx(found, abs=1e-5)
        right += "ABCD"[int(np.argmin(found))] == row["answer"]
    assert done.numbers["our_choice"]["acc"] == right / len(seed)


def _release(folder: Path) -> Path:
    """The parts of a tiny release of ours; its detokenizer is never loaded."""
    words = AutoTokenizer.from_pretrained(make_language_model(folder / "base").local_folder("model"))
    model = tiny_model(vocab_size=len(words))
    vocabulary = initialise(model, words, CODES, num_shapes=4, values=None, added_layers=0, seed=0)
    model.save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    vocabulary.save(folder / "model")
    visual_tokenizer(levels=(2, 2, 2)).save_pretrained(folder / "tokenizer")
    (folder / "detokenizer").mkdir()
    (folder / "detokenizer" / "config.json").write_text("{}")
    return folder


def _question(text: str, image: bytes) -> Question:
    pixels = np.asarray(PIL.Image.open(io.BytesIO(image)).convert("RGB"))
    return Question(uid="0", text=text, images=(pixels,))


def _estimates(benchmark: str, folder: Path) -> dict[str, float]:
    files = open_files(str(folder))
    result = score(benchmark, files, open_files(str(folder)), ScoreConfig(num_bootstraps=100))
    return {name: estimate.value for name, estimate in result.scores.estimates.items()}


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
