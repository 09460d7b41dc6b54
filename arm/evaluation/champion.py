"""The job `register-model`, with the gates that hold a release against the one that has the alias now.

A release carries the scores it was registered with, and the verdicts behind them, under `evaluation/`:

    evaluation/scores.json  protocols.json  items/<stage>/<benchmark>/*.verdicts.jsonl
    evaluation/benchmarks/<stage>/<benchmark>/scores.json  items.jsonl

So a later release is compared item by item, whatever has become of the store that the champion was made in; and not at
all where `arm/evaluation/protocols.py` says that the two were not measured alike.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from arm.evaluation.baseline import units_of
from arm.evaluation.pairing import Rows, paired_on
from arm.evaluation.protocols import OFFICIAL, OWN, Record, apart
from arm.evaluation.statistics import Estimate, is_not_lower
from arm.manifest import Manifest, Outcome
from arm.storage import Folder
from arm.tracking import registration
from arm.tracking.config import CHAMPION, Gate, RegisterConfig
from arm.tracking.registration import Against, Scores, read_scores

RECORDED = registration.RECORDED


def register_model(
    *,
    model: Manifest,
    tokenizer: Manifest,
    detokenizer: Manifest,
    evaluation: Manifest,
    champion: Manifest | None = None,
    output: Folder,
    config: RegisterConfig,
) -> Outcome:
    """Hold the gates, those against the champion too, and gather a self-contained release."""
    return registration.register_release(
        parts={"model": model, "tokenizer": tokenizer, "detokenizer": detokenizer}, evaluation=evaluation,
        champion=champion, compared=compare_with(champion, evaluation, config.gates), output=output, config=config,
    )  # fmt: skip


def compare_with(champion: Manifest | None, evaluation: Manifest, gates: Sequence[Gate]) -> dict[Gate, Against]:
    """What the champion has to say to each gate that names it."""
    wanted = [gate for gate in gates if gate.not_below == CHAMPION]
    if champion is None or not wanted:
        return {}
    old, new = read_scores(champion, RECORDED), read_scores(evaluation)
    return {gate: _against(gate, champion, evaluation, old, new) for gate in wanted}


def _against(gate: Gate, champion: Manifest, evaluation: Manifest, old: Scores, new: Scores) -> Against:
    """Paired on the items where the metric is a mean of them, else the recorded value alone."""
    value, mine = (scores.get(gate.stage, {}).get(gate.metric) for scores in (old, new))
    if value is None or mine is None:
        return Against(digest=champion.digest, value=value)
    benchmark, _, metric = gate.metric.partition("/")
    here, fields = read_protocol(evaluation, "", gate.stage, benchmark)
    there, _ = read_protocol(champion, RECORDED, gate.stage, benchmark)
    if differing := list(apart(here, there, fields, "there")):
        why_not = f"was measured otherwise ({'; '.join(differing)}; measure both alike)"
        return Against(digest=champion.digest, value=None, why_not=why_not)
    before = list(read_items(champion, RECORDED, gate.stage, benchmark))
    after = list(read_items(evaluation, "", gate.stage, benchmark))
    found = _paired(benchmark, metric, before, after, value, mine)
    if found is None:
        return Against(digest=champion.digest, value=value)
    return Against(
        digest=champion.digest, value=value, not_lower=is_not_lower(found), difference=found.value, low=found.low,
        high=found.high, num_items=found.num_items,
    )  # fmt: skip


def _paired(benchmark: str, metric: str, before: Rows, after: Rows, old: float, new: float) -> Estimate | None:
    """Of what is resampled: the images of a prompt are one unit (GenEval), the rows of a circle too (MMBench); else items."""
    before, after = ([row for row in rows if row["outcome"] == "ok"] for rows in (before, after))
    found = paired_on(metric, units_of(benchmark, before), units_of(benchmark, after), old, new)
    return found or paired_on(metric, before, after, old, new)


def read_items(manifest: Manifest, prefix: str, stage: str, benchmark: str) -> Iterator[dict[str, Any]]:
    """The verdicts of a benchmark at a stage, of the official ones or of ours; none where none were recorded."""
    found = manifest.select(f"{prefix}benchmarks/{stage}/{benchmark}/items.jsonl")
    for entry in found or manifest.select(f"{prefix}items/{stage}/{benchmark}/", ".verdicts.jsonl"):
        with manifest.local(entry).open() as lines:
            yield from map(json.loads, lines)


def read_protocol(manifest: Manifest, prefix: str, stage: str, benchmark: str) -> tuple[Record, Sequence[str]]:
    """How a benchmark was measured at a stage, and the fields that must agree; empty where the artifact does not say."""
    for entry in manifest.select(f"{prefix}benchmarks/{stage}/{benchmark}/scores.json"):
        return json.loads(manifest.local(entry).read_text()).get("protocol", {}), OFFICIAL
    for entry in manifest.select(f"{prefix}protocols.json"):
        return json.loads(manifest.local(entry).read_text()).get(stage, {}).get(benchmark, {}), OWN
    return {}, OFFICIAL
