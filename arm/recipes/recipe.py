"""Recipes: the numbers of a run, one config per step, outside the library.

    Recipe(name="toy", configs={"filter-pairs": FilterConfig(min_caption_words=3), …}, compute={…})

A step is a job at one place of the road: `train-model-pretrain` is the job `train-model` in its first stage. The order
of STEPS numbers the folders of a store; a step of BESIDE is not on the road, and its folder has no number. Recipes differ
in numbers only; no code asks which recipe runs.
A value that comes from the paper cites its table; a value of ours says `ours`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arm.config import suggest
from arm.errors import UserError
from arm.recipes.ablation import Ablation
from arm.recipes.facts import Crawl, DataSet

STEPS: dict[str, str] = {
    "make-world": "make-world",
    "train-teachers": "train-teachers",
    "import-model-encoder": "import-model",
    "import-model-language-model": "import-model",
    "import-model-autoencoder": "import-model",
    "import-samples-training": "import-samples",
    "import-samples-prompts": "import-samples",
    "import-samples-evaluation": "import-samples",
    "extract-pairs": "extract-pairs",
    "filter-pairs": "filter-pairs",
    "download-images": "download-images",
    "curate-images": "curate-images",
    "train-tokenizer": "train-tokenizer",
    "tokenize-images": "tokenize-images",
    "train-detokenizer": "train-detokenizer",
    "train-model-pretrain": "train-model",
    "train-model-continue": "train-model",
    "train-model-finetune": "train-model",
    "train-policy-t2i": "train-policy",
    "train-policy-edit": "train-policy",
    "train-policy-joint": "train-policy",
    "evaluate-model": "evaluate-model",
    "register-model": "register-model",
}
"""Step -> its job, in the order of the road."""
BESIDE: dict[str, str] = {"evaluate-tokenizer": "evaluate-tokenizer", "import-model-backbone": "import-model"}
"""Step -> its job, beside the road: run by hand, or by a pipeline that names it."""


FIXED = ("make-world", "train-teachers")
"""Their seeds say which world it is, not how training went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What one step computes on. Ranks and threads can change the last bits of a float, so they are part of a recipe."""

    ranks: int = 1
    """Processes that compute together (data parallel)."""
    threads: int = 2
    """Threads of each process."""
    cpu: str = "2"
    """CPUs of a pod on a cluster, in Kubernetes units."""
    memory: str = "8Gi"
    """Memory of a pod on a cluster."""
    gpus: int = 0
    """GPUs of each rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a run of the road needs to know."""

    name: str
    purpose: str
    """One sentence: what it is for, how long it takes and where."""
    configs: Mapping[str, Any]
    """Step -> the config of its job."""
    compute: Mapping[str, Compute] = field(default_factory=dict)
    """Step -> what it computes on; a step that is not named gets the defaults."""
    mixtures: Mapping[str, Any] = field(default_factory=dict)
    """Name -> a config of `train-model`: what the pipeline `experiment` compares."""
    ablation: Ablation | None = None
    """What the pipeline `tokenizer-ablation` trains; None where it is not offered."""
    models: Mapping[str, Any] = field(default_factory=dict)
    """Role of an imported model (encoder, language_model, backbone) -> its geometry, for `arm plan`."""
    datasets: Mapping[str, DataSet] = field(default_factory=dict)
    """Name of an imported source -> what is known about it, for `arm plan`; `crawl` is what the crawl gives."""
    crawl: Crawl | None = None
    """What there is to crawl, for `arm plan`."""
    gpu: str = "h100"
    """The GPU that `arm plan` assumes unless it is told another."""

    def __post_init__(self) -> None:
        for step in (*self.configs, *self.compute):
            if step not in (known := [*STEPS, *BESIDE]):
                raise UserError(f"The recipe {self.name} names the step {step!r}; {suggest(step, known)}")

    def config(self, step: str) -> Any:
        """The config of a step; UserError when this recipe does not run it."""
        if step not in self.configs:
            raise UserError(f"The recipe {self.name} has no step {step!r}; {suggest(step, list(self.configs))}")
        return self.configs[step]

    def computes_on(self, step: str) -> Compute:
        """What the step computes on."""
        return self.compute.get(step, Compute())

    def derive(self, name: str, purpose: str, **changes: Any) -> "Recipe":
        """A variant with other configs for some steps (`configs`), and other fields."""
        configs = {**self.configs, **changes.pop("configs", {})}
        return dataclasses.replace(self, name=name, purpose=purpose, configs=configs, **changes)

    def seeded(self, seed: int) -> "Recipe":
        """The recipe with another seed in every step that has one, but for those that make the world; `proof-seed-1`.

        A store holds several: what no seed moves is made once.
        """
        moved = {
            step: dataclasses.replace(config, seed=seed)
            for step, config in self.configs.items()
            if step not in FIXED and any(field.name == "seed" for field in dataclasses.fields(config))
        }
        return self.derive(f"{self.name}-seed-{seed}", f"{self.purpose} Seed {seed}.", configs=moved)


def folder_name(step: str) -> str:
    """The step's folder in a store: `10-filter-pairs`, or the bare name beside the road."""
    return step if step in BESIDE else f"{list(STEPS).index(step) + 1:02}-{step}"


def job_of(step: str) -> str:
    """The job that a step runs."""
    return BESIDE.get(step) or STEPS[step]
