"""A self-contained release, and whether it may be called the best: what the job `register-model` does.

    model/ tokenizer/ detokenizer/   all that `arm generate`, `arm edit` and `arm ask` need
    evaluation/                      scores and verdicts, so that a later release can be compared item by item
    release.json                     name, digests, licences, what its parts were made from, the verdict of every gate,
                                     the benchmarks that rewarded the model, sizes of images where the evaluation names any

The gates compare scores of the evaluation with numbers, with other stages, and with the release that holds the alias now.
When all hold, the alias of the registered MLflow model moves to this version; otherwise the version is registered without
it, and the verdicts say why. Everything in release.json follows from the digests of the inputs: nothing is looked up
outside of their manifests. MLflow itself is told by the sender, from the spool, so a dead tracker keeps nobody waiting.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.config import suggest
from arm.errors import UserError
from arm.manifest import FileEntry, Manifest, Outcome
from arm.outside import outside_files
from arm.storage import Folder, copy_file
from arm.tracking.config import CHAMPION, Gate, RegisterConfig
from arm.tracking.rewarded import read_rewarded

FILE_NAME = "release.json"
RECORDED = "evaluation/"
"""Where a release keeps what it scored."""
Scores = dict[str, dict[str, float]]
"""Stage -> metric -> value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one gate holds, with the numbers."""

    gate: str
    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What the release that holds the alias has to say to one gate."""

    digest: str
    value: float | None
    """Its recorded score; None where it has none that can be compared."""
    why_not: str = "recorded no such score"
    not_lower: bool | None = None
    """What the paired bootstrap says of this release; None where the metric is no mean of items that both have."""
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    num_items: int = 0


def register_release(
    *,
    parts: dict[str, Manifest],
    evaluation: Manifest,
    champion: Manifest | None,
    compared: Mapping[Gate, Against],
    output: Folder,
    config: RegisterConfig,
) -> Outcome:
    """Check the gates, gather a self-contained release, and say whether the alias may move."""
    scores, refusals, comparisons = read_scores(evaluation), read_refusals(evaluation), comparisons_of(evaluation)
    verdicts = [judge(gate, scores, comparisons, refusals, compared.get(gate)) for gate in config.gates]
    verdicts += [judge_licence(licence, parts) for licence in config.refused_licences]
    report = read_contamination(config.contamination)
    verdicts += judge_contamination(report, config.max_contaminated_share)
    num_files = sum(_gather(part, name, output) for name, part in parts.items()) + _record(evaluation, output)
    release = describe({**parts, "evaluation": evaluation}, verdicts, config, report)
    if champion is not None:
        release["champion"] = champion.digest
    if rewarded := read_rewarded(parts["model"]):
        release["rewarded"] = rewarded
        print(f"No independent test of this model, which they rewarded: {', '.join(sorted(rewarded))}.")
    output.write(FILE_NAME, (json.dumps(release, indent=1, sort_keys=True) + "\n").encode())
    for verdict in verdicts:
        print(verdict.sentence)
    num_held = sum(verdict.holds for verdict in verdicts)
    return Outcome(counts={"files": num_files, "gates": len(verdicts), "gates_held": num_held})


def read_scores(manifest: Manifest, prefix: str = "") -> Scores:
    """Stage -> metric -> value, of an evaluation or of the scores that a release recorded; empty where it has none."""
    path = f"{prefix}scores.json"
    found: Scores = json.loads(manifest.local(path).read_text()) if manifest.select(path) else {}
    return found


def read_refusals(evaluation: Manifest) -> dict[tuple[str, str], str]:
    """(stage, metric) of every refused headline -> why it was refused."""
    found: dict[tuple[str, str], Any] = {}
    if evaluation.select("protocols.json"):
        for stage, records in json.loads(evaluation.local("protocols.json").read_text()).items():
            found |= {
                (stage, f"{name}/{record['headline']}"): record.get("refused") for name, record in records.items()
            }
    for entry in evaluation.select("benchmarks/", "/scores.json"):
        _, stage, name, _ = entry.path.rsplit("/", 3)
        record = json.loads(evaluation.local(entry).read_text())
        found[stage, f"{name}/{record['headline']}"] = record.get("refused")
    return {key: str(reason) for key, reason in found.items() if reason}


