"""The tokenizer ablation: its rows, its graph, and the tiny recipe through it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_ins import stand_in_recipe

from arm import config as configs
from arm import recipes
from arm.errors import UserError
from arm.recipes.ablation import ALL_FOUR, LOSSES, ROWS, Ablation, tokenizer_of
from arm.tokenizer.config import DetokenizerConfig, EvaluateTokenizerConfig, TokenizerConfig
from pipelines import run


def proof() -> Ablation:
    ablation = recipes.find("proof").ablation
    assert ablation
    return ablation


def test_a_row_is_the_config_of_all_four_losses_without_the_weights_of_its_absent_ones() -> None:
    whole = proof().tokenizer
    row = tokenizer_of("caption + pixel + feature", whole)
    assert row.sigmoid_weight == 0
    assert configs.to_dict(row) | {"sigmoid_weight": whole.sigmoid_weight} == configs.to_dict(whole)
    assert tokenizer_of(ALL_FOUR, whole) == whole
    assert [len(losses) for losses in ROWS.values()] == [2, 3, 3, 4]
    assert ROWS[ALL_FOUR] == LOSSES


def test_every_row_runs_from_three_seeds_and_a_run_cut_short_has_every_row() -> None:
    runs = proof().runs()
    assert len(runs) == len({item["label"] for item in runs}) == 12
    assert [item["label"] for item in runs[:4]] == [f"{row}, seed 0" for row in ROWS]
    for item in runs[8:]:
        assert configs.from_json(TokenizerConfig, item["tokenizer"]).seed == 2
        assert configs.from_json(DetokenizerConfig, item["detokenizer"]).seed == 2
        assert configs.from_json(EvaluateTokenizerConfig, item["evaluate_tokenizer"]).seed == 2


def test_detokenizers_of_all_rows_train_for_the_same_steps() -> None:
    configs_of_seed_0 = {item["detokenizer"] for item in proof().runs()[:4]}
    assert len(configs_of_seed_0) == 1


def test_the_unaligned_world_differs_in_its_scenes_alone() -> None:
    aligned, unaligned = recipes.find("proof"), recipes.find("proof-unaligned")
    for step in ("make-world", "train-teachers"):
        one, other = (configs.to_dict(recipe.config(step)) for recipe in (aligned, unaligned))
        assert one["scene"]["aligned"]
        assert not other["scene"]["aligned"]
        assert {name for name in one if one[name] != other[name]} == {"scene"}
    assert unaligned.ablation
    assert unaligned.ablation.tokenizer == proof().tokenizer
    assert unaligned.ablation.rows == (ALL_FOUR,)


def test_wrong_ablations_are_one_sentence() -> None:
    values: dict[str, Any] = {
        name: getattr(proof(), name) for name in ("detokenizer", "evaluate_tokenizer", "evaluate_model")
    }
    with pytest.raises(UserError, match=r"did you mean 'caption \+ pixel'"):
        Ablation(tokenizer=proof().tokenizer, rows=("caption + pixels",), **values)
    with pytest.raises(UserError, match="has no sigmoid loss"):
        Ablation(tokenizer=tokenizer_of("caption + pixel + feature", proof().tokenizer), **values)
    with pytest.raises(UserError, match="has no ablation; choose --recipe proof"):
        run.compile_to(Path("nowhere"), run.ABLATION, stand_in_recipe(), cluster=False)


@pytest.mark.parametrize("cluster", [False, True])
def test_rows_run_two_at_a_time_here_and_all_at_once_on_a_cluster(tmp_path: Path, cluster: bool) -> None:
    path = run.compile_to(tmp_path, run.ABLATION, recipes.find("tiny"), cluster=cluster)
    spec = next(yaml.safe_load_all(path.read_text()))
    loops = [task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert [task.get("iteratorPolicy", {}).get("parallelismLimit") for task in loops] == [None if cluster else 2]
    tasks = spec["components"][loops[0]["componentRef"]["name"]]["dag"]["tasks"]
    assert set(tasks) == {"train-tokenizer", "train-detokenizer", "evaluate-tokenizer", "evaluate-model"}
    assert len(tasks) == run.JOBS_OF_A_TOKENIZER
    before = {name for name in spec["root"]["dag"]["tasks"] if "import" in name or name.startswith(("make", "train"))}
    assert len(before) == len(run.ABLATION_STEPS)


@pytest.mark.slow
def test_the_tiny_ablation_ends_in_a_report_and_runs_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.run_here(run.ABLATION, recipes.find("tiny"), str(tmp_path))
    rows = json.loads((tmp_path / "ablation/ablation.json").read_text())["rows"]
    assert [row["losses"] for row in rows] == [["caption", "pixel"], list(LOSSES)]
    assert all(row["seeds"] == [0, 1] and len(set(row["tokenizers"])) == 2 for row in rows)
    assert all(
        {"zero_shot", "two_objects", "pixel_psnr", "psnr", "strict", "usage"} <= set(row["metrics"]) for row in rows
    )
    capsys.readouterr()
    run.run_here(run.ABLATION, recipes.find("tiny"), str(tmp_path))
    shown = capsys.readouterr().out.splitlines()
    num_jobs = len(run.ABLATION_STEPS) + run.JOBS_OF_A_TOKENIZER * 4
    assert sum(line.endswith("already done") for line in shown) == num_jobs
    assert shown[-1] == f"The ablation: {tmp_path}/ablation/report.html"
