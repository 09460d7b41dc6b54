"""The job `evaluate-model`: every benchmark at every training stage, on the same items with the same sampling seeds.

scores.json         {subject: {"<benchmark>/<metric>": value}}         subject: a stage, or `reference`
protocols.json      {subject: {benchmark: {intervals, counts, how it was measured, why refused, why items have no score}}}
comparisons.json    [{benchmark, before, after, difference, low, high, not_lower}]      paired bootstrap
rewarded.json       {stage: {benchmark: [what rewarded its model]}}     where a benchmark's rubric or rule did
items/…             every item's output, reply and verdict; images/…  picture grids
benchmarks/…        other authors' benchmarks: arm/evaluation/official
"""

import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import torch

from arm.device import computing_dtype, make_deterministic
from arm.errors import UserError
from arm.evaluation import benchmark as benchmarks
from arm.evaluation.benchmark import Benchmark, Scores
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from arm.evaluation.gallery import write_gallery
from arm.evaluation.items import verdict_row
from arm.evaluation.losses import account, reasons_of
from arm.evaluation.official import evaluation as official
from arm.evaluation.pairing import Mean, paired
from arm.evaluation.runner import Result, run_benchmark
from arm.evaluation.statistics import Estimate, Weighting, is_not_lower
from arm.evaluation.subject import Subject, Tools
from arm.manifest import Manifest, Outcome
from arm.storage import Folder
from arm.tokenizer.loading import detokenizer_folder
from arm.tokenizer.protocol import tokenizer_folder
from arm.tracking import tracker
from arm.tracking.rewarded import read_rewarded, write_rewarded

REFERENCE = "reference"
"""The subject of what is measured once: the tools and the baselines."""
Results = dict[str, dict[str, Result]]
"""Subject -> benchmark -> result."""
Scored = dict[str, official.Found]
"""The same of other authors' benchmarks."""


def evaluate_model(
    *,
    samples: Manifest | None = None,
    tokenizer: Manifest | None = None,
    detokenizer: Manifest | None = None,
    encoder: Manifest | None = None,
    pretrained: Manifest | None = None,
    continued: Manifest | None = None,
    finetuned: Manifest | None = None,
    t2i_policy: Manifest | None = None,
    edit_policy: Manifest | None = None,
    joint_policy: Manifest | None = None,
    output: Folder,
    config: EvaluateConfig,
) -> Outcome:
    """Score the tools, the baselines and every stage that is given; write scores, intervals and pictures."""
    make_deterministic(config.seed, config.num_threads or None)
    stages = {
        "pretrained": pretrained, "continued": continued, "finetuned": finetuned,
        "t2i_policy": t2i_policy, "edit_policy": edit_policy, "joint_policy": joint_policy,
    }  # fmt: skip
    given = {name: model for name, model in stages.items() if model is not None}
    data = official.check(config)
    chosen = [benchmarks.find(name) for name in config.benchmarks if name not in data]
    tools = _tools(tokenizer, detokenizer, encoder, config)
    if chosen and (samples is None or tools is None):
        raise UserError(
            f"The benchmark {chosen[0].name} needs the inputs samples, tokenizer and detokenizer; give them, or choose "
            "benchmarks that bring their own data."
        )
    if given and tools is None:
        raise UserError("A stage of the store needs the inputs tokenizer and detokenizer.")
    official.check_asked(data, has_model=bool(given or config.model.model), has_encoder=bool(tools and tools.encoder))
    evaluation_set = read_evaluation_set(samples, config) if chosen and samples else None
    results, scored = _run_all(chosen, tools, given, evaluation_set, data, output) if tools else ({}, {})
    if found := official.run_elsewhere(data, config, output):
        scored[official.ELSEWHERE] = found
    official.check_failed(scored, config)
    _write_scores(results, scored, evaluation_set, config, output)
    write_rewarded({stage: told for stage, model in given.items() if (told := read_rewarded(model))}, output)
    write_gallery(results, config.num_grid_images, output)
    return _outcome(results, scored, evaluation_set)


def _tools(
    tokenizer: Manifest | None, detokenizer: Manifest | None, encoder: Manifest | None, config: EvaluateConfig
) -> Tools | None:
    if tokenizer is None or detokenizer is None:
        return None
    return Tools(
        tokenizer=tokenizer_folder(tokenizer), detokenizer=detokenizer_folder(detokenizer),
        encoder=encoder.local_folder("model") if encoder else None, config=config,
    )  # fmt: skip


def _run_all(
    chosen: list[Benchmark], tools: Tools, models: Mapping[str, Manifest], evaluation_set: EvaluationSet | None,
    data: Mapping[str, Files], output: Folder,
) -> tuple[Results, Scored]:  # fmt: skip
    """Our own benchmarks, where there is a set for them, and those of other authors."""
    results: Results = {}
    scored: Scored = {}
    for step, subject in enumerate(_subjects(tools, models)):
        if evaluation_set is not None:
            wanted = "reference" if subject.name == REFERENCE else "model"
            results[subject.name] = {
                benchmark.name: run_benchmark(benchmark, subject, evaluation_set, output)
                for benchmark in chosen
                if benchmark.subject == wanted
            }
            tracker.log(_flat(subject.name, results[subject.name]), step=step)
        identity = {"model": models[subject.name].digest} if subject.name in models else {}
        if found := official.run_on(subject, identity, data, output):
            scored[subject.name] = found
    return results, scored


