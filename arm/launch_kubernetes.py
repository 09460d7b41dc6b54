"""Run a job as an object on a cluster: a TrainJob (torchrun over nodes) or a SparkApplication.

The object is built by a pure function, is named after the content key, and carries the same ARM_LAUNCH payload that a
rank here gets. The launcher adopts an object that a killed launcher left, waits a bounded time, and deletes it at the
end and on SIGTERM. A UserError of a pod comes back through its termination message.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from arm.errors import ServiceError, UserError
from arm.jobs import Plan
from arm.manifest import Manifest
from arm.resources import Resources, payload_of

POLL_SECONDS = 5.0
PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "ARM_LINEAGE_URL",
    "ARM_PIPELINE_KEY", "ARM_PIPELINE_NAME",
)  # fmt: skip
"""Addresses and run identity that the pods inherit from the launcher."""
SECRET = "arm-store"
SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
RANKS_PER_NODE = 8
SPARK_VERSION = "4.0.1"
TERMINATION_FILE = "/dev/termination-log"
PLACES = {
    "train-job": ("trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    "spark-application": ("sparkoperator.k8s.io", "v1beta2", "sparkapplications"),
}
Object = dict[str, Any]


def run_on_cluster(plan: Plan, place: Resources) -> Manifest:
    """Create or adopt the object, wait for its end, delete it, and read what it published."""
    if "://" not in plan.output:
        raise UserError(f"A cluster cannot write to {plan.output!r}; give an output under s3://bucket/prefix.")
    body = build(plan, place, os.environ)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _create(body, place)
        _wait(body["metadata"]["name"], place)
    finally:
        _delete(body["metadata"]["name"], place)
    manifest = plan.complete()
    if manifest is None:
        raise ServiceError(f"{plan.job.name} ended on the cluster without publishing {plan.folder.url}; see its pods.")
    return manifest


def build(plan: Plan, place: Resources, environment: Mapping[str, str]) -> Object:
    """The object for a plan: a pure function of its arguments."""
    builder = {"train-job": train_job, "spark-application": spark_application}[place.where]
    return builder(plan, place, _pod_environment(plan, place, environment))


def train_job(plan: Plan, place: Resources, env: list[Object]) -> Object:
    """A Trainer v2 TrainJob over the `torch-distributed` runtime: no SSH, no MPI, torchrun as on a laptop."""
    per_node = min(place.ranks, RANKS_PER_NODE)
    if place.ranks % per_node:
        raise UserError(f"{place.ranks} ranks do not fill nodes of {per_node}; give a multiple of {per_node}.")
    limits = {"cpu": place.cpu, "memory": place.memory}
    if place.gpus:
        limits["nvidia.com/gpu"] = str(place.gpus * per_node)
    return {
        **_head("train-job", "TrainJob", plan, place),
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "image": place.image,
                "command": ["torchrun", "-m", "arm.launch"],
                "numNodes": place.ranks // per_node,
                "numProcPerNode": per_node,
                "env": env,
                "resourcesPerNode": {"requests": limits, "limits": limits},
            },
        },
    }


def spark_application(plan: Plan, place: Resources, env: list[Object]) -> Object:
    """A SparkApplication whose driver is the job's worker; one executor a rank. KFP alone retries."""
    pod = {"cores": int(float(place.cpu)), "memory": place.memory.removesuffix("i").lower(), "env": env}
    return {
        **_head("spark-application", "SparkApplication", plan, place),
        "spec": {
            "type": "Python",
            "mode": "cluster",
            "sparkVersion": SPARK_VERSION,
            "image": place.image,
            "mainApplicationFile": "local:///opt/arm/arm/launch.py",
            "restartPolicy": {"type": "Never"},
            "driver": {**pod, "serviceAccount": "arm-spark"},
            "executor": {**pod, "instances": place.ranks},
        },
    }


def _head(where: str, kind: str, plan: Plan, place: Resources) -> Object:
    group, version, _ = PLACES[where]
    labels = {"app.kubernetes.io/part-of": "arm", "arm/job": plan.job.name}
    name = f"{plan.job.name}-{plan.key[:16]}"
    metadata = {"name": name, "namespace": place.namespace, "labels": labels}
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata}


def _pod_environment(plan: Plan, place: Resources, environment: Mapping[str, str]) -> list[Object]:
    values = {"ARM_LAUNCH": payload_of(plan, place.threads), "ARM_ERROR_FILE": TERMINATION_FILE}
    values |= {name: environment[name] for name in PASSED_ON if environment.get(name)}
    secrets = [{"name": key, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}} for key in SECRET_KEYS]
    return [{"name": name, "value": value} for name, value in sorted(values.items())] + secrets


def _api() -> Any:
    from kubernetes import client, config  # type: ignore[import-untyped]

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException:
            raise UserError("No cluster is configured: run inside one, or set KUBECONFIG.") from None
    return client


def _create(body: Object, place: Resources) -> None:
    client = _api()
    group, version, plural = PLACES[place.where]
    try:
        client.CustomObjectsApi().create_namespaced_custom_object(group, version, place.namespace, plural, body)
    except client.ApiException as error:
        if error.status != 409:  # 409: a launcher before us made it; adopt it
            raise ServiceError(
                f"The cluster refused {body['kind']} {body['metadata']['name']}: {error.reason}."
            ) from None


def _wait(name: str, place: Resources) -> None:
    """Poll until the object has ended well; otherwise raise what its pods said."""
    group, version, plural = PLACES[place.where]
    deadline = time.monotonic() + place.timeout_hours * 3600
    while time.monotonic() < deadline:
        found = _api().CustomObjectsApi().get_namespaced_custom_object(group, version, place.namespace, plural, name)
        ended = how_it_ended(found)
        if ended == "well":
            return
        if ended == "badly":
            raise _failure(name, place)
        time.sleep(POLL_SECONDS)
    raise ServiceError(f"{name} did not end within {place.timeout_hours:g} hours and was deleted.")


def how_it_ended(found: Object) -> str:
    """`well`, `badly`, or empty while it runs, from a TrainJob's conditions or a SparkApplication's state."""
    status = found.get("status", {})
    marks = {item["type"] for item in status.get("conditions", []) if item.get("status") == "True"}
    marks.add(status.get("applicationState", {}).get("state", ""))
    if marks & {"Failed", "FAILED", "SUBMISSION_FAILED"}:
        return "badly"
    return "well" if marks & {"Complete", "COMPLETED"} else ""


def _failure(name: str, place: Resources) -> Exception:
    pods = _api().CoreV1Api().list_namespaced_pod(place.namespace).items
    for pod in pods:
        if pod.metadata.name.startswith(name):
            for container in pod.status.container_statuses or []:
                message = container.state.terminated and container.state.terminated.message
                if message and message.startswith("{"):
                    return UserError(json.loads(message.splitlines()[0])["error"])
    return ServiceError(f"{name} failed on the cluster; `kubectl -n {place.namespace} logs` of its pods says why.")


def _delete(name: str, place: Resources) -> None:
    client = _api()
    group, version, plural = PLACES[place.where]
    try:
        client.CustomObjectsApi().delete_namespaced_custom_object(group, version, place.namespace, plural, name)
    except client.ApiException as error:
        if error.status != 404:
            raise


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
