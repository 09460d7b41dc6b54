"""Where each step runs: on this machine, or on a cluster as a pod, a TrainJob or a SparkApplication.

The recipe says how much (ranks, threads, CPUs, memory, GPUs); this file says what that means here and there.
"""

from dataclasses import dataclass
from typing import Any

from arm import config as configs
from arm import jobs
from arm.launch_kubernetes import PASSWORD_KEYS, SECRET, SECRET_KEYS
from arm.recipes import Recipe, job_of
from arm.resources import Resources
from components import images

SPARK_JOBS = ("extract-pairs", "filter-pairs")
TRAIN_JOBS = ("train-tokenizer", "train-detokenizer", "train-model", "train-policy")
ADDRESSES = "arm-addresses"
ADDRESS_KEYS = ("AWS_ENDPOINT_URL", "AWS_REGION", "MLFLOW_TRACKING_URI", "ARM_LINEAGE_URL")
"""Where store, tracker and lineage answer: the config map of infra/kubernetes."""
LAUNCHER_CPU, LAUNCHER_MEMORY = "1", "2Gi"
"""A pod that only starts an object on the cluster and waits for it."""


@dataclass(frozen=True)
class Placement:
    """A recipe's resources, for this machine (`cluster=False`) or for a cluster."""

    recipe: Recipe
    cluster: bool = False

    @property
    def serial(self) -> bool:
        """Whether steps run one by one: two cores gain nothing from two steps at a time."""
        return not self.cluster

    def parts(self, step: str) -> int:
        """Pods that make the step's units apart: one for each rank, where there is a cluster and the job divides."""
        divides = self.cluster and jobs.find(job_of(step)).divisible
        return self.recipe.computes_on(step).ranks if divides else 1

    def resources(self, step: str) -> str:
        """The `Resources` of a step as JSON: what `arm.launch` obeys."""
        compute, place = self.recipe.computes_on(step), self._place(step)
        image = {"train-job": images.MODEL, "spark-application": images.DATA}.get(place, "")
        return configs.to_json(
            Resources(
                where=place,
                image=image,
                ranks=1 if self.parts(step) > 1 else compute.ranks,
                threads=compute.threads,
                cpu=compute.cpu,
                memory=compute.memory,
                gpus=compute.gpus,
            )
        )

    def limit(self, task: Any, step: str) -> None:
        """Set the limits of the task's own pod; a launcher's pod stays small."""
        if not self.cluster:
            return
        from kfp import kubernetes

        compute = self.recipe.computes_on(step)
        launcher = self._place(step) != "here"
        for keys, optional in ((SECRET_KEYS, False), (PASSWORD_KEYS, True)):
            names = {key: key for key in keys}
            kubernetes.use_secret_as_env(task, secret_name=SECRET, secret_key_to_env=names, optional=optional)
        kubernetes.use_config_map_as_env(
            task, config_map_name=ADDRESSES, config_map_key_to_env={k: k for k in ADDRESS_KEYS}
        )
        task.set_cpu_limit(LAUNCHER_CPU if launcher else compute.cpu)
        task.set_memory_limit(LAUNCHER_MEMORY if launcher else compute.memory)
        if compute.gpus and not launcher:
            task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(compute.gpus)

    def _place(self, step: str) -> Any:
        if not self.cluster:
            return "here"
        job = job_of(step)
        if job in SPARK_JOBS:
            return "spark-application"
        return "train-job" if job in TRAIN_JOBS else "here"