def _subjects(tools: Tools, models: Mapping[str, Manifest]) -> Iterator[Subject]:
    """The reference, then each stage; one model is in memory at a time."""
    yield Subject(name=REFERENCE, tools=tools)
    for name, manifest in models.items():
        from arm.model.generation import Generator

        dtype = getattr(torch, computing_dtype(tools.config.dtype))
        yield Subject(
            name=name, tools=tools, generator=Generator.from_pretrained(manifest.local_folder("model"), dtype)
        )


def _write_scores(
    results: Results,
    scored: Scored,
    evaluation_set: EvaluationSet | None,
    config: EvaluateConfig,
    output: Folder,
) -> None:
    values = {subject: _values(found) for subject, found in results.items()}
    for subject, others in scored.items():
        values[subject] = values.get(subject, {}) | _values(others)
    protocols = (
        {}
        if evaluation_set is None
        else {
            subject: {name: protocol(result, evaluation_set, config) for name, result in found.items()}
            for subject, found in results.items()
        }
    )
    stages = {subject: found for subject, found in results.items() if subject != REFERENCE}
    for name, content in (
        ("scores.json", values), ("protocols.json", protocols), ("comparisons.json", compare_stages(stages, config)),
    ):  # fmt: skip
        output.write(name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def protocol(result: Result, evaluation_set: EvaluationSet, config: EvaluateConfig) -> dict[str, Any]:
    """How a benchmark's numbers came about, so that nobody compares two that were not measured alike."""
    scores, sampling = result.scores, config.sampling
    return {
        "dataset": evaluation_set.digest,
        "checker": config.checker,
        "aggregation": scores.aggregation,
        "headline": scores.headline,
        "refused": scores.refused,
        "num_expected": scores.num_expected,
        "num_scored": scores.num_scored,
        "num_failed": scores.num_failed,
        "num_missing": scores.num_missing,
        "unscored": account(reasons_of(result.verdicts), scores.num_failed + scores.num_missing),
        "interval": f"95%, bootstrap over items within a group, {config.num_bootstraps} resamples",
        "sampling": {
            "temperature": sampling.temperature, "edit_temperature": config.edit_temperature,
            "top_k": sampling.top_k, "top_p": sampling.top_p,
            "guidance_text": sampling.guidance_text, "guidance_image": sampling.guidance_image, "seed": config.seed,
        },
        "images": {**config.sizes, "render_steps": config.render_steps, "render_guidance": config.render_guidance},
        "answer_tokens": config.answer_tokens,
        "estimates": {name: _rounded(found) for name, found in sorted(scores.published().items())},
    }  # fmt: skip


def compare_stages(stages: Results, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Each stage with every earlier one, on the items that both scored: is the later one lower?"""
    compared = []
    for before, after in combinations(stages, 2):
        for name in stages[after]:
            if name in stages[before]:
                difference = _difference(stages[before][name], stages[after][name], config)
                if difference is not None:
                    compared.append(
                        {"benchmark": name, "before": before, "after": after, "not_lower": is_not_lower(difference)}
                        | {
                            "difference" if key == "value" else key: value
                            for key, value in _rounded(difference).items()
                        }
                    )
    return compared


def _difference(before: Result, after: Result, config: EvaluateConfig) -> Estimate | None:
    mean = Mean(field="strict", weighting=weighting_of(after.scores), factor=1.0)
    old, new = ([verdict_row(verdict) for verdict in result.verdicts] for result in (before, after))
    return paired(old, new, mean, num_bootstraps=config.num_bootstraps, seed=config.seed)


def weighting_of(scores: Scores) -> Weighting:
    """How a benchmark of ours weighs its groups."""
    return "macro" if scores.aggregation == "mean of the group means" else "micro"


def _outcome(results: Results, scored: Scored, evaluation_set: EvaluationSet | None) -> Outcome:
    every = [item.scores for of_all in (results, scored) for found in of_all.values() for item in found.values()]
    counts = {
        "stages": len((results.keys() | scored.keys()) - {REFERENCE}),
        "items_failed": sum(scores.num_failed for scores in every),
        "items_missing": sum(scores.num_missing for scores in every),
    }
    if evaluation_set is not None:
        counts |= {
            "prompts": len(evaluation_set.prompts), "questions": len(evaluation_set.questions),
            "edits": len(evaluation_set.edits), "images": len(evaluation_set.images),
        }  # fmt: skip
    metrics = {name: value for subject, found in results.items() for name, value in _flat(subject, found).items()}
    for subject, others in scored.items():
        metrics |= _flat(subject, others)
    if not every:
        raise UserError("Nothing was evaluated: no stage was given and no benchmark of the reference was chosen.")
    return Outcome(counts=counts, metrics=metrics)


def _flat(subject: str, found: Mapping[str, Result] | official.Found) -> dict[str, float]:
    return {f"{subject}/{name}": value for name, value in _values(found).items()}


def _values(found: Mapping[str, Result] | official.Found) -> dict[str, float]:
    """`<benchmark>/<metric>` -> value, without refused headlines."""
    return {
        f"{name}/{metric}": round(value.value, 6)
        for name, result in found.items()
        for metric, value in result.scores.published().items()
    }


def _rounded(found: Estimate) -> dict[str, Any]:
    return {
        "value": round(found.value, 6), "low": round(found.low, 6), "high": round(found.high, 6),
        "num_items": found.num_items,
    }  # fmt: skip
