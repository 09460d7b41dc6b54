"""What the cluster is asked for, compared with golden files (UPDATE_GOLDEN=1 rewrites them)."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_jobs import MADE_UP

from arm import jobs, launch_kubernetes
from arm.errors import ServiceError, UserError
from arm.launch import Resources
from arm.launch_kubernetes import IMAGE_ROOT, SPARK_VERSION, build, how_it_ended, run_on_cluster

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


@pytest.mark.parametrize(("cpu", "cores"), [("4", 4), ("2.5", 3), ("0.5", 1), ("500m", 1), ("1500m", 2), ("2000m", 2)])
def test_spark_gets_whole_cores_and_at_least_one(plan: jobs.Plan, cpu: str, cores: int) -> None:
    spec = build(plan, Resources(where="spark-application", image="i", cpu=cpu), {})["spec"]
    assert (spec["driver"]["cores"], spec["executor"]["cores"]) == (cores, cores)


def test_a_number_of_cpus_that_is_none_is_one_sentence(plan: jobs.Plan) -> None:
    with pytest.raises(UserError, match=r"Resources\.cpu is 'many'; give a number of CPUs"):
        build(plan, Resources(where="spark-application", image="i", cpu="many"), {})


@pytest.mark.parametrize(
    ("name", "address", "shown"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.test:5000", "'http://…@mlflow.test:5000' with a password"),
        (
            "ARM_LINEAGE_URL",
            "postgresql+psycopg2://arm:secret@postgres.test/lineage",
            "'postgresql+psycopg2://…@postgres",
        ),
    ],
)
def test_a_password_does_not_go_into_an_object_but_into_the_secret(
    plan: jobs.Plan, name: str, address: str, shown: str
) -> None:
    place = Resources(where="train-job", image="i")
    with pytest.raises(UserError, match=f"{name} is {re.escape(shown)}.* into the secret arm-store") as caught:
        build(plan, place, {name: address})
    assert "secret@" not in str(caught.value)
    env = build(plan, place, {name: address.replace(":secret", "")})["spec"]["trainer"]["env"]
    optional = [item["name"] for item in env if item.get("valueFrom", {}).get("secretKeyRef", {}).get("optional")]
    assert optional == ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"]


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


def test_spark_runs_the_code_and_the_version_that_the_image_holds(plan: jobs.Plan) -> None:
    root = Path(__file__).parents[1]
    lines = (root / "infra/docker/data.Containerfile").read_text().splitlines()
    assert {f"WORKDIR {IMAGE_ROOT}", "COPY arm arm"} <= set(lines)
    spec = build(plan, Resources(where="spark-application", image="i"), {})["spec"]
    file = spec["mainApplicationFile"].removeprefix("local://")
    assert file == f"{IMAGE_ROOT}/arm/launch.py"
    assert (root / Path(file).relative_to(IMAGE_ROOT)).is_file()
    assert f"pyspark=={SPARK_VERSION}" in (root / "constraints.txt").read_text().splitlines()
    assert spec["sparkVersion"] == SPARK_VERSION


class ApiException(Exception):
    """The Kubernetes client's error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status, self.reason = status, f"status {status}"


@dataclasses.dataclass
class Cluster:
    """A Kubernetes client that answers each poll with the next of `answers`: a state, or an error that it raises."""

    answers: list[Any]
    created: list[str] = dataclasses.field(default_factory=list)
    deleted: list[str] = dataclasses.field(default_factory=list)
    pods: list[Any] = dataclasses.field(default_factory=list)
    ApiException = ApiException

    def CustomObjectsApi(self) -> "Cluster":
        return self

    def CoreV1Api(self) -> "Cluster":
        return self

    def create_namespaced_custom_object(self, *arguments: Any) -> None:
        name = arguments[-1]["metadata"]["name"]
        if name in self.created:
            raise ApiException(409)
        self.created.append(name)

    def get_namespaced_custom_object(self, *arguments: Any) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return {"status": {"conditions": [{"type": answer, "status": "True"}]}}

    def delete_namespaced_custom_object(self, *arguments: Any) -> None:
        self.deleted.append(arguments[-1])

    def list_namespaced_pod(self, namespace: str) -> Any:
        return SimpleNamespace(items=self.pods)


TRAIN_JOB = Resources(where="train-job", image="i")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster([])
    monkeypatch.setattr(launch_kubernetes, "_api", lambda: made)
    monkeypatch.setattr(launch_kubernetes, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(launch_kubernetes.signal, "signal", lambda *arguments: None)
    return made


@pytest.fixture
def finished(plan: jobs.Plan, monkeypatch: pytest.MonkeyPatch) -> jobs.Plan:
    """The plan, as if its pods had published."""
    monkeypatch.setattr(jobs.Plan, "complete", lambda self: jobs._unpublished(self))
    return plan


def test_a_cluster_that_is_away_for_two_polls_costs_no_job(finished: jobs.Plan, cluster: Cluster) -> None:
    cluster.answers = [ApiException(503), ConnectionResetError("gone"), "Running", "Complete"]
    assert run_on_cluster(finished, TRAIN_JOB).key == finished.key
    assert cluster.answers == []
    assert cluster.deleted == cluster.created


def test_an_object_of_an_earlier_launcher_is_adopted(finished: jobs.Plan, cluster: Cluster) -> None:
    cluster.created.append(f"count-{finished.key[:16]}")
    cluster.answers = ["Complete"]
    run_on_cluster(finished, TRAIN_JOB)
    assert cluster.created == cluster.deleted == [f"count-{finished.key[:16]}"]


@pytest.mark.parametrize("trouble", [ApiException(403), RuntimeError("a bug")])
def test_trouble_of_the_launcher_leaves_the_object(plan: jobs.Plan, cluster: Cluster, trouble: Exception) -> None:
    cluster.answers = ["Running", trouble]
    with pytest.raises((ServiceError, RuntimeError), match=r"refused to read count-\w+: 403|a bug"):
        run_on_cluster(plan, TRAIN_JOB)
    assert cluster.created
    assert cluster.deleted == []


def test_a_stopped_launcher_takes_its_object_along(plan: jobs.Plan, cluster: Cluster) -> None:
    cluster.answers = ["Running", KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        run_on_cluster(plan, TRAIN_JOB)
    assert cluster.deleted == cluster.created


def test_an_object_out_of_time_is_deleted(plan: jobs.Plan, cluster: Cluster) -> None:
    with pytest.raises(ServiceError, match="did not end within 0 hours and was deleted"):
        run_on_cluster(plan, dataclasses.replace(TRAIN_JOB, timeout_hours=0))
    assert cluster.deleted == cluster.created


def test_what_a_pod_said_is_the_error(plan: jobs.Plan, cluster: Cluster) -> None:
    terminated = SimpleNamespace(message=json.dumps({"job": "count", "error": "There is no file."}) + "\n")
    container = SimpleNamespace(state=SimpleNamespace(terminated=terminated))
    cluster.answers = ["Failed"]
    cluster.pods = [
        SimpleNamespace(
            metadata=SimpleNamespace(name=f"count-{plan.key[:16]}-node-0"),
            status=SimpleNamespace(container_statuses=[container]),
        )
    ]
    with pytest.raises(UserError, match=re.escape("There is no file.")):
        run_on_cluster(plan, TRAIN_JOB)
    assert cluster.deleted == cluster.created
