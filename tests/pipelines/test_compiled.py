"""The compiled pipelines are as they were: golden files of KFP's intermediate representation.

After a wanted change: `python tests/pipelines/test_compiled.py` writes them anew; read the difference before committing.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN = Path(__file__).parent / "golden"
if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent / "stand_ins"), str(Path(__file__).parents[2])]

from stand_ins import StandInAblation, stand_in_recipe  # noqa: E402

from arm.recipes.recipe import Compute  # noqa: E402
from pipelines import run  # noqa: E402

CASES = [("toy", False), ("full", True), ("experiment", False), (run.ABLATION, False)]
RECIPE = stand_in_recipe().derive("stand-in", "Tests.", ablation=StandInAblation())


def compiled(folder: Path, name: str, cluster: bool) -> str:
    """The YAML without the version of the SDK and the comment above, whose dicts KFP writes in any order."""
    path = run.compile_to(folder, name, RECIPE, cluster=cluster)
    return re.sub(r"sdkVersion: .*\n|^#.*\n", "", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize(("name", "cluster"), CASES)
def test_the_compiled_pipeline_equals_its_golden_file(tmp_path: Path, name: str, cluster: bool) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert compiled(tmp_path, name, cluster) == golden, f"wanted? then run: python {Path(__file__).name}"


@pytest.mark.parametrize("name", run.PIPELINES)
def test_every_job_writes_into_a_folder_of_the_store_itself(tmp_path: Path, name: str) -> None:
    """A deeper folder would have a `.tracking` of its own, which no session sends."""
    spec = next(yaml.safe_load_all(compiled(tmp_path, name, False)))
    dags = [spec["root"]["dag"], *(part["dag"] for part in spec["components"].values() if "dag" in part)]
    found = [task["inputs"]["parameters"]["output"] for dag in dags for task in dag["tasks"].values() if _writes(task)]
    assert len(found) >= 10
    for output in found:
        assert re.fullmatch(r"\{\{.*store'\]\}\}/[\w-]+", output["runtimeValue"]["constant"])


def _writes(task: dict[str, Any]) -> bool:
    return "output" in task.get("inputs", {}).get("parameters", {})


def test_every_parameter_of_the_run_form_is_typed_and_described(tmp_path: Path) -> None:
    spec = yaml.safe_load_all(compiled(tmp_path, "full", True))
    parameters = next(spec)["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) == 3 + 21
    assert all(value["description"] for value in parameters.values())
    assert {name for name, value in parameters.items() if value["parameterType"] != "STRING"} == {"attempt"}
    assert parameters["attempt"]["parameterType"] == "NUMBER_INTEGER"
    assert "min_caption" not in parameters["filter_pairs"]["description"]
    assert parameters["filter_pairs"]["description"].startswith("Config of filter-pairs as JSON. Keep the pairs")


def test_limits_are_set_on_a_cluster_and_not_here(tmp_path: Path) -> None:
    here = compiled(tmp_path, "full", False)
    there = compiled(tmp_path, "full", True)
    assert "memoryLimit" not in here
    assert '"where":"here"' in here
    assert "train-job" not in here
    assert there.count('"where":"train-job"') == 8
    assert there.count('"where":"spark-application"') == 2


def test_on_a_cluster_every_rank_of_tokenize_images_is_a_pod_and_the_step_sums_up_after_them(tmp_path: Path) -> None:
    recipe = stand_in_recipe().derive("wide", "Tests.", compute={"tokenize-images": Compute(ranks=3, gpus=1)})
    tasks = {}
    for cluster in (True, False):
        path = run.compile_to(tmp_path, "full", recipe, cluster=cluster)
        spec = next(yaml.safe_load_all(path.read_text()))
        tasks[cluster] = spec["root"]["dag"]["tasks"]
    loop = next(name for name in tasks[True] if name.startswith("for-loop"))
    assert tasks[True][loop]["parameterIterator"]["items"]["raw"] == '["0/3", "1/3", "2/3"]'
    assert loop in tasks[True]["tokenize-images"]["dependentTasks"]
    assert '"ranks":1,' in _resources(tasks[True]["tokenize-images"])
    assert not any(name.startswith("for-loop") for name in tasks[False])
    assert '"ranks":3,' in _resources(tasks[False]["tokenize-images"])


def _resources(task: dict[str, Any]) -> str:
    return str(task["inputs"]["parameters"]["resources"]["runtimeValue"]["constant"])


def test_no_task_uses_kfps_own_cache(tmp_path: Path) -> None:
    assert "enableCache" not in compiled(tmp_path, "full", True)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case, placed in CASES:
        (GOLDEN / f"{case}.yaml").write_text(compiled(Path("build"), case, placed))
