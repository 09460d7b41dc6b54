"""The prompts of MMBench and MMMU as lmms-eval renders them, and VIEScore's as GEdit-Bench does."""

import json
from pathlib import Path

from arm.evaluation.benchmarks import prompts
from arm.evaluation.rubric import load_rubric


def snapshot(shared: Path, name: str) -> str:
    """A prompt that lmms-eval rendered."""
    text: str = json.loads((shared / f"evaldata/lmms_eval/{name}.json").read_text())["prompt_text"]
    return text


def test_mmbench_with_and_without_a_hint(shared: Path) -> None:
    options = {"A": "Swimming", "B": "Running", "C": "Fishing", "D": "Cycling"}
    question, hint = (
        "What activity is the person in the image performing?",
        "The person is outdoors near a body of water.",
    )
    assert prompts.mmbench(question, options, hint) == snapshot(shared, "mmbench_en_dev__hint")
    colours = {"A": "Red", "B": "Blue", "C": "Green", "D": "Yellow", "E": ""}
    assert prompts.mmbench("What color is the car in the image?", colours) == snapshot(shared, "mmbench_en_dev__nohint")


def test_mmmu_with_options_and_open(shared: Path) -> None:
    options = [
        "Shareholders disagreeing with bondholders over dividend policy",
        "Managers pursuing personal projects that reduce firm value",
        "Majority shareholders expropriating minority shareholders",
        "Suppliers refusing to extend credit terms to the firm",
    ]
    question = "In the context of agency theory, which scenario best illustrates a Type I agency problem?"
    assert prompts.mmmu(question, dict(zip("ABCD", options, strict=True))) == snapshot(shared, "mmmu_val__mc")
    question = "What is the area of the shaded region in the figure shown?"
    assert prompts.mmmu(question) == snapshot(shared, "mmmu_val__open")


def test_short_answers_and_choices() -> None:
    assert prompts.short("Is it red?") == "Is it red?\nAnswer the question using a single word or phrase."
    assert prompts.mme("Is it red? Please answer yes or no.") == prompts.short("Is it red?")
    assert prompts.choice("What is it?", {"A": "a cat", "B": "a dog"}) == (
        "What is it?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given choices directly."
    )


def test_viescore_rubrics_are_those_of_gedit_bench(shared: Path) -> None:
    official = json.loads((shared / "evaldata/gedit/judge_prompts_rendered.json").read_text())
    rubric = load_rubric("viescore_editing")
    assert rubric.render({"instruction": "add a red hat to the dog"}) == official["tie_SC_rendered"]
    assert rubric.images == len(official["images_SC"])
    assert load_rubric("viescore_quality").render({}) == official["PQ_template"]
    assert load_rubric("viescore_text_to_image").render({"prompt": "<prompt>"}) == official["t2i_SC_template"]
