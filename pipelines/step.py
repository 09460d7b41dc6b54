"""A step of a pipeline: one component, called with its folder, its config and its resources.

    step = Step(store, settings, placement)
    pairs = step("extract-pairs", extract_pairs, crawl=world)          the output artifact, for the next step

A pipeline is a plain function over `step`. `build` turns it into a KFP pipeline with one parameter for the store and
one for the config of each step, so the run form of Kubeflow shows every number of the recipe and lets it be changed.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kfp import dsl

from arm import config as configs
from arm import jobs
from arm.recipes import Recipe, folder_name, job_of
from pipelines.resources import Placement

Graph = Callable[["Step"], None]
DESCRIPTIONS = {
    "store": "Folder or s3:// address that holds the run's artifacts, one numbered folder a step.",
    "earlier": "Store whose crawls this one adds to, its own perhaps: training sees all of them. Empty: this crawl alone.",
    "attempt": "2 asks again, and only, for what the download of this crawl in `earlier` got no answer to; 3 after 2.",
    "mixtures": "What to compare: a list of {label, config of train-model as JSON}.",
    "ablation": "What to train: a list of {label, tokenizer, detokenizer, …}: the configs of one row and seed as JSON.",
}


class Step:
    """Calls components. Run here, steps follow one another in the order of the road; a cluster runs what is ready."""

    def __init__(self, store: Any, settings: Mapping[str, Any], placement: Placement) -> None:
        self.store, self._settings, self._placement = store, settings, placement
        self._last: dsl.PipelineTask | None = None

    def __call__(self, name: str, component: Any, **inputs: Any) -> Any:
        """Add a task of the road and return its output artifact; inputs that are None are left out."""
        return self._next(name, component, inputs).output

    def in_parts(self, name: str, component: Any, part_component: Any, **inputs: Any) -> Any:
        """Like a call; on a cluster, as many parts as the recipe gives ranks make the units first, each in a pod."""
        num_parts = self._placement.parts(name)
        if num_parts == 1:
            return self(name, component, **inputs)
        parts = [f"{index}/{num_parts}" for index in range(num_parts)]
        with dsl.ParallelFor(parts, name=f"parts-of-{name}") as part:
            made = self._task(name, part_component, folder_name(name), self._settings[name], {**inputs, "part": part})
        return self._next(name, component, inputs).after(made).output

    def variant(self, name: str, component: Any, *, folder: str, config: Any = None, **inputs: Any) -> Any:
        """Add a task like the step `name` that writes into another folder, with another config."""
        settled = self._settings[name] if config is None else config
        return self._task(name, component, folder, settled, inputs).output

    def place(self, task: Any, name: str) -> None:
        """Settle a task: no KFP caching (jobs reuse by content key), and a pod's limits on a cluster."""
        task.set_caching_options(False)
        self._placement.limit(task, name)

    def runs(self, name: str) -> bool:
        """Whether the recipe has this step."""
        return name in self._settings

    def setting(self, name: str) -> Any:
        """A parameter of the pipeline."""
        return self._settings[name]

    @property
    def parallelism(self) -> int | None:
        """Turns of an ablation's loop at a time: the recipe's on this machine, without a limit on a cluster."""
        ablation = self._placement.recipe.ablation
        return ablation.parallelism if ablation and self._placement.serial else None

    def _next(self, name: str, component: Any, inputs: Mapping[str, Any]) -> Any:
        """The step's own task, after the step before where they run one by one."""
        task = self._task(name, component, folder_name(name), self._settings[name], inputs)
        if self._placement.serial and self._last is not None:
            task.after(self._last)
        self._last = task
        return task

    def _task(self, name: str, component: Any, folder: str, config: Any, inputs: Mapping[str, Any]) -> Any:
        given = {key: value for key, value in inputs.items() if value is not None}
        resources = self._placement.resources(name)
        task = component(**given, output=f"{self.store}/{folder}", config=config, resources=resources)
        self.place(task, name)
        return task


def build(graph: Graph, recipe: Recipe, placement: Placement, *, steps: Iterable[str]) -> Any:
    """Make a KFP pipeline of a graph; its parameters are the store and the recipe's config of each step of the graph."""
    defaults: dict[str, Any] = {"store": f"store/{recipe.name}"}
    defaults |= {"earlier": "", "attempt": 1} if "filter-pairs" in steps else {}
    defaults |= {step: configs.to_json(recipe.config(step)) for step in steps}
    defaults |= LOOPS.get(graph.__name__, lambda _: {})(recipe)
    names = {step: step.replace("-", "_") for step in defaults}

    def pipeline(*given: Any) -> None:
        settings = dict(zip(defaults, given, strict=True))
        graph(Step(settings["store"], settings, placement))

    pipeline.__signature__ = inspect.Signature([_parameter(names[key], value) for key, value in defaults.items()])
    pipeline.__doc__ = _describe(graph, names)
    return dsl.pipeline(name=f"arm-{graph.__name__}-{recipe.name}".replace("_", "-"))(pipeline)


def _mixtures(recipe: Recipe) -> dict[str, list[dict[str, str]]]:
    named = recipe.mixtures.items()
    return {"mixtures": [{"label": name, "config": configs.to_json(value)} for name, value in named]}


def _ablation(recipe: Recipe) -> dict[str, list[dict[str, str]]]:
    assert recipe.ablation, "pipelines.run refuses a recipe without one"
    return {"ablation": recipe.ablation.runs()}


LOOPS: dict[str, Callable[[Recipe], dict[str, list[dict[str, str]]]]] = {
    "experiment": _mixtures,
    "tokenizer_ablation": _ablation,
}
"""Graph -> the parameter that its loop goes over."""


def _parameter(name: str, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=type(default))


def _describe(graph: Graph, names: Mapping[str, str]) -> str:
    """A docstring that KFP reads: what the pipeline does, then one line a parameter."""
    lines = [f"    {name}: {DESCRIPTIONS.get(key) or _config_of(key)}" for key, name in names.items()]
    return "\n".join([(graph.__doc__ or "").splitlines()[0], "", "Args:", *lines])


def _config_of(step: str) -> str:
    return f"Config of {step} as JSON. {jobs.find(job_of(step)).purpose}"
