"""What the cluster is asked for, compared with golden files (UPDATE_GOLDEN=1 rewrites them)."""

import json
import os
from pathlib import Path

import pytest
from made_up_jobs import MADE_UP

from arm import jobs
from arm.errors import UserError
from arm.launch import Resources
from arm.launch_kubernetes import build, how_it_ended

GOLDEN = Path(__file__).parent / "golden"
ENVIRONMENT = {"AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000", "MLFLOW_RUN_ID": "abc", "HOME": "/root"}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> jobs.Plan:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    return jobs.plan("count", output="s3://runs/7/01-count", config='{"num_units": 5}', inputs={})


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (
            "train_job",
            Resources(where="train-job", image="arm/model@sha256:1", ranks=16, gpus=1, cpu="64", memory="512Gi"),
        ),
        ("spark_application", Resources(where="spark-application", image="arm/data@sha256:2", ranks=10, cpu="4")),
    ],
)
def test_the_object_is_the_golden_one(plan: jobs.Plan, name: str, place: Resources) -> None:
    found = json.dumps(build(plan, place, ENVIRONMENT), indent=1, sort_keys=True) + "\n"
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_sixteen_ranks_are_two_nodes_of_eight(plan: jobs.Plan) -> None:
    trainer = build(plan, Resources(where="train-job", image="i", ranks=16), {})["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)


def test_ranks_that_do_not_fill_nodes_are_refused(plan: jobs.Plan) -> None:
    with pytest.raises(UserError, match="12 ranks do not fill nodes of 8"):
        build(plan, Resources(where="train-job", image="i", ranks=12), {})


def test_a_cluster_object_needs_an_image() -> None:
    with pytest.raises(UserError, match="needs a container image"):
        Resources(where="train-job")


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ({}, ""),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "well"),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "badly"),
        ({"conditions": [{"type": "Failed", "status": "False"}]}, ""),
        ({"applicationState": {"state": "COMPLETED"}}, "well"),
        ({"applicationState": {"state": "RUNNING"}}, ""),
        ({"applicationState": {"state": "SUBMISSION_FAILED"}}, "badly"),
    ],
)
def test_the_end_is_read_from_the_status(status: dict[str, object], ended: str) -> None:
    assert how_it_ended({"status": status}) == ended