def judge(
    gate: Gate,
    scores: Scores,
    comparisons: list[dict[str, Any]],
    refusals: Mapping[tuple[str, str], str] | None = None,
    champion: Against | None = None,
) -> Verdict:
    """Hold one gate against the scores.

    {"text_to_image/mean" of finetuned, minimum .40} with .43  ->  holds, "text_to_image/mean of finetuned is 0.430: …"
    """
    name = f"{gate.stage}/{gate.metric}"
    if reason := (refusals or {}).get((gate.stage, gate.metric)):
        return Verdict(gate=name, holds=False, sentence=f"{gate.metric} of {gate.stage} was refused: {reason}.")
    value = _score(scores, gate.stage, gate.metric)
    problems = []
    if gate.minimum is not None and not value >= gate.minimum:  # nan reaches nothing
        problems.append(f"it must be at least {gate.minimum:g}")
    beside = ""
    if gate.not_below == CHAMPION:
        lower, beside = _beside_champion(gate, value, champion)
        problems += lower
    elif gate.not_below is not None:
        other = _score(scores, gate.not_below, gate.metric)
        if not _not_lower(gate, value, other, comparisons):
            problems.append(f"it must not be lower than {other:.3f} of {gate.not_below}")
    seen = f"{gate.metric} of {gate.stage} is {value:.3f}"
    return Verdict(
        gate=name,
        holds=not problems,
        sentence=f"{seen}, but {' and '.join(problems)}." if problems else f"{seen}{beside}: the gate holds.",
    )


def _beside_champion(gate: Gate, value: float, champion: Against | None) -> tuple[list[str], str]:
    """(what is wrong, what is said where nothing is): without a champion there is nothing to lose."""
    if champion is None:
        return [], " and no release holds the alias yet"
    if champion.value is None:
        return [f"the champion {champion.why_not}, so nothing shows that it is not lower"], ""
    allowed = f" by more than {gate.tolerance:g}" if gate.tolerance else ""
    if champion.not_lower is None:
        wrong = [f"it must not be lower than the champion's {champion.value:.3f}{allowed}"]
        return (
            ([], f", the champion's {champion.value:.3f}") if value >= champion.value - gate.tolerance else (wrong, "")
        )
    paired = (
        f"{champion.difference:+.3f}, 95% {champion.low:+.3f} to {champion.high:+.3f}, paired over "
        f"{champion.num_items:,} items"
    )
    if _reaches(champion.not_lower, champion.high, gate):
        return [], f", the champion's {champion.value:.3f} ({paired})"
    return [f"it must not be lower than the champion's {champion.value:.3f}{allowed} ({paired})"], ""


def judge_licence(refused: str, parts: dict[str, Manifest]) -> Verdict:
    """Hold the licences that the parts carry, from their own configs and all that they were made from, against one."""
    found = [name for name, part in parts.items() if refused in part.licences]
    seen = f"The licence {refused} is refused"
    return Verdict(
        gate=f"licence/{refused}",
        holds=not found,
        sentence=f"{seen}, but it is that of {' and '.join(found)}." if found else f"{seen} and no part carries it.",
    )


def read_contamination(path: str) -> dict[str, Any]:
    """The report of `arm check-contamination`; empty where the config names none."""
    if not path:
        return {}
    files = list(outside_files(path).values())
    if len(files) != 1:
        raise UserError(f"{path} holds {len(files)} files; name the one contamination.json.")
    try:
        report: dict[str, Any] = json.loads(files[0].read_bytes())
        shares = {name: (float(found["share"]), int(found["contaminated"])) for name, found in report["sets"].items()}
        if not shares or not all(item["digest"] for item in report["training"]):
            raise ValueError("it names no evaluation set or no training shards")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no report of check-contamination ({error}).") from None
    return report


def judge_contamination(report: dict[str, Any], allowed: float | None) -> list[Verdict]:
    """Hold each evaluation set's share that training has seen against the largest one allowed."""
    if allowed is None:
        return []
    verdicts = []
    for name, found in sorted(report["sets"].items()):
        seen = (
            f"Training has seen {found['contaminated']} of the {found['items']} items of {name} ({found['share']:.2%})"
        )
        holds = found["share"] <= allowed
        sentence = f"{seen}: the gate holds." if holds else f"{seen}, but at most {allowed:.2%} may be."
        verdicts.append(Verdict(gate=f"contamination/{name}", holds=holds, sentence=sentence))
    return verdicts


def describe(
    parts: dict[str, Manifest], verdicts: list[Verdict], config: RegisterConfig, report: dict[str, Any]
) -> dict[str, Any]:
    """What `release.json` says; no time and no path, so the same inputs give the same bytes."""
    seen = {
        "training": [item["digest"] for item in report.get("training", [])],
        "shares": {name: found["share"] for name, found in report.get("sets", {}).items()},
    }
    sizes = sizes_of(parts["evaluation"])
    return {
        **({"contamination": seen} if report else {}),
        **({"sizes": sizes} if sizes else {}),
        "name": config.name,
        "alias": config.alias,
        "alias_moves": all(verdict.holds for verdict in verdicts),
        "digests": {name: part.digest for name, part in parts.items()},
        "gates": [dataclasses.asdict(verdict) for verdict in verdicts],
        "licences": sorted({licence for part in parts.values() for licence in part.licences}),
        "made_from": {name: {"kind": p.kind, "job": p.job, "inputs": p.inputs} for name, p in parts.items()},
    }


