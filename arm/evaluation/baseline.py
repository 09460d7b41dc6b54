"""An evaluation beside another one, a baseline's: every benchmark and category paired by item, with its 95% bootstrap interval.

    items that both scored       resampled together: prompts of GenEval, circles of MMBench, images of MME, else items
    items that one alone scored  counted
    another protocol             no number: `arm/evaluation/protocols.py` says what must be the same

Official benchmarks and our own; a subject meets the one of the same name, or the only one that the baseline has.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.evaluation.benchmarks.mmbench import CIRCLE
from arm.evaluation.benchmarks.mme import TASKS
from arm.evaluation.page.official.comparisons import TOO_FEW, Compared, Difference
from arm.evaluation.page.official.reading import Measured, read_measured
from arm.evaluation.page.scores import REFERENCE, read_protocols
from arm.evaluation.page.store import Step, read_lines
from arm.evaluation.pairing import RESAMPLES, SEED, Mean, paired
from arm.evaluation.protocols import CAUTIONS, OFFICIAL, OWN, Record, apart
from arm.evaluation.statistics import Estimate, Weighting

Rows = Sequence[Mapping[str, Any]]
PERCEPTION = TASKS["Perception"]
THERE = "in the baseline"
FEWEST = 5
"""Fewer items in common say nothing: their bootstrap interval is too narrow. Ours."""
MAX_CATEGORIES = 40
"""ImageNet's thousand classes are not compared one by one."""
HEADLINES: Mapping[str, Mean] = {
    "geneval": Mean(field="score", weighting="macro", factor=1.0),
    "dpg": Mean(field="score", weighting="micro", factor=100.0),
    "gedit_en": Mean(field="score", weighting="macro", factor=10.0),
    "gedit_cn": Mean(field="score", weighting="macro", factor=10.0),
    "imgedit": Mean(field="score", weighting="macro", factor=5.0),
    "mme": Mean(field="score", weighting="macro", factor=float(len(PERCEPTION))),
    "gqa": Mean(field="score", weighting="micro", factor=100.0),
    "vqav2": Mean(field="score", weighting="micro", factor=100.0),
}
"""Benchmark -> the mean of its items that is its headline; of the others the mean over all items. WISE's weights are the
shares of its categories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One benchmark of one subject, ready to be compared."""

    subject: str
    benchmark: str
    metric: str
    protocol: Record
    fields: Sequence[str]
    """Of the protocol: what must be the same."""
    rows: Callable[[], Rows]
    """One verdict an item."""
    mean: Mean


def compare_with(
    evaluation: Step, baseline: Step, *, num_bootstraps: int = RESAMPLES, seed: int = SEED
) -> list[Compared]:
    """Each benchmark of each subject beside the baseline's, in the order of the page."""
    before, found = list(entries_of(baseline)), list[Compared]()
    alone = list(before)
    for entry in entries_of(evaluation):
        other = partner_of(entry, before)
        if other is None:
            found.append(_alone(entry, "the baseline was not asked"))
        else:
            found.append(_compare(entry, other, num_bootstraps, seed))
            alone = [item for item in alone if item is not other]
    return found + [_alone(entry, "the baseline alone was asked") for entry in alone]


def _alone(entry: Entry, why: str) -> Compared:
    return Compared(subject=entry.subject, benchmark=entry.benchmark, alone=why)


def entries_of(step: Step) -> Iterator[Entry]:
    """Our own benchmarks at every stage, then the official ones."""
    for subject, found in read_protocols(step).items():
        for name, record in found.items() if subject != REFERENCE else ():
            weighting: Weighting = "macro" if record.get("aggregation") == "mean of the group means" else "micro"
            yield Entry(
                subject=subject, benchmark=name, metric=str(record.get("headline", "")), protocol=record, fields=OWN,
                rows=_verdicts(step, subject, name), mean=Mean(field="strict", weighting=weighting, factor=1.0),
            )  # fmt: skip
    for item in read_measured(step)[0]:
        yield _official(item)


def partner_of(entry: Entry, others: Sequence[Entry]) -> Entry | None:
    """The same benchmark of the subject of that name, else of the only subject that has it."""
    same = [other for other in others if other.benchmark == entry.benchmark]
    named = [other for other in same if other.subject == entry.subject]
    return named[0] if named else same[0] if len(same) == 1 else None


