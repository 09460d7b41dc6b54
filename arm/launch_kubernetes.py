"""Run a job as an object on a cluster: a TrainJob (torchrun over nodes) or a SparkApplication.

The object is built by a pure function, is named after the content key, and carries the same ARM_LAUNCH payload that a
rank here gets. The launcher adopts an object that an earlier launcher left and waits a bounded time; an API server that
is away for a while is asked again. It deletes the object when that has ended, is out of time, or on SIGTERM; any other
trouble of the launcher leaves the object to the next one. A UserError of a pod comes back through its termination
message.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from arm.errors import ServiceError, UserError, without_userinfo
from arm.jobs import Plan
from arm.manifest import Manifest
from arm.preflight.hardware import cpu_count
from arm.resources import Resources, payload_of

POLL_SECONDS = 5.0
PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "ARM_LINEAGE_URL",
    "ARM_PIPELINE_KEY", "ARM_PIPELINE_NAME",
)  # fmt: skip
"""Addresses and run identity that the pods inherit from the launcher."""
SECRET = "arm-store"
SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSWORD_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD")
"""What the secret may hold beside them: how tracker and lineage are logged in to. MLflow and PostgreSQL read them."""
RANKS_PER_NODE = 8
SPARK_VERSION = "4.3.0"
"""pyspark's in constraints.txt: what the data image holds."""
IMAGE_ROOT = "/app"
"""Where the images of infra/docker keep this repository."""
REQUEST_SECONDS = 60.0
"""How long creating, reading pods and deleting are tried; the wait itself is tried until the job's own deadline."""
TRANSIENT = (0, 401, 408, 429)
"""Statuses worth asking again, besides 500 and above; 401: a token that is just being renewed."""
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    name = body["metadata"]["name"]
    try:
        _create(body, place)
        ended = _wait(name, place)
        failure = _failure(name, place, ended)
    except KeyboardInterrupt:
        _delete(name, place)
        raise
    _delete(name, place)
    if failure:
        raise failure
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
    cores = max(1, ceil(cpu_count(place.cpu)))  # Spark counts whole ones
    pod = {"cores": cores, "memory": place.memory.removesuffix("i").lower(), "env": env}
    return {
        **_head("spark-application", "SparkApplication", plan, place),
        "spec": {
            "type": "Python",
            "mode": "cluster",
            "sparkVersion": SPARK_VERSION,
            "image": place.image,
            "mainApplicationFile": f"local://{IMAGE_ROOT}/arm/launch.py",
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
    values |= {name: _open(name, environment[name]) for name in PASSED_ON if environment.get(name)}
    secrets = [_from_secret(key) for key in SECRET_KEYS] + [_from_secret(key, optional=True) for key in PASSWORD_KEYS]
    return [{"name": name, "value": value} for name, value in sorted(values.items())] + secrets


def _open(name: str, value: str) -> str:
    """A value that everybody may see who may read the object; UserError when it is an address with a password."""
    if urlsplit(value).password:
        raise UserError(
            f"{name} is {without_userinfo(value)!r} with a password, which the object on the cluster would show; give the "
            f"address without it and put the password into the secret {SECRET}, as docs/07-cluster.md says."
        )
    return value


def _from_secret(key: str, **options: bool) -> Object:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key, **options}}}


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
    group, version, plural = PLACES[place.where]

    def create(client: Any) -> None:
        try:
            client.CustomObjectsApi().create_namespaced_custom_object(group, version, place.namespace, plural, body)
        except client.ApiException as error:
            if error.status != 409:  # 409: a launcher before us made it; adopt it
                raise

    _answered(create, f"create {body['kind']} {body['metadata']['name']}", REQUEST_SECONDS)


def _wait(name: str, place: Resources) -> str:
    """Poll until the object has ended `well` or `badly`, or is out of time (empty)."""
    group, version, plural = PLACES[place.where]
    deadline = time.monotonic() + place.timeout_hours * 3600

    def read(client: Any) -> Object:
        found: Object = client.CustomObjectsApi().get_namespaced_custom_object(
            group, version, place.namespace, plural, name
        )
        return found

    while (left := deadline - time.monotonic()) > 0:
        if ended := how_it_ended(_answered(read, f"read {name}", left)):
            return ended
        time.sleep(POLL_SECONDS)
    return ""


def _answered(ask: Callable[[Any], Any], what: str, seconds: float) -> Any:
    """Ask the cluster again and again while it is away; a ServiceError once it refuses, or the time is over."""
    from urllib3.exceptions import HTTPError

    deadline, told = time.monotonic() + seconds, False
    while True:
        client = _api()
        try:
            return ask(client)
        except client.ApiException as error:
            problem = f"{error.status} {error.reason}"
            if not (error.status in (*TRANSIENT, None) or error.status >= 500):
                raise ServiceError(f"The cluster refused to {what}: {problem}.") from None
        except (HTTPError, OSError) as error:
            problem = str(error)
        if time.monotonic() >= deadline:
            raise ServiceError(f"The cluster did not {what} ({problem}); run the same command again later.")
        if not told:
            print(f"The cluster did not {what} ({problem}); trying again.", file=sys.stderr)
            told = True
        time.sleep(POLL_SECONDS)


def how_it_ended(found: Object) -> str:
    """`well`, `badly`, or empty while it runs, from a TrainJob's conditions or a SparkApplication's state."""
    status = found.get("status", {})
    marks = {item["type"] for item in status.get("conditions", []) if item.get("status") == "True"}
    marks.add(status.get("applicationState", {}).get("state", ""))
    if marks & {"Failed", "FAILED", "SUBMISSION_FAILED"}:
        return "badly"
    return "well" if marks & {"Complete", "COMPLETED"} else ""


def _failure(name: str, place: Resources, ended: str) -> Exception | None:
    """What to raise for an object that did not end well: the sentence that a pod left, where there is one."""
    if ended == "well":
        return None
    if not ended:
        return ServiceError(f"{name} did not end within {place.timeout_hours:g} hours and was deleted.")
    unknown = ServiceError(f"{name} failed on the cluster; `kubectl -n {place.namespace} logs` of its pods says why.")
    try:
        listed = _answered(
            lambda client: client.CoreV1Api().list_namespaced_pod(place.namespace), "list pods", REQUEST_SECONDS
        )
    except ServiceError:
        return unknown
    sentence = next((found for pod in listed.items if (found := _sentence_of(pod, name))), "")
    return UserError(sentence) if sentence else unknown


def _sentence_of(pod: Any, name: str) -> str:
    if pod.metadata.name.startswith(name):
        for container in pod.status.container_statuses or []:
            message = container.state.terminated and container.state.terminated.message
            if message and message.startswith("{"):
                return str(json.loads(message.splitlines()[0])["error"])
    return ""


def _delete(name: str, place: Resources) -> None:
    """Delete the object; a cluster that refuses is told of, for the job itself has ended."""
    group, version, plural = PLACES[place.where]

    def delete(client: Any) -> None:
        try:
            client.CustomObjectsApi().delete_namespaced_custom_object(group, version, place.namespace, plural, name)
        except client.ApiException as error:
            if error.status != 404:
                raise

    try:
        _answered(delete, f"delete {name}", REQUEST_SECONDS)
    except ServiceError as error:
        print(error, file=sys.stderr)
