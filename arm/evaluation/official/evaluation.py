"""The benchmarks that `evaluate-model` was asked for, on the stages of the store and on a model from elsewhere.

Numbers go into scores.json as `<benchmark>/<metric>` under their subject, without a refused headline, so that a release can
name them in its gates; protocols, items and images lie below `benchmarks/`.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch

from arm.device import computing_dtype
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.benchmarks.result import Result
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.models.kinds import find, load
from arm.evaluation.models.model import Model
from arm.evaluation.official.classifying import classify
from arm.evaluation.official.run import RESULTS, Bench, open_bench, run_answers, run_images, score
from arm.evaluation.official.suites import SUITES, open_data
from arm.evaluation.subject import Subject, Tools
from arm.manifest import Manifest
from arm.storage import Folder

REFERENCE, ELSEWHERE = "reference", "model"
"""Subjects that are no stage: the tools, and the model that the config names."""
Scored = dict[str, dict[str, Result]]
"""Subject -> benchmark -> result."""


def names_of(config: EvaluateConfig) -> list[str]:
    """The benchmarks of other authors that are asked for, in their order."""
    return [name for name in config.benchmarks if name in SUITES]


def check(config: EvaluateConfig) -> dict[str, Files]:
    """Benchmark -> its data; UserError, before anything is loaded, where data lack or the model cannot be asked."""
    data = {name: open_data(name, config.official) for name in names_of(config)}
    for name in data:
        if config.model.model and SUITES[name].task != "classify":
            find(config.model, SUITES[name].task)
    return data


def run_official(
    data: Mapping[str, Files],
    tools: Tools | None,
    stages: Mapping[str, Manifest],
    config: EvaluateConfig,
    output: Folder,
) -> Scored:
    """Run them; one model is in memory at a time."""
    results: Scored = {}
    asked = [name for name in data if SUITES[name].task != "classify"]
    for name in data:
        if name not in asked and tools is not None:
            bench = _bench(name, REFERENCE, data[name], config, output)
            results.setdefault(REFERENCE, {})[name] = _classified(bench, Subject(name=REFERENCE, tools=tools))
    for subject, kind, model in _models(asked, tools, stages, config):
        for name in asked:
            bench = _bench(name, subject, data[name], config, output)
            (run_answers if bench.suite.task == "answer" else run_images)(bench, model, kind)
            results.setdefault(subject, {})[name] = score(bench)
    return results


def values_of(results: Mapping[str, Result]) -> dict[str, float]:
    """`<benchmark>/<metric>` -> value, without refused headlines."""
    return {
        f"{name}/{metric}": round(found.value, 6)
        for name, result in results.items()
        for metric, found in result.scores.published().items()
    }


def _models(
    names: Sequence[str], tools: Tools | None, stages: Mapping[str, Manifest], config: EvaluateConfig
) -> Iterator[tuple[str, str, Model]]:
    """(subject, kind, model) of every stage, then of the model from elsewhere."""
    if not names:
        return
    if stages:
        from arm.evaluation.models.ours import Ours
        from arm.model.generation import Generator

        assert tools is not None
        dtype = getattr(torch, computing_dtype(config.dtype))
        for name, manifest in stages.items():
            generator = Generator.from_pretrained(manifest.local_folder("model"), dtype)
            subject = Subject(name=name, tools=tools, generator=generator)
            yield name, "ours", Ours(subject, name, {"model": manifest.digest})
    if config.model.model:
        yield ELSEWHERE, config.model.kind, load(config.model, SUITES[names[0]].task)


def _classified(bench: Bench, subject: Subject) -> Result:
    name = f"{RESULTS}/{bench.suite.result}"
    (classes,) = bench.suite.parts(bench.data).values()
    if not bench.output.exists(name):
        bench.output.write(name, classify(bench.data, bench.images, classes, subject, bench.scratch))
    return score(bench)


def _bench(name: str, subject: str, data: Files, config: EvaluateConfig, output: Folder) -> Bench:
    return open_bench(
        name, subject, data, config.official, output,
        batch_size=config.model.batch_size if subject == ELSEWHERE else config.batch_size,
        num_bootstraps=config.num_bootstraps, seed=config.seed,
    )  # fmt: skip
