"""The benchmarks that `evaluate-model` was asked for, on the stages of the store and on a model from elsewhere.

Numbers go into scores.json as `<benchmark>/<metric>` under their subject, without a refused headline, so that a release can
name them in its gates; protocols, items and images lie below `benchmarks/`.
"""

from collections.abc import Mapping, Sequence

from arm.errors import UserError
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.benchmarks.result import Result
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.losses import account
from arm.evaluation.models.kinds import find, load
from arm.evaluation.models.model import Model
from arm.evaluation.official.classifying import classify
from arm.evaluation.official.identity import model_record, tools_digests, tools_record
from arm.evaluation.official.readiness import check_machine, open_data
from arm.evaluation.official.run import RESULTS, Bench, open_bench, run_answers, run_images, score
from arm.evaluation.official.suites import SUITES
from arm.evaluation.subject import Subject
from arm.storage import Folder

ELSEWHERE = "model"
"""The subject that is no stage of the store: the model that the config names."""
MAX_REASONS = 3
"""Reasons of failures that are told of a benchmark."""
Found = dict[str, Result]
"""Benchmark -> result."""


def check(config: EvaluateConfig) -> dict[str, Files]:
    """Benchmark -> its data; UserError, before anything is loaded, where data or a judge lack, or the model cannot do it."""
    data = {name: open_data(name, config.official) for name in config.benchmarks if name in SUITES}
    for name, files in data.items():
        if config.model.model and SUITES[name].task != "classify":
            find(config.model, SUITES[name].task)
        check_machine(SUITES[name], files, config.official)
    return data


def check_asked(data: Mapping[str, Files], *, has_model: bool, has_encoder: bool) -> None:
    """UserError where a benchmark would have nobody to ask, and so be left out in silence."""
    for name in data:
        if SUITES[name].task == "classify" and not has_encoder:
            raise UserError(
                f"The benchmark {name} is asked of a visual tokenizer: give the inputs tokenizer, detokenizer and encoder."
            )
        if SUITES[name].task != "classify" and not has_model:
            raise UserError(
                f"There is nobody to ask {name}: give --model, or the stages of a store with tokenizer and detokenizer."
            )


def run_on(subject: Subject, identity: Mapping[str, str], data: Mapping[str, Files], output: Folder) -> Found:
    """What a subject of the store is asked: the reference what only the tools need, a stage everything else."""
    names = [name for name in data if (SUITES[name].task == "classify") == (subject.generator is None)]
    if not names:
        return {}
    if subject.generator is None:
        return {name: _classified(_bench(name, subject.name, data, subject.config, output), subject) for name in names}
    from arm.evaluation.models.ours import Ours

    model = Ours(
        subject, subject.name, {**identity, "files": tools_digests(subject.tools, ("tokenizer", "detokenizer"))}
    )
    return _ask(names, subject.name, ("ours", model), data, subject.config, output)


def run_elsewhere(data: Mapping[str, Files], config: EvaluateConfig, output: Folder) -> Found:
    """What the model that the config names is asked; nothing where it names none."""
    names = [name for name in data if SUITES[name].task != "classify"]
    if not names or not config.model.model:
        return {}
    model = load(config.model, SUITES[names[0]].task)
    return _ask(names, ELSEWHERE, (config.model.kind, model), data, config, output)


def check_failed(scored: Mapping[str, Found], config: EvaluateConfig) -> None:
    """UserError where the model or the questioner failed on items: published, they would never be asked again."""
    told, total = list[str](), 0
    for place, result in (
        (f"{subject}/{name}", one) for subject, found in scored.items() for name, one in found.items()
    ):
        if number_lost := sum(result.lost.values()):
            frequent = list(account((), number_lost, result.lost).items())
            shown = "; ".join(f"{number:,} × {reason}" for reason, number in frequent[:MAX_REASONS])
            more = "; …" if len(frequent) > MAX_REASONS else ""
            told.append(f"{number_lost:,} of {place} ({shown}{more})")
            total += number_lost
    if told and not config.official.publish_failed:
        raise UserError(
            f"{total:,} items failed: {', '.join(told)}; nothing is published, and the same command asks for these alone "
            "again. Where they fail for good, --official.publish-failed true publishes without them, their headline refused."
        )


def _ask(
    names: Sequence[str], subject: str, asked: tuple[str, Model], data: Mapping[str, Files], config: EvaluateConfig,
    output: Folder,
) -> Found:  # fmt: skip
    kind, model = asked
    results: Found = {}
    for name in names:
        bench = _bench(name, subject, data, config, output)
        (run_answers if bench.suite.task == "answer" else run_images)(bench, model, kind)
        seeds = {"images_a_prompt": bench.num_seeds} if bench.suite.task == "generate_images" else {}
        results[name] = score(bench, model_record(kind, model) | seeds)
    return results


def _classified(bench: Bench, subject: Subject) -> Result:
    name = f"{RESULTS}/{bench.suite.result}"
    (classes,) = bench.suite.names(bench.data)
    if not bench.output.exists(name):
        bench.output.write(name, classify(bench.data, classes, subject, bench.scratch))
    return score(bench, tools_record(subject))


def _bench(name: str, subject: str, data: Mapping[str, Files], config: EvaluateConfig, output: Folder) -> Bench:
    return open_bench(
        name, subject, data[name], config.official, output,
        batch_size=config.model.batch_size if subject == ELSEWHERE else config.batch_size,
        num_bootstraps=config.num_bootstraps, seed=config.seed,
    )  # fmt: skip
