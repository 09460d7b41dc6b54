"""What a job runs on, and what a process that runs it must be told: the same here and in a pod."""

import json
from dataclasses import dataclass
from typing import Literal

from arm import config as configs
from arm.errors import UserError
from arm.jobs import Plan


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job runs on. Ranks and threads can change the last bits of a float, so they belong to the recipe."""

    where: Literal["here", "train-job", "spark-application"] = "here"
    """`here`: this machine; the others: an object of that kind on the cluster."""
    ranks: int = 1
    """Processes that compute together (data parallel)."""
    threads: int = 2
    """Threads of each process; OpenMP, MKL and torch obey it."""
    image: str = ""
    """Container image of a TrainJob or SparkApplication."""
    namespace: str = "kubeflow"
    """Kubernetes namespace of a TrainJob or SparkApplication."""
    cpu: str = "2"
    """CPU request and limit of a pod, in Kubernetes units."""
    memory: str = "8Gi"
    """Memory request and limit of a pod."""
    gpus: int = 0
    """GPUs of each rank."""
    timeout_hours: float = 72.0
    """How long the launcher waits for a cluster object before it deletes it."""

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.threads < 1:
            raise UserError(f"A job needs at least one rank and one thread, not {self.ranks} and {self.threads}.")
        if self.where != "here" and not self.image:
            raise UserError(f"A {self.where} needs a container image; set `image` in the resources.")


def payload_of(plan: Plan, threads: int) -> str:
    """What a rank needs to run the plan, as JSON: the same text on this machine and in a pod."""
    inputs = {name: item.url for name, item in plan.inputs.items()}
    values = {"job": plan.job.name, "output": plan.output, "config": configs.to_json(plan.config), "inputs": inputs}
    return json.dumps({**values, "threads": threads}, sort_keys=True)
