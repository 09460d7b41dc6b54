"""The job `register-model`: a self-contained release, and whether it may be called the best.

    model/ tokenizer/ detokenizer/   all that `arm generate`, `arm edit` and `arm ask` need
    release.json                     name, digests, licences, what it was made from, the verdict of every gate

The gates compare scores of the evaluation with numbers and with other stages. When all hold, the alias of the
registered MLflow model moves to this version; otherwise the version is registered without it, and the verdicts say why.
MLflow itself is told by the sender, from the spool, so a dead tracker keeps nobody waiting.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from arm import manifest as manifests
from arm.config import suggest
from arm.errors import ArmError, UserError
from arm.manifest import Manifest, Outcome
from arm.storage import Folder, copy_file
from arm.tracking.config import Gate, RegisterConfig

FILE_NAME = "release.json"
Scores = dict[str, dict[str, float]]
"""Stage -> metric -> value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one gate holds, with the numbers."""

    gate: str
    holds: bool
    sentence: str


def register_model(
    *,
    model: Manifest,
    tokenizer: Manifest,
    detokenizer: Manifest,
    evaluation: Manifest,
    output: Folder,
    config: RegisterConfig,
) -> Outcome:
    """Check the gates, gather a self-contained release, and say whether the alias may move."""
    scores = json.loads(evaluation.local("scores.json").read_text())
    comparisons = _comparisons(evaluation)
    verdicts = [judge(gate, scores, comparisons) for gate in config.gates]
    parts = {"model": model, "tokenizer": tokenizer, "detokenizer": detokenizer}
    num_files = sum(_gather(part, name, output) for name, part in parts.items())
    release = describe({**parts, "evaluation": evaluation}, verdicts, config)
    output.write(FILE_NAME, (json.dumps(release, indent=1, sort_keys=True) + "\n").encode())
    for verdict in verdicts:
        print(verdict.sentence)
    num_held = sum(verdict.holds for verdict in verdicts)
    return Outcome(counts={"files": num_files, "gates": len(verdicts), "gates_held": num_held})


def judge(gate: Gate, scores: Scores, comparisons: list[dict[str, Any]]) -> Verdict:
    """Hold one gate against the scores.

    {"text_to_image/mean" of finetuned, minimum .40} with .43  ->  holds, "text_to_image/mean of finetuned is 0.430: …"
    """
    value = _score(scores, gate.stage, gate.metric)
    problems = []
    if gate.minimum is not None and value < gate.minimum:
        problems.append(f"it must be at least {gate.minimum:g}")
    if gate.not_below is not None:
        other = _score(scores, gate.not_below, gate.metric)
        if not _not_lower(gate, value, other, comparisons):
            problems.append(f"it must not be lower than {other:.3f} of {gate.not_below}")
    seen = f"{gate.metric} of {gate.stage} is {value:.3f}"
    return Verdict(
        gate=f"{gate.stage}/{gate.metric}",
        holds=not problems,
        sentence=f"{seen}, but {' and '.join(problems)}." if problems else f"{seen}: the gate holds.",
    )


def describe(parts: dict[str, Manifest], verdicts: list[Verdict], config: RegisterConfig) -> dict[str, Any]:
    """What `release.json` says; no time and no path, so the same inputs give the same bytes."""
    ancestors = ancestors_of(parts.values())
    return {
        "name": config.name,
        "alias": config.alias,
        "alias_moves": all(verdict.holds for verdict in verdicts),
        "digests": {name: part.digest for name, part in parts.items()},
        "gates": [dataclasses.asdict(verdict) for verdict in verdicts],
        "licences": sorted({licence for item in ancestors for licence in _licences(item.config)}),
        "made_from": [{"digest": item.digest, "kind": item.kind, "job": item.job} for item in ancestors],
    }


def ancestors_of(parts: Any) -> list[Manifest]:
    """Everything that the parts were made from and that is still in the store, sorted by job and digest.

    `run.json` says where an input lay, the manifest says what its digest was; only what still has it is followed.
    """
    found: dict[str, Manifest] = {}
    waiting = list(parts)
    while waiting:
        item = waiting.pop()
        if item.digest not in found:
            found[item.digest] = item
            waiting += _inputs_of(item)
    return sorted(found.values(), key=lambda item: (item.job, item.digest))


def registration_event(release: Manifest) -> dict[str, Any]:
    """What the sender needs to register a published release in MLflow."""
    values = json.loads(release.local(FILE_NAME).read_text())
    return {
        "event": "register",
        "name": values["name"],
        "alias": values["alias"] if values["alias_moves"] else "",
        "source": release.folder.url,
        "digest": release.digest,
        "description": "\n".join(gate["sentence"] for gate in values["gates"]),
        "tags": {
            "arm.digest": release.digest,
            "arm.gates": "held" if values["alias_moves"] else "not held",
            "arm.licences": ", ".join(values["licences"]),
            **{f"arm.{name}": digest for name, digest in values["digests"].items()},
        },
    }


def _gather(part: Manifest, prefix: str, output: Folder) -> int:
    """Link or copy the files under `prefix/` into the release; returns how many there are."""
    entries = part.select(f"{prefix}/")
    if not entries:
        raise UserError(f"{part.url} ({part.kind}) holds no {prefix}/, so no release can be made of it.")
    for entry in entries:
        if not output.exists(entry.path):
            with output.publish(entry.path) as path:
                copy_file(part.local(entry), path)
    return len(entries)


def _score(scores: Scores, stage: str, metric: str) -> float:
    if stage not in scores:
        raise UserError(f"The evaluation has no stage {stage!r} for a gate; {suggest(stage, sorted(scores))}")
    if metric not in scores[stage]:
        raise UserError(f"The evaluation of {stage} has no {metric!r}; {suggest(metric, sorted(scores[stage]))}")
    return scores[stage][metric]


def _comparisons(evaluation: Manifest) -> list[dict[str, Any]]:
    if not evaluation.select("comparisons.json"):
        return []
    found: list[dict[str, Any]] = json.loads(evaluation.local("comparisons.json").read_text())
    return found


def _not_lower(gate: Gate, value: float, other: float, comparisons: list[dict[str, Any]]) -> bool:
    """The paired bootstrap's answer where the evaluation compared these stages, else the plain difference."""
    wanted = (gate.metric.partition("/")[0], gate.not_below, gate.stage)
    for found in comparisons:
        if (found["benchmark"], found["before"], found["after"]) == wanted:
            return bool(found["not_lower"])
    return value >= other - gate.tolerance


def _inputs_of(item: Manifest) -> list[Manifest]:
    try:
        addresses = json.loads(item.folder.read("run.json"))["inputs"]
        opened = [manifests.load(url) for url in addresses.values()]
    except (ArmError, OSError, ValueError, KeyError):
        return []
    return [made for made in opened if made.digest in item.inputs.values()]


def _licences(values: Any) -> set[str]:
    """Every `licence` in a config, however deep."""
    if isinstance(values, dict):
        own = {values["licence"]} if isinstance(values.get("licence"), str) else set()
        return own.union(*(_licences(value) for value in values.values()))
    if isinstance(values, list):
        return set().union(*(_licences(value) for value in values))
    return set()