def _official(item: Measured) -> Entry:
    return Entry(
        subject=item.subject, benchmark=item.benchmark, metric=str(item.record["headline"]), rows=lambda: item.items,
        protocol=item.protocol, fields=OFFICIAL,
        mean=HEADLINES.get(item.benchmark, Mean(field="score", weighting="micro", factor=1.0)),
    )  # fmt: skip


def _cautions(entry: Entry, other: Entry) -> Iterator[str]:
    """What may differ in other authors' benchmarks; of two models of one name also what tells them apart."""
    if entry.fields is not OFFICIAL:
        return
    models = [side.protocol.get("model") or {} for side in (entry, other)]
    alike = models[0].get("name") == models[1].get("name")
    yield from apart(entry.protocol, other.protocol, (*CAUTIONS, "model") if alike else CAUTIONS, THERE)


def _verdicts(step: Step, subject: str, benchmark: str) -> Callable[[], Rows]:
    def read() -> Rows:
        found = step.manifest.select(f"items/{subject}/{benchmark}/", ".verdicts.jsonl")
        return [row for entry in found for row in read_lines(step, entry.path)]

    return read


def _compare(entry: Entry, other: Entry, num_bootstraps: int, seed: int) -> Compared:
    sides = [{str(row["uid"]): row for row in side.rows()} for side in (entry, other)]
    new, old = ({uid: row for uid, row in side.items() if row["outcome"] == "ok"} for side in sides)
    common = [uid for uid in new if uid in old]
    differing = tuple(apart(entry.protocol, other.protocol, entry.fields, THERE))
    result = Compared(
        subject=entry.subject, other=other.subject, benchmark=entry.benchmark, apart=differing,
        cautions=tuple(_cautions(entry, other)), num_common=len(common), num_only_here=len(new) - len(common),
        num_only_there=len(old) - len(common),
    )  # fmt: skip
    if differing:
        return result
    whole = whole_units(entry.benchmark, common, sides[0].keys() | sides[1].keys())
    after, before = ([side[uid] for uid in whole] for side in (new, old))
    found = differences(entry, before, after, num_bootstraps=num_bootstraps, seed=seed)
    return dataclasses.replace(result, differences=tuple(found))


def differences(entry: Entry, before: Rows, after: Rows, *, num_bootstraps: int, seed: int) -> Iterator[Difference]:
    """The headline's, then each category's; of rows that both scored, in the same order."""
    settings = {"num_bootstraps": num_bootstraps, "seed": seed}
    if entry.benchmark == "pope":
        yield from _differences_of_f1(before, after, **settings)
        return
    old, new = (units_of(entry.benchmark, rows) for rows in (before, after))
    groups = list(dict.fromkeys(str(row["group"]) for row in new))
    mean, factor, main = entry.mean, entry.mean.factor, [old, new]
    if entry.benchmark == "mme":  # a sum over the tasks of perception that both have
        main = [[row for row in rows if row["group"] in PERCEPTION] for rows in main]
        mean, factor = dataclasses.replace(mean, factor=float(sum(group in PERCEPTION for group in groups))), 1.0
    yield _paired(entry.metric, "", main[0], main[1], mean, settings)
    for group in groups if 1 < len(groups) <= MAX_CATEGORIES else ():
        own = [[row for row in rows if str(row["group"]) == group] for rows in (old, new)]
        yield _paired(
            entry.metric, group, own[0], own[1], Mean(field=mean.field, weighting="micro", factor=factor), settings
        )


def whole_units(benchmark: str, common: Sequence[str], known: Iterable[str]) -> list[str]:
    """The uids that both scored, without circles (MMBench) and images (MME) of which either side knows more rows.

    both have 7 and 1000007 of MMBench, one alone 2000007, failed or not  ->  none of the three
    """
    if benchmark not in WHOLE:
        return list(common)
    name_of = UNITS[benchmark][0]
    sizes, there = (Counter(map(name_of, uids)) for uids in (known, common))
    return [uid for uid in common if there[name_of(uid)] == sizes[name_of(uid)]]


def units_of(benchmark: str, rows: Rows) -> Rows:
    """What is resampled: a prompt's images (GenEval), a circle (MMBench), an image's questions (MME) are one unit each.

    two images of a prompt, right and wrong  ->  {"uid": "00003", "group": "counting", "score": 0.5}
    """
    unit = UNITS.get(benchmark)
    if unit is None:
        return rows
    name_of, score_of = unit
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(name_of(str(row["uid"])), []).append(row)
    return [
        {"uid": name, "group": min(some, key=lambda row: str(row["uid"]))["group"], "outcome": "ok",
         "score": score_of([bool(row["strict"]) for row in some])}
        for name, some in found.items()
    ]  # fmt: skip


