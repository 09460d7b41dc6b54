"""ImageNet zero-shot: 50,000 validation images, top-1 of the nearest of 1,000 class vectors.

results     *predictions*.jsonl     {"image": "ILSVRC2012_val_00000001.JPEG", "label": "n01440764", "prediction": "n01443537"}
classes     classes.json            {"n01440764": "tench", "n01443537": "goldfish", …}, where it is given: for what is read

Label and prediction are ids: CLIP's names of the classes have one twice ("sunglasses"), and by name either would be right.

A class vector is made of 80 prompts, normalised, averaged and normalised again (`arm.tokenizer.metrics.class_vectors`); the
benchmark `tokenizer_zero_shot` of `evaluate-model` and the job `evaluate-tokenizer` make the predictions.
"""

from collections.abc import Mapping, Sequence

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, only, row_of
from arm.evaluation.benchmarks.result import (
    NOT_CHECKED,
    OWN_ANSWERS,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    scores_by_group,
)
from arm.evaluation.statistics import Estimate

PUBLISHED = Published(
    name="imagenet", headline="top1", aggregation="share of images whose nearest class is their label",
    published_items=50_000, checked={"all": NOT_CHECKED},
)  # fmt: skip
RESULTS = Source(
    what="a prediction an image", names=("*predictions*.jsonl", "*predictions*", "*.jsonl", "*.csv", "*.parquet"),
    where="the classifier, as rows with image, label, prediction", licence="yours",
)  # fmt: skip
CLASSES = Source(
    what="the names of the classes, {id: name}", names=("classes.json",), licence="ImageNet: research only",
    where="image-net.org and the class names of github.com/openai/CLIP",
)  # fmt: skip


def judge(uid: str, label: object, prediction: object, names: Mapping[str, str]) -> Scored:
    """One image; the reason has the names of the classes."""
    if label is None or prediction is None:
        return failed(uid, "all", "no prediction" if label is not None else "no label", _named(label or "", names))
    right = str(prediction) == str(label)
    return Scored(
        uid=uid, group=str(label), outcome="ok", strict=right, score=float(right), answer=prediction, wanted=_named(label, names),
        reasons=() if right else (f"took {_named(label, names)} for {_named(prediction, names)}",),
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Top-1 over images, and the mean over classes."""
    groups = scores_by_group(items)
    if not groups:
        return {}
    total = [value for values in groups.values() for value in values]
    return {
        "top1": intervals.mean(total, value=sum(total) / len(total)),
        "mean_of_classes": intervals.groups(groups, "macro"),
    }


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score every prediction."""
    name = results.find(RESULTS)
    rows: dict[str, Row] = only(results.rows(name), "image", name)
    for number, row in enumerate(rows.values()):
        need(row, ("label", "prediction"), row_of(number, results.place(name)))
    names: dict[str, str] = data.json(classes) if (classes := data.look(CLASSES)) else {}
    items = [judge(uid, row["label"], row["prediction"], names) for uid, row in rows.items()]
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, Intervals(config)),
        num_expected=max(len(items), PUBLISHED.published_items), notes=[OWN_ANSWERS],
    )  # fmt: skip


def _named(label: object, names: Mapping[str, str]) -> str:
    """n01440764  ->  tench (n01440764)"""
    return f"{names[str(label)]} ({label})" if str(label) in names else str(label)
