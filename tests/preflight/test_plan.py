"""Whole plans: what they say of the recipes, what they refuse, and what they write."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arm import cli, recipes
from arm.data.config import SourceRule
from arm.evaluation.judge_config import JudgeConfig
from arm.preflight import hardware, memory, training
from arm.preflight.documents import Kind
from arm.preflight.outline import Setting, StepPlan
from arm.preflight.page import _range, render_page
from arm.preflight.plan import Plan, make_plan
from arm.preflight.policy import judge_seconds, judgements
from arm.recipes import RECIPES, Compute, Recipe
from arm.recipes.facts import LanguageGeometry
from arm.rl.config import AskedRubric, RewardConfig, RubricConfig

STAGES = ("train-model-pretrain", "train-model-continue", "train-model-finetune")


def setting(recipe: Recipe | str, **changes: Any) -> Setting:
    found = recipes.find(recipe) if isinstance(recipe, str) else recipe
    prices = {"price_per_gpu_hour": 2.0, "cost_per_judgement": 0.01, "judge_seconds": 4.0}
    return Setting(recipe=found, gpu=hardware.find_gpu(changes.pop("gpu", found.gpu)), **{**prices, **changes})


def planned(recipe: Recipe | str, step: str, **changes: Any) -> StepPlan:
    return next(item for item in make_plan(setting(recipe, **changes)).steps if item.step == step)


def changed(name: str, step: str, **changes: Any) -> Recipe:
    """A recipe with other values in the config of one step."""
    recipe = recipes.find(name)
    return recipe.derive("x", "y", configs={step: dataclasses.replace(recipe.config(step), **changes)})


def facts(plan: StepPlan) -> dict[str, str]:
    return {fact.name: fact.value for fact in plan.facts}


@pytest.fixture(scope="module")
def whole() -> Plan:
    return make_plan(setting("arm_7b", world=200))


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "arm_7b"])
def test_nothing_stands_against_a_recipe_as_it_is_and_every_step_is_planned(name: str) -> None:
    plan = make_plan(setting(name))
    assert plan.refusals == []
    assert {step.step for step in plan.steps} == set(recipes.find(name).configs)
    assert all(step.work and step.seconds > 0 for step in plan.steps)


def test_a_world_of_200_takes_the_gpus_of_table_1(whole: Plan) -> None:
    ranks = {step.step: step.ranks for step in whole.steps}
    assert [ranks[stage] for stage in STAGES] == [200, 160, 80]  # 400, 320 and 80 rows a step
    assert whole.refusals == []


def test_a_step_of_pretraining_reads_33_million_tokens_in_two_rows_a_rank(whole: Plan) -> None:
    step = next(step for step in whole.steps if step.step == "train-model-pretrain")
    assert facts(step)["tokens a step"] == "32.8M"  # 400 x 81,920
    assert facts(step)["rows of a rank"] == "2"
    assert step.work == "3.28T tokens in 100,000 steps"
    assert facts(step)["parameters"] == "8.09B"


def test_days_follow_from_flops_peak_and_mfu() -> None:
    """28 layers of 233,057,792 parameters are 6·N·T = 1.277e18 of a step; attention and head add a few per cent."""
    half, full = (planned("arm_7b", "train-model-pretrain", gpu="h100", mfu=mfu) for mfu in (0.2, 0.4))
    assert half.seconds == pytest.approx(2 * full.seconds)
    flops = full.seconds / 100_000 * 200 * 989e12 * 0.4
    layers = 6 * 28 * 233_057_792 * 400 * 81_920 * 0.995
    assert layers == pytest.approx(1.277e18, rel=1e-3)
    assert 1.05 < flops / layers < 1.09


def test_the_head_counts_at_targets_over_the_rows_of_their_modality() -> None:
    """Half of the tokens are codes to learn over 512 rows, a tenth text over 100: 266 logits a token."""
    config = recipes.find("toy").config("train-model-pretrain")
    model = LanguageGeometry(layers=1, width=8, heads=1, kv_heads=1, mlp_width=8, vocabulary=612)
    kinds = [
        Kind("text_to_image", 0.5, (), ((20.0, 1.0),), (20.0, 0.0)),
        Kind("text", 0.5, (), ((10.0, 1.0),), (0.0, 2.0)),
    ]
    assert training.head_logits(config, model, kinds, 512) == pytest.approx(0.5 * 512 + 0.1 * 100)
    every = dataclasses.replace(config, loss_rows="all")
    assert training.head_logits(every, model, kinds, 512) == pytest.approx(0.6 * 612)


def test_money_is_gpu_hours_times_price_and_the_judge(whole: Plan) -> None:
    assert whole.cost == pytest.approx(2.0 * whole.gpu_hours + 478_720 * 0.01)


def test_the_paper_has_about_479_000_images_judged() -> None:
    stages = [recipes.find("arm_7b").config(f"train-policy-{stage}") for stage in ("t2i", "edit", "joint")]
    assert [judgements(stage) for stage in stages] == [286_720, 64_000, 128_000]
    assert sum(map(judgements, stages)) == 478_720


def test_judge_replicas_are_images_times_p50_over_concurrency_times_budget() -> None:
    step = planned("arm_7b", "train-policy-t2i", judge_seconds=40.0)
    found = {fact.name: fact for fact in step.facts}
    budget = sum(float(found[f"seconds: {part}"].value.replace(",", "")) for part in ("generate", "decode"))
    assert int(found["judge replicas"].value) == pytest.approx(1_024 * 40 / (8 * budget), abs=1)


def asking(num_rubrics: int, **judge: Any) -> RubricConfig:
    weights = [{"quality": 1 / num_rubrics}] * num_rubrics
    asked = tuple(AskedRubric(rubric=f"r{n}", version=1, weights=weights[n]) for n in range(num_rubrics))
    return RubricConfig(judge=JudgeConfig(model="made", **judge), asked=asked)


def test_every_rubric_is_a_call_about_every_image_of_its_task() -> None:
    """200 steps of 40 x 16 images, half of them edits: 64,000 of one rubric and 64,000 of two."""
    reward = RewardConfig(rubrics={"text_to_image": asking(1), "edit": asking(2)})
    recipe = changed("arm_7b", "train-policy-joint", reward=reward)
    assert judgements(recipe.config("train-policy-joint")) == 64_000 + 2 * 64_000
    step = planned(recipe, "train-policy-joint")
    assert step.extra_cost == pytest.approx(192_000 * 0.01)
    replicas = next(fact for fact in step.facts if fact.name == "judge replicas").how
    assert "320 images x 1 rubric x 4 s" in replicas
    assert "320 images x 2 rubrics x 4 s" in replicas


def test_a_module_of_ours_costs_nothing_beside_rubrics_that_do() -> None:
    reward = RewardConfig(judge="own/1", module="own.judge", rubrics={"edit": asking(2)})
    step = planned(changed("arm_7b", "train-policy-joint", reward=reward), "train-policy-joint")
    assert step.extra_cost == pytest.approx(128_000 * 0.01)


def test_a_rate_slows_a_step_and_a_budget_that_is_too_small_is_told() -> None:
    """1,024 calls at 60 a minute are 1,024 seconds."""
    judge = {"calls_per_minute": 60.0, "max_dollars": 5.0, "dollars_per_million_input": 1.0}
    reward = RewardConfig(rubrics={"text_to_image": asking(1, **judge)})
    recipe = changed("arm_7b", "train-policy-t2i", reward=reward)
    assert judge_seconds(recipe.config("train-policy-t2i"), 4.0, 8) == 1_024
    notes = planned(recipe, "train-policy-t2i").notes
    assert "text_to_image needs $2,867 of judgements, but its budget is $5: the run will pause." in notes


def test_codes_are_two_bytes_and_texts_lie_beside_them() -> None:
    """20M + 144,000 captioned images and the others at 512 pixels; every bucket has its number."""
    step = planned("small", "tokenize-images")
    how = next(fact.how for fact in step.facts if fact.name == "default")
    assert "512 x 512: 7.75M" in how  # .3 of the web's images, and .1 + .2 of smaller ones among them
    assert step.disk == pytest.approx(116e9, rel=0.02)


def test_shares_of_text_to_image_fall_from_70_to_50(whole: Plan) -> None:
    shares = [share for _, share in whole.curves["text_to_image"]]
    assert list(dict.fromkeys(shares)) == [0.70, 0.55, 0.50]
    assert whole.curves["text_to_image"][-1][0] == 81_920 * (100_000 * 400 + 100_000 * 320 + 40_000 * 80)


def test_a_share_of_nothing_is_0_and_a_whole_one_1() -> None:
    assert _range([(0, 0.0), (1, 0.05), (2, 1.0)]) == "0 → .05 → 1"


def test_two_reasons_against_one_step_are_one_refused_step() -> None:
    plan = make_plan(setting(changed("arm_7b", STAGES[0], sequence_length=1_024)))
    assert len(plan.refusals) > 1
    assert "1 of the plan&#x27;s" in render_page(plan)


def test_memory_above_the_gpus_is_refused_with_its_largest_part() -> None:
    step = planned("arm_7b", "train-policy-edit", gpu="h100")
    assert memory.total(step.memory) > 150e9
    (sentence,) = step.refusals
    assert sentence.startswith("train-policy-edit needs 159 GB on each rank, 54 GB of them activations")
    assert "one H100 80 GB leaves 74 GB" in sentence


def test_rows_that_do_not_divide_are_noted_with_rows_that_do() -> None:
    step = planned(changed("arm_7b", STAGES[0], rows_per_step=300), STAGES[0])
    assert not step.refusals
    assert (
        "300 rows a step do not divide among 200 that are read at once: 100 places are padding, of which nothing is learned; "
        "400 rows would fill them."
    ) in step.notes


def test_gpus_that_have_no_part_in_a_step_are_noted_with_rows_that_give_them_one() -> None:
    """400 rows divide among 100 of 199 GPUs; 597 = 3 x 199. Of 200 all work."""
    step = planned("arm_7b", STAGES[0], world=199)
    assert step.gpus == 100
    assert (
        "100 of the 199 GPUs work: 400 rows a step divide among no more of them; 597 rows would divide among 199."
        in step.notes
    )
    assert not [note for note in planned("arm_7b", STAGES[0], world=200).notes if "GPUs work" in note]


def test_a_share_without_data_is_refused() -> None:
    sources = recipes.find("arm_7b").config("import-samples-training").sources
    recipe = changed(
        "arm_7b", "import-samples-training", sources=tuple(item for item in sources if item.name != "videos")
    )
    for stage in STAGES:
        (sentence,) = planned(recipe, stage).refusals
        assert f"{stage} takes" in sentence
        assert "from interleaved_video, but no source has such samples; add one" in sentence


def test_documents_that_fit_no_row_are_refused() -> None:
    (first, *_) = planned(changed("arm_7b", STAGES[1], sequence_length=1_024), STAGES[1]).refusals
    assert "packs rows of 1,024 tokens" in first


def test_heads_that_a_sequence_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "sequence_parallel", lambda config: 8)
    found = planned("arm_7b", STAGES[0]).refusals
    assert any("among 8 ranks, but the model has 28 attention heads" in sentence for sentence in found)
    assert any("the model has 4 key-value heads" in sentence for sentence in found)


def test_a_row_is_not_shared_among_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "sequence_parallel", lambda config: 4)
    found = planned("arm_7b", STAGES[0], world=3).refusals
    assert any("shares a row among 4 ranks, but there are 3 GPUs" in sentence for sentence in found)


def test_ranks_of_two_gpus_each_take_no_more_than_there_are() -> None:
    recipe = recipes.find("arm_7b")
    recipe = dataclasses.replace(recipe, compute={**recipe.compute, STAGES[0]: Compute(ranks=200, gpus=2)})
    assert planned(recipe, STAGES[0], world=8).gpus == 8


def test_cpus_are_read_in_kubernetes_units_and_workers_beyond_them_add_nothing() -> None:
    recipe = changed("arm_7b", "curate-images", workers=64)
    pod = Compute(cpu="1500m")
    recipe = dataclasses.replace(recipe, compute={**recipe.compute, "curate-images": pod, "extract-pairs": pod})
    assert facts(planned(recipe, "extract-pairs"))["core-hours"]
    step = planned(recipe, "curate-images")
    assert step.seconds / 3_600 == pytest.approx(step.core_hours / 1.5, rel=1e-3)


def test_batches_that_the_ranks_do_not_divide_are_refused() -> None:
    recipe = recipes.find("arm_7b")
    recipe = dataclasses.replace(recipe, compute={**recipe.compute, "train-tokenizer": Compute(ranks=48, gpus=1)})
    assert planned(recipe, "train-tokenizer").refusals == [
        "train-tokenizer has batches of 32768, which 48 ranks do not divide."
    ]


def test_scoring_a_crawl_on_cpus_is_refused() -> None:
    rules = (SourceRule(source="crawl", min_similarity=0.08), SourceRule())
    (sentence,) = planned(changed("arm_7b", "curate-images", rules=rules), "curate-images").refusals
    assert "curate-images would take 9 years on 16 cores" in sentence
    assert "leave out min_similarity" in sentence


def test_the_toys_plan_is_near_the_measured_demo() -> None:
    """979 s (docs/log.md): the rates come from there."""
    assert make_plan(setting("toy")).seconds == pytest.approx(979, rel=0.1)


def test_the_verb_prints_a_table_and_writes_a_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["plan", "--recipe", "arm_7b", "--world", "200", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "train-model-pretrain" in printed
    assert str(tmp_path / "index.html") in printed
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert all(step in page for step in recipes.find("arm_7b").configs)
    assert ".7 → .55 → .5" in page
    values = json.loads((tmp_path / "plan.json").read_text())
    assert values["refusals"] == []
    assert values["steps"][0]["step"] == "import-model-encoder"


def test_what_cannot_run_is_one_sentence_after_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "--recipe", "arm_7b", "--gpu", "h100", "--output", str(tmp_path)])
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.err.count("\n") == 1
    assert "GB on each rank" in shown.err
    assert "! train-policy-edit" in shown.out
    assert "What cannot run" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "arm7b"], "There is no recipe 'arm7b'; did you mean 'arm_7b'?"),
        (["--recipe", "toy", "--world", "4"], "--world has no effect on the recipe toy, which computes on CPUs"),
        (["--recipe", "small", "--gpu", "h1000"], "There is no GPU 'h1000' in the plan's table; did you mean 'h100'?"),
        (["--recipe", "toy", "--world", "0"], "'0' is not a number of GPUs of at least 1"),
        (["--recipe", "toy", "--mfu", "40"], "'40' is not a share above 0 and at most 1"),
        (["--recipe", "toy", "--price-per-gpu-hour", "-1"], "'-1' is not a number of at least 0"),
    ],
)
def test_wrong_flags_are_a_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", *arguments])
    assert sentence in capsys.readouterr().err


def test_a_plan_needs_no_heavy_package(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom arm import cli\n"
        f"cli.main(['plan', '--recipe', 'arm_7b', '--world', '200', '--output', {str(tmp_path)!r}])\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