UNITS: Mapping[str, tuple[Callable[[str], str], Callable[[list[bool]], float]]] = {
    "geneval": (lambda uid: uid.partition("/")[0], lambda right: sum(right) / len(right)),
    "mmbench": (lambda uid: str(int(uid) % CIRCLE), lambda right: float(all(right))),
    "mme": (lambda uid: uid.rpartition("/")[0], lambda right: 100 * (sum(right) / len(right) + all(right))),
}
"""Benchmark -> (uid of an item to its unit, verdicts of a unit to its score)."""
WHOLE = ("mmbench", "mme")
"""Benchmarks whose units are right when every row is: with a row less they are another measure."""


def _paired(
    metric: str, category: str, before: Rows, after: Rows, mean: Mean, settings: Mapping[str, int]
) -> Difference:
    found = paired(before, after, mean, num_bootstraps=settings["num_bootstraps"], seed=settings["seed"])
    values = [_mean(rows, mean) for rows in (before, after)]
    return _difference(metric, category, values, found, len(after))


def _difference(
    metric: str, category: str, values: Sequence[float], found: Estimate | None, num_units: int
) -> Difference:
    if found is None or num_units < FEWEST:
        return Difference(metric=metric, category=category, num_units=num_units, verdict=TOO_FEW)
    verdict = "equal" if found.low == found.high == 0 else "no difference shown"
    if found.high < 0:
        verdict = "regression"
    elif found.low > 0:
        verdict = "better"
    return Difference(
        metric=metric, category=category, num_units=num_units, verdict=verdict, before=values[0], after=values[1],
        difference=found.value, low=found.low, high=found.high,
    )  # fmt: skip


def _mean(rows: Rows, mean: Mean) -> float:
    """0 where there are no rows; nothing is shown of it then."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row["group"]) if mean.weighting == "macro" else "", []).append(float(row[mean.field]))
    means = [sum(values) / len(values) for values in groups.values()]
    return mean.factor * sum(means) / len(means) if means else 0.0


def _differences_of_f1(before: Rows, after: Rows, *, num_bootstraps: int, seed: int) -> Iterator[Difference]:
    """POPE: the mean of the sets' F1, then each set's; questions are resampled within their set."""
    names = list(dict.fromkeys(str(row["group"]) for row in after))
    drawn, values = [], []
    for place, name in enumerate(names):
        random = np.random.Generator(np.random.PCG64((seed, place)))
        old, new = (_answers([row for row in rows if str(row["group"]) == name]) for rows in (before, after))
        whole = np.arange(len(new))[None]
        chosen = random.integers(0, len(new), size=(num_bootstraps, len(new)))
        values.append([float(_f1(side, whole)[0]) for side in (old, new)])
        drawn.append(_f1(new, chosen) - _f1(old, chosen))
    parts = [
        (
            "",
            [sum(sides) / len(names) for sides in zip(*values, strict=True)],
            sum(drawn) / max(len(names), 1),
            len(after),
        )
    ]
    parts += [
        (name, values[n], drawn[n], sum(str(row["group"]) == name for row in after)) for n, name in enumerate(names)
    ]
    for category, sides, resampled, number in parts:
        if not names:
            yield _difference("mean_f1", category, [0.0, 0.0], None, 0)
            return
        low, high = (float(edge) for edge in np.percentile(resampled, (2.5, 97.5)))
        found = Estimate(value=sides[1] - sides[0], low=low, high=high, num_items=number)
        yield _difference("mean_f1" if not category else "f1", category, sides, found, number)


def _answers(rows: Rows) -> NDArray[np.float64]:
    """(N, 2): whether yes was answered, whether it was right to answer so."""
    return np.array(
        [[row["answer"] == "yes", (row["answer"] == "yes") == row["strict"]] for row in rows], dtype=np.float64
    )


def _f1(answers: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of yes = 2 TP / (answered yes + is yes), of many choices of rows (R, N); 0 where nothing was positive."""
    said, wanted = answers[:, 0], answers[:, 1]
    both = said[chosen].sum(axis=1) + wanted[chosen].sum(axis=1)
    f1: NDArray[np.float64] = 2 * (said * wanted)[chosen].sum(axis=1) / np.maximum(both, 1)
    return f1
