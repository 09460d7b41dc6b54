"""MMBench: 1,164 questions of the English dev set, each asked again with its options rotated: 4,329 rows.

    index  question  A  B  C  D  answer  category  l2-category  prediction      12, 1000012, 2000012: one circle

circular: a question is right when every row of its circle is; vanilla: the row with the smallest index alone. Papers give
both under one name: ARM's 80.7 is probably vanilla. An answer from which no letter can be inferred is wrong, as in
VLMEvalKit's exact matching; it is flagged, and a judge may read it (`prediction` then holds the judge's letter).
`circular_lmms` is lmms-eval's static evaluation, another number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from arm.errors import UserError
from arm.evaluation.benchmarks.choices import REFUSED, extract_lmms, infer_lmms, infer_vlmevalkit
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, only, row_of
from arm.evaluation.benchmarks.result import (
    CHECKED,
    OWN_ANSWERS,
    Failure,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    strangers,
)
from arm.evaluation.statistics import Estimate

CIRCLE = 1_000_000
PUBLISHED = Published(
    name="mmbench", headline="circular", aggregation="share of questions with every rotation right",
    published_items=4_329, checked={"all": CHECKED},
)  # fmt: skip
RESULTS = Source(
    what="the model's answers", names=("*prediction*.tsv", "*.tsv", "*.csv", "*.jsonl", "*.json", "*.parquet"),
    where="the model, as rows with index and prediction", licence="yours",
)  # fmt: skip
DATA = Source(
    what="the questions with their right answers", names=("mmbench_dev_en*.tsv", "*dev*.tsv", "*dev*.parquet"),
    where="opencompass.openxlab.space/utils/VLMEval/MMBench_DEV_EN.tsv", licence="Apache-2.0",
)  # fmt: skip
LETTERS = "ABCD"
MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
))  # fmt: skip
"""What pandas, with which both programs read the table, takes for an empty cell: no option, and an answer of `nan`."""


def options_of(row: Row) -> dict[str, str]:
    """The options that a row has: A and B, up to D."""
    return {one: str(row[one]) for one in LETTERS if row.get(one) is not None and str(row[one]) not in MISSING}


def parse(reply: str, options: Mapping[str, str]) -> str | Failure:
    """The letter that an answer means, as VLMEvalKit infers it; Z for a refusal."""
    return infer_vlmevalkit(reply, options) or Failure(f"no option can be inferred from {reply[:60]!r}")


def judge(row: Row) -> Scored:
    """One row; `numbers` holds vanilla and lmms-eval's verdict beside VLMEvalKit's."""
    uid, group = str(int(row["index"])), str(row.get("l2-category") or row.get("L2-category") or "all")
    reply, wanted = row.get("prediction"), str(row.get("answer") or "")
    if reply is None or not wanted:
        return failed(uid, group, "no answer" if reply is None else "the row's right answer is not known", wanted)
    text, options = "nan" if str(reply) in MISSING else str(reply), options_of(row)
    answer = parse(text, options)
    found = REFUSED if isinstance(answer, Failure) else answer
    right = found == wanted
    return Scored(
        uid=uid, group=group, outcome="ok", strict=right, score=float(right), answer=found, wanted=wanted,
        reasons=() if right else (f"answered {found}, expected {wanted}",),
        flags=("no option inferred",) if isinstance(answer, Failure) else (),
        numbers={
            "vanilla": float((infer_vlmevalkit(text.strip(), options) or REFUSED) == wanted),
            "lmms": float(infer_lmms(text, options) == wanted),
            "lmms_static": float(_static(text, options) == wanted),
        },
    )  # fmt: skip


def aggregate(
    items: Sequence[Scored], sizes: Mapping[int, int], intervals: Intervals, categories: Mapping[str, str]
) -> dict[str, Estimate]:
    """Circular accuracy of the circles with all their rows (`sizes`), vanilla accuracy, all rows alone, and circular
    accuracy by ability (l2-category, category)."""
    circles: dict[int, list[Scored]] = {}
    for item in items:
        if item.outcome == "ok":
            circles.setdefault(int(item.uid) % CIRCLE, []).append(item)
    mains = {number: rows for number, rows in circles.items() if any(int(row.uid) == number for row in rows)}
    if not mains:
        return {}
    whole = {number: rows for number, rows in mains.items() if len(rows) >= sizes[number]}
    hits = {number: float(all(row.strict for row in rows)) for number, rows in whole.items()}
    first = {int(item.uid): item for rows in mains.values() for item in rows if int(item.uid) in mains}
    parts: dict[str, list[float]] = {
        "circular": list(hits.values()),
        "circular_lmms": [float(all(row.numbers["lmms_static"] for row in rows)) for rows in whole.values()],
        "vanilla": [first[number].numbers["vanilla"] for number in mains],
        "vanilla_all_rows": [row.numbers["vanilla"] for rows in circles.values() for row in rows],
    }
    for number, hit in hits.items():
        parts.setdefault(f"circular/{first[number].group}", []).append(hit)
        if category := categories.get(str(number)):
            parts.setdefault(f"circular/category/{category}", []).append(hit)
    for item in first.values():
        parts.setdefault(f"vanilla/{item.group}", []).append(item.numbers["vanilla"])
    return {name: intervals.mean(values, value=sum(values) / len(values)) for name, values in parts.items() if values}


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score every row; the options and answers come from the results, or from the data set where that is given."""
    name = results.find(RESULTS)
    rows = only(results.rows(name), "index", results.place(name))
    for number, row in enumerate(rows.values()):
        need(row, ("prediction",), row_of(number, results.place(name)))
    expected = only(data.rows(named), "index", named) if (named := data.look(DATA)) else {}
    notes = strangers(rows, expected) if expected else [OWN_ANSWERS]
    rows = {uid: row for uid, row in rows.items() if uid in expected or not expected}
    for uid, row in rows.items():
        row.update({key: value for key, value in expected.get(uid, {}).items() if key != "prediction"})
    items = [judge(row) for row in rows.values()]
    sizes = Counter(int(uid) % CIRCLE for uid in expected) if expected else _sizes_of_circles(rows)
    categories = {uid: str(row["category"]) for uid, row in rows.items() if row.get("category")}
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, sizes, Intervals(config), categories),
        num_expected=sum(sizes.values()), notes=notes,
    )  # fmt: skip


def _sizes_of_circles(rows: Mapping[str, Row]) -> dict[int, int]:
    """Question -> its rotations, one an option: rows that lack are expected all the same."""
    circles = Counter(int(uid) % CIRCLE for uid in rows)
    sizes = {int(uid) % CIRCLE: len(options_of(row)) for uid, row in rows.items()}
    if max(sizes.values(), default=0) < 2:  # one alone may have options that pandas takes for empty: "None", "N/A"
        raise UserError("No row of MMBench has 2 options; give the data set's TSV as --data.")
    return {number: max(count, sizes[number]) for number, count in circles.items()}


def _static(text: str, options: Mapping[str, str]) -> str | None:
    return infer_lmms(text, options) or extract_lmms(text, sorted(options))
