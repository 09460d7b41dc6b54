"""The recipes: complete, strict, and the paper's where they say so."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from arm import config as configs
from arm import jobs, recipes
from arm.errors import UserError
from arm.recipes import BESIDE, RECIPES, STEPS, Recipe, folder_name, job_of
from arm.records import TASKS
from arm.training.config import SOURCES, StageConfig, share_at

TOYS = ("tiny", "toy", "proof", "proof-unaligned")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_configures_every_step_of_its_road_with_the_config_of_its_job(name: str) -> None:
    recipe = recipes.find(name)
    expected = [step for step in STEPS if name in TOYS or step not in ("make-world", "train-teachers")]
    assert [step for step in recipe.configs if step not in BESIDE] == expected
    assert "evaluate-tokenizer" in set(recipe.configs) - set(expected) <= set(BESIDE)
    for step, config in recipe.configs.items():
        assert type(config) is jobs.resolve(jobs.find(job_of(step)).config), step


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_the_way_through_json(name: str) -> None:
    for config in recipes.find(name).configs.values():
        assert configs.from_json(type(config), configs.to_json(config)) == config


def test_the_steps_cover_every_job_in_the_order_of_the_road() -> None:
    beside = set(BESIDE.values()) - set(STEPS.values())
    on_the_road = [job.name for job in jobs.JOBS if job.name not in beside]
    assert list(dict.fromkeys(STEPS.values())) == on_the_road
    assert {job.name for job in jobs.JOBS} - set(on_the_road) == beside == {"evaluate-tokenizer"}
    assert folder_name("make-world") == "01-make-world"
    assert folder_name("filter-pairs") == "10-filter-pairs"
    assert folder_name("evaluate-tokenizer") == "evaluate-tokenizer"


def test_stages_of_the_same_job_are_its_declared_stages() -> None:
    for job in jobs.JOBS:
        if job.stages:
            steps = [step for step, name in STEPS.items() if name == job.name]
            assert steps == [f"{job.name}-{stage}" for stage in job.stages]
            for recipe in map(recipes.find, RECIPES):
                assert [recipe.config(step).stage for step in steps] == list(job.stages)


@pytest.mark.parametrize("name", RECIPES)
def test_policies_and_evaluation_read_images_at_the_sizes_that_the_last_stage_was_trained_at(name: str) -> None:
    recipe = recipes.find(name)
    read = recipe.config("train-model-finetune").variants
    variants = [one for one in recipe.config("tokenize-images").variants if not read or one.name in read]
    sizes = {
        task: {one.resolution for one in variants if one.takes(task)} for task in ("question", "edit", "text_to_image")
    }
    evaluation = recipe.config("evaluate-model")
    assert (sizes["question"], sizes["edit"]) == ({evaluation.reading}, {evaluation.editing})
    assert sizes["edit"] == {recipe.config(f"train-policy-{stage}").editing for stage in ("edit", "joint")}
    assert evaluation.image_size in {one.max_long_side for one in sizes["text_to_image"]}


SHARES = {  # text-only, image-to-text, text-to-image, video, web: Table 1
    "pretrain": (0.05, 0.10, 0.70, 0.10, 0.05),
    "continue": (0.05, 0.10, 0.55, 0.15, 0.15),
    "finetune": (0.05, 0.05, 0.50, 0.20, 0.20),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stage", SHARES)
def test_the_mixture_of_every_stage_is_table_1(name: str, stage: str) -> None:
    mixture = recipes.find(name).config(f"train-model-{stage}").mixture
    assert tuple(share_at(getattr(mixture, source), 0.5) for source in SOURCES) == SHARES[stage]


def test_arm_7b_holds_the_numbers_of_table_1() -> None:
    stages = [_stage("arm_7b", stage) for stage in ("pretrain", "continue", "finetune")]
    assert [stage.learning_rate for stage in stages] == [2e-4, 2e-4, 5e-5]
    assert [stage.warmup_steps for stage in stages] == [2_000, 2_000, 0]
    assert [stage.steps for stage in stages] == [100_000, 100_000, 40_000]
    assert {(stage.weight_decay, stage.gradient_clip, stage.betas) for stage in stages} == {(0, 1.0, (0.9, 0.95))}
    assert {stage.sequence_length for stage in stages} == {80 * 1024}
    compute = recipes.find("arm_7b").compute
    assert [compute[f"train-model-{stage}"].ranks for stage in SHARES] == [200, 160, 80]


def test_arm_7b_holds_the_numbers_of_table_2() -> None:
    policies = [recipes.find("arm_7b").config(f"train-policy-{stage}") for stage in ("t2i", "edit", "joint")]
    assert [policy.learning_rate for policy in policies] == [3e-5, 5e-5, 5e-5]
    assert [policy.steps for policy in policies] == [280, 100, 200]
    assert [policy.prompts_per_step for policy in policies] == [64, 40, 40]
    assert [policy.temperature for policy in policies] == [0.7, 1.0, 1.0]
    assert {(p.group_size, p.top_k, p.top_p, p.clip, p.kl_coefficient) for p in policies} == {
        (16, 1000, 1.0, 0.2, 0.01)
    }


def test_arm_7b_departs_from_the_paper_nowhere_in_the_tokenizer() -> None:
    tokenizer = recipes.find("arm_7b").config("train-tokenizer")
    weights = (tokenizer.caption_weight, tokenizer.pixel_weight, tokenizer.sigmoid_weight, tokenizer.feature_weight)
    assert weights == (1, 5, 5, 1)
    assert tokenizer.quantizer.levels == (2,) * 16
    assert tokenizer.loss_normalisation == "none"
    assert tokenizer.quantizer.pre_quantizer_norm == "none"
    assert tokenizer.pixel.prediction == "velocity"
    assert (tokenizer.batch_size, tokenizer.optimizer.learning_rate) == (32_768, 3e-4)


def test_only_toys_let_hosts_past_the_guard_or_hurry() -> None:
    for name in set(RECIPES) - set(TOYS):
        recipe = recipes.find(name)
        assert recipe.config("download-images").exceptions == ()
        assert recipe.config("filter-pairs").private_hosts == ()
        assert recipe.config("download-images").requests_per_second_per_host <= 10


def test_a_seed_moves_every_step_but_the_world_and_its_teachers() -> None:
    proof, other = recipes.find("proof"), recipes.find("proof").seeded(2)
    assert other.name == "proof-seed-2"
    assert other.config("make-world") == proof.config("make-world")
    assert other.config("train-teachers") == proof.config("train-teachers")
    moved = [step for step in proof.configs if other.config(step) != proof.config(step)]
    assert moved == [
        "train-tokenizer", "train-detokenizer", "train-model-pretrain", "train-model-continue",
        "train-model-finetune", "train-policy-t2i", "train-policy-edit", "train-policy-joint", "evaluate-model",
        "evaluate-tokenizer",
    ]  # fmt: skip
    assert all(other.config(step).seed == 2 for step in moved)


def test_rows_of_a_step_divide_among_the_ranks() -> None:
    for recipe in map(recipes.find, RECIPES):
        for stage in SHARES:
            step = f"train-model-{stage}"
            rows = recipe.config(step)
            assert rows.rows_per_step % (recipe.computes_on(step).ranks * rows.rows_per_micro_batch) == 0


def test_only_jobs_that_divide_their_work_have_ranks() -> None:
    for recipe in map(recipes.find, RECIPES):
        with_ranks = {STEPS[step] for step in STEPS if recipe.computes_on(step).ranks > 1}
        assert all(jobs.find(name).distributed for name in with_ranks), recipe.name


def test_an_unknown_recipe_or_step_is_named_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        recipes.find("tinny")
    with pytest.raises(UserError, match="did you mean 'filter-pairs'"):
        Recipe(name="r", purpose="p", configs={"filter-pair": None})
    with pytest.raises(UserError, match="did you mean 'train-tokenizer'"):
        recipes.find("toy").config("train-tokeniser")


def test_mixtures_to_compare_differ_in_the_mixture_alone() -> None:
    for recipe in map(recipes.find, RECIPES):
        paper, even = recipe.mixtures["paper"], recipe.mixtures["even"]
        assert dataclasses.replace(even, mixture=paper.mixture) == paper
        assert even.mixture != paper.mixture


def _stage(recipe: str, stage: str) -> StageConfig:
    config: Any = recipes.find(recipe).config(f"train-model-{stage}")
    assert isinstance(config, StageConfig)
    return config


def test_users_see_28_guided_steps_and_rollouts_14_without() -> None:
    detokenizer = recipes.find("arm_7b").config("train-detokenizer")
    assert (detokenizer.backbone, detokenizer.sampling_steps, detokenizer.guidance) == ("flux", 28, 1.5)
    assert (detokenizer.null_condition, detokenizer.source_condition) == (0.1, False)
    policy = recipes.find("arm_7b").config("train-policy-t2i")
    assert (policy.render_steps, policy.render_guidance) == (14, 1.0)


@pytest.mark.parametrize(
    ("name", "licence"), [("arm_7b", "FLUX.1-dev-non-commercial"), ("small", "NVIDIA-NSCL-v2-custom")]
)
def test_the_licence_of_what_renders_is_recorded_and_refused(name: str, licence: str) -> None:
    recipe = recipes.find(name)
    licences = {recipe.config(f"import-model-{part}").licence for part in ("autoencoder", "backbone")}
    assert licences == set(recipe.config("register-model").refused_licences) == {licence}


RESOLUTIONS = {  # text-to-image and editing, (min short side, max long side): Table 1
    "pretrain": {"text_to_image": (256, 512), "edit": (256, 980)},
    "continue": {"text_to_image": (512, 1_024), "edit": (512, 980)},
    "finetune": {"text_to_image": (512, 1_024), "edit": (512, 1_024)},
}


@pytest.mark.parametrize("stage", SHARES)
def test_arm_7b_reads_images_at_the_resolutions_of_table_1_and_each_task_once(stage: str) -> None:
    recipe = recipes.find("arm_7b")
    made = {variant.name: variant for variant in recipe.config("tokenize-images").variants}
    chosen = [made[name] for name in _stage("arm_7b", stage).variants]
    for task in TASKS:
        (variant,) = (variant for variant in chosen if variant.takes(task))
        pair = (variant.resolution.min_short_side, variant.resolution.max_long_side)
        assert pair == RESOLUTIONS[stage].get(task, (256, 976))  # understanding is ours


@pytest.mark.parametrize("name", RECIPES)
def test_every_source_with_a_share_has_a_data_set_and_every_data_set_is_described(name: str) -> None:
    recipe = recipes.find(name)
    sources = recipe.config("import-samples-training").sources
    assert {source.task for source in sources} >= set(TASKS) - {"caption"}  # a captioned image serves both ways
    assert {source.name for source in sources} == set(recipe.datasets) - {"crawl"}


def test_small_names_open_data_sets_with_a_licence_or_a_warning() -> None:
    recipe = recipes.find("small")
    licences = {source.name: source.licence for source in recipe.config("import-samples-training").sources}
    for name, known in recipe.datasets.items():
        assert known.id.count("/") == 1
        assert known.num_samples
        assert licences[name] == known.licence.replace("check the licence", "unknown")


def test_the_toys_learning_rate_warms_up_and_falls_in_the_last_stage_alone() -> None:
    stages = [_stage("toy", stage) for stage in SHARES]
    rates = [(stage.learning_rate, stage.muon_learning_rate) for stage in stages]
    assert rates == [(1e-3, 0.007), (7e-4, 0.005), (5e-4, 0.004)]
    assert [(stage.warmup_steps, stage.decay_fraction) for stage in stages] == [(40, 0.0), (20, 0.0), (20, 1.0)]


def test_arm_7b_keeps_its_rate_constant_after_the_warm_up() -> None:
    assert {_stage("arm_7b", stage).decay_fraction for stage in SHARES} == {0.0}


def test_a_recipe_of_ones_own_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that docs/05-running.md shows, and what cannot be one."""
    text = (Path(__file__).parents[1] / "docs/05-running.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_recipes_for_a_test.py").write_text(code + "NUMBER = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = recipes.find("my_recipes_for_a_test:LONGER")
    assert (found.name, found.config("train-model-pretrain").sequence_length) == ("longer", 32_768)
    for name, sentence in (
        ("my_recipes_for_a_test:SHORTER", "cannot be read .*put the module's folder in PYTHONPATH"),
        ("no_such_module:X", "No module named 'no_such_module'"),
        (":X", "cannot be read"),
        ("my_recipes_for_a_test:NUMBER", "of type int, no Recipe"),
        ("lager", "There is no recipe 'lager'; .* Yours is named by module:CONSTANT"),
    ):
        with pytest.raises(UserError, match=sentence):
            recipes.find(name)