def sizes_of(evaluation: Manifest) -> dict[str, Any]:
    """The sizes of images that the evaluation's config names, so that who uses the release reads them at the same; empty
    where it says no more than one side.

    {"image_size": 1024, "edit_resolution": {"min_short_side": 512, "max_long_side": 1024}}
    """
    named = {"read_resolution", "edit_resolution"} & evaluation.config.keys()
    return {name: evaluation.config[name] for name in sorted({"image_size", *named})} if named else {}


def registration_event(release: Manifest) -> dict[str, Any]:
    """What the sender needs to register a published release in MLflow."""
    values = json.loads(release.local(FILE_NAME).read_text())
    return {
        "event": "register",
        "name": values["name"],
        "alias": values["alias"] if values["alias_moves"] else "",
        "source": release.folder.url,
        "digest": release.digest,
        "champion": values.get("champion", "") if _names_champion(release) else None,
        "description": "\n".join(gate["sentence"] for gate in values["gates"]),
        "tags": {
            "arm.digest": release.digest,
            "arm.gates": "held" if values["alias_moves"] else "not held",
            "arm.licences": ", ".join(values["licences"]),
            **({"arm.champion": values["champion"]} if "champion" in values else {}),
            **({"arm.rewarded": ", ".join(sorted(values["rewarded"]))} if "rewarded" in values else {}),
            **{f"arm.{name}": digest for name, digest in values["digests"].items()},
        },
    }


def _gather(part: Manifest, prefix: str, output: Folder) -> int:
    """Link or copy the files under `prefix/` into the release; returns how many there are."""
    entries = part.select(f"{prefix}/")
    if not entries:
        raise UserError(f"{part.url} ({part.kind}) holds no {prefix}/, so no release can be made of it.")
    return _take_over(part, entries, output)


def _record(evaluation: Manifest, output: Folder) -> int:
    """Link or copy scores and verdicts; what was drawn stays with the evaluation."""
    entries = [
        *evaluation.select("scores.json"), *evaluation.select("protocols.json"),
        *evaluation.select("items/", ".verdicts.jsonl"),
        *evaluation.select("benchmarks/", "/scores.json"), *evaluation.select("benchmarks/", "/items.jsonl"),
    ]  # fmt: skip
    return _take_over(evaluation, entries, output, RECORDED)


def _take_over(part: Manifest, entries: Sequence[FileEntry], output: Folder, prefix: str = "") -> int:
    """Link or copy files that are not there yet, below `prefix`; returns how many there are."""
    for entry in entries:
        if not output.exists(prefix + entry.path):
            with output.publish(prefix + entry.path) as path:
                copy_file(part.local(entry), path)
    return len(entries)


def _names_champion(release: Manifest) -> bool:
    return any(gate["not_below"] == CHAMPION for gate in release.config.get("gates", []))


def _score(scores: Scores, stage: str, metric: str) -> float:
    if stage not in scores:
        raise UserError(f"The evaluation has no stage {stage!r} for a gate; {suggest(stage, sorted(scores))}")
    if metric not in scores[stage]:
        raise UserError(f"The evaluation of {stage} has no {metric!r}; {suggest(metric, sorted(scores[stage]))}")
    return scores[stage][metric]


def comparisons_of(evaluation: Manifest) -> list[dict[str, Any]]:
    """Its comparisons of stages, each with the `metric` that was compared: the benchmark's headline."""
    if not evaluation.select("comparisons.json"):
        return []
    found: list[dict[str, Any]] = json.loads(evaluation.local("comparisons.json").read_text())
    protocols = json.loads(evaluation.local("protocols.json").read_text())
    return [
        {**item, "metric": f"{item['benchmark']}/{protocols[item['after']][item['benchmark']]['headline']}"}
        for item in found
    ]


def _not_lower(gate: Gate, value: float, other: float, comparisons: list[dict[str, Any]]) -> bool:
    """The paired bootstrap's answer where the evaluation compared this metric of these stages, else the difference."""
    wanted = (gate.metric, gate.not_below, gate.stage)
    for found in comparisons:
        if (found["metric"], found["before"], found["after"]) == wanted:
            return _reaches(bool(found["not_lower"]), found["high"], gate)
    return value >= other - gate.tolerance


def _reaches(not_lower: bool, high: float, gate: Gate) -> bool:
    """Whether the paired bootstrap's interval, up to `high`, reaches above 0, or down to the tolerance below it."""
    return not_lower or (gate.tolerance > 0 and high >= -gate.tolerance)
