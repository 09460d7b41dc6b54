"""A store as a finished run leaves it, made up: every kind of artifact that the report shows, with hostile text in it."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from arm import manifest as manifests
from arm.evaluation.imaging import encode_png, sheet
from arm.manifest import Manifest
from arm.storage import open_folder

HOSTILE = '<script>alert(1)</script><img src="http://evil.test/x.png"> & "quoted"'
STAGES = ("pretrained", "continued", "finetuned", "t2i_policy", "edit_policy", "joint_policy")
CATEGORIES = ("color_attr", "colors", "counting", "position", "single_object", "two_object")

TOKENIZER_METRICS = {
    "zero_shot/two_objects/top1": 0.41, "zero_shot/two_objects/encoder_top1": 0.62, "linear_probe/pooled": 0.97,
    "reconstruction/psnr_per_image": 22.04, "autoencoder/psnr_per_image": 34.52, "code_usage": 0.127,
    "reconstruction/lpips": 0.213, "autoencoder/lpips": 0.054,
    "photographs/reconstruction/psnr_per_image": 7.16, "photographs/autoencoder/psnr_per_image": 12.93,
    "photographs/code_usage": 0.361, "photographs/code_usage/96x144": 0.25, "photographs/code_usage/144x96": 0.33,
}  # fmt: skip


def add(
    store: Path,
    name: str,
    job: str,
    kind: str,
    *,
    files: dict[str, bytes] | None = None,
    config: Any = None,
    **fields: Any,
) -> Manifest:
    """Publish an artifact the way `jobs.run` does."""
    folder = open_folder(str(store / name / "0123456789abcdef"))
    for path, data in (files or {}).items():
        folder.write(path, data)
    manifest = Manifest(
        kind=kind, job=job, version=1, key="0" * 64, config=config or {}, inputs={}, counts=fields.get("counts", {}),
        metrics=fields.get("metrics", {}), files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip
    folder.write("manifest.json", manifest.to_json())
    run = {"started": 1.79e9, "seconds": fields.get("seconds", 10.0), "host": "garden", "ranks": "1", "threads": "2"}
    folder.write("run.json", json.dumps(run).encode())
    open_folder(str(store / name)).write(
        "current.json", b'{"manifest": "0123456789abcdef/manifest.json", "digest": ""}'
    )
    return manifest


def curve(seed: int, names: dict[str, tuple[float, float]], steps: int = 400) -> bytes:
    """A curves.jsonl whose numbers fall (or rise) from the first value to the second, with noise."""
    rng = random.Random(seed)
    rows = []
    for step in range(0, steps, 2):
        fade = np.exp(-4 * step / steps)
        values = {k: round(b + (a - b) * fade + rng.gauss(0, 0.03) * abs(a - b), 6) for k, (a, b) in names.items()}
        rows.append(json.dumps({"step": step} | values))
    return ("\n".join(rows) + "\n").encode()


def make_store(store: Path) -> Path:
    """The whole store."""
    add(store, "04-extract-pairs", "extract-pairs", "pairs", seconds=14.2, counts={
        "candidates_found": 5200, "pairs_extracted": 4800, "dropped/no_caption": 300, "dropped/data_url": 100,
        "records_read": 900, "pages_read": 700, "skipped/not_html": 200, "files_read": 2,
    })  # fmt: skip
    add(store, "05-filter-pairs", "filter-pairs", "filtered-pairs", seconds=9.1, counts={
        "pairs_read": 4800, "pairs_kept": 3500, "dropped/short_caption": 500, "dropped/duplicate_pair": 300,
        "dropped/popular_caption": 200, "dropped/icon_in_url": 150, f"dropped/{HOSTILE}": 150,
    })  # fmt: skip
    _add_trained(store)
    add(store, "30-evaluate-model", "evaluate-model", "evaluation", seconds=63.0, files=evaluation_files(),
        counts={"prompts": 1200, "questions": 300, "edits": 300, "images": 400, "stages": 6, "items_failed": 0})  # fmt: skip
    add(store, "evaluate-tokenizer", "evaluate-tokenizer", "tokenizer-evaluation", seconds=20.0, metrics=TOKENIZER_METRICS,
        files={"samples/reconstruction.png": _tiles(3), "samples/photographs.png": _tiles(3)},
        counts={"images": 400, "photographs": 26, "photographs_read": 27, "skipped/duplicate": 1})  # fmt: skip
    add(store, "31-register-model", "register-model", "release", seconds=4.0, files={"release.json": _release()},
        counts={"files": 30, "gates": 2, "gates_held": 1})  # fmt: skip
    return store


def _add_trained(store: Path) -> None:
    losses = {
        "loss/caption": (5.0, 2.2),
        "loss/pixel": (1.1, 0.2),
        "loss/sigmoid": (6.0, 0.9),
        "loss/feature": (1.0, 0.3),
    }
    picture = np.random.default_rng(0).integers(0, 255, (80, 240, 3), dtype=np.uint8)
    add(store, "10-train-tokenizer", "train-tokenizer", "tokenizer", seconds=148.0,
        config={"caption_weight": 1.0, "pixel_weight": 5.0, "sigmoid_weight": 5.0, "feature_weight": 1.0,
                "loss_normalisation": "running", "quantizer": {"levels": [2] * 10, "pre_quantizer_norm": "batch"},
                "pixel": {"prediction": "x", "skip": True}, "batch_size": 128},
        files={"curves.jsonl": curve(1, losses | {"usage": (0.1, 0.8)}), "samples/000400.png": encode_png(picture)},
        counts={"steps": 400, "parameters": 2_800_000}, metrics={"psnr": 18.4, "code_usage": 0.81})  # fmt: skip
    for index, stage in enumerate(("pretrain", "continue", "finetune")):
        share = (0.70, 0.55, 0.50)[index]
        mixture = {"text_only": [[0.0, 0.05]], "text_to_image": [[0.0, share]], "image_to_text": [[0.0, 0.95 - share]]}
        losses = {"loss/text": (3.0, 0.8), "loss/codes": (6.2, 2.4), "held_out/codes": (6.2, 2.6), "loss/edit/codes": (6.0, 2.0),
                  "share/text_to_image": (share + 0.1, share), "share_target/text_to_image": (share, share)}  # fmt: skip
        speeds = {"speed/tokens_per_second": (8000, 9000), "speed/step_seconds_p50": (0.5, 0.4), "speed/step_seconds_p95": (0.7, 0.6),
                  "speed/rank_seconds_max": (0.22, 0.22), "speed/rank_seconds_median": (0.2, 0.2), "speed/slowest_rank": (1, 1)}  # fmt: skip
        add(store, f"1{index + 3}-train-model-{stage}", "train-model", "model", seconds=110.0,
            config={"stage": stage, "mixture": mixture, "learning_rate": 1e-3, "text_weight": 1.0, "code_weight": 0.5,
                    "kind_weights": {"edit": 2.5, "caption": 1.0}},
            files={"curves.jsonl": curve(index, losses), "view/speed.jsonl": curve(index, speeds)},
            counts={"steps": 400, "tokens": 1_500_000, "tokens/text_to_image": 1_056_000, "targets/text_to_image": 412_345},
            metrics={"share/text_to_image": share + 0.004, "share/text": 0.049, "share/caption": 0.03, "share/question": 0.0712,
                     "share_target/text_to_image": share})  # fmt: skip
    add(store, "20-train-policy-t2i", "train-policy", "model", seconds=40.0, config={"stage": "t2i", "clip": 0.2},
        files={"curves.jsonl": curve(9, {"reward/mean": (0.5, 0.62), "kl": (0.0, 0.03)}, 60)}, counts={"steps": 30})  # fmt: skip


def evaluation_files() -> dict[str, bytes]:
    """protocols.json, comparisons.json and the pictures of six stages."""
    protocols: dict[str, Any] = {"reference": {
        "real_images": _record("strict", 0.994, {}, 400), "reconstruction": _record("strict", 0.62, {"psnr": 19.3}, 400),
        "zero_shot": _record("accuracy", 0.97, {}, 100), "copy_source": _record("strict", 0.0, {"move": 0.0, "recolour": 0.0}, 300),
        "constant_answer": _record("accuracy", 0.38, {"counting": 0.4, "existence": 0.52}, 300),
    }}  # fmt: skip
    images = {"images/reconstruction.png": _tiles(2)}
    captions: dict[str, Any] = {"reconstruction.png": _captions(("original", "reconstruction"))}
    for index, stage in enumerate(STAGES):
        drawn = {name: 0.2 + 0.1 * index + 0.02 * place for place, name in enumerate(CATEGORIES)}
        protocols[stage] = {
            "text_to_image": _record("mean", float(np.mean(list(drawn.values()))), drawn, 1200),
            "editing": _record("strict", 0.05 + 0.06 * index, {"move": 0.04 * index, "recolour": 0.1 * index}, 300),
            "understanding": _record("accuracy", 0.4 + 0.07 * index, {"counting": 0.5, "existence": 0.6}, 300),
        }
        images |= {f"images/{stage}.text_to_image.png": _tiles(1), f"images/{stage}.editing.png": _tiles(2)}
        captions[f"{stage}.text_to_image.png"] = _captions(("generated",))
        captions[f"{stage}.editing.png"] = _captions(("source", "edited"))
    compared = [
        {"benchmark": "text_to_image", "before": a, "after": b, "difference": 0.03, "low": -0.01, "high": 0.07, "not_lower": True,
         "num_items": 1200} for a, b in pairwise(STAGES)
    ]  # fmt: skip
    texts = {
        "protocols.json": protocols,
        "comparisons.json": compared,
        "images/captions.json": captions,
        "scores.json": {},
        "rewarded.json": {"edit_policy": {"editing": ["made-up/1 in edit"]}},
    }
    return images | {name: json.dumps(value).encode() for name, value in texts.items()}


def _record(headline: str, value: float, others: dict[str, float], num_items: int) -> dict[str, Any]:
    estimates = {headline: value, "graded": value + 0.05} | others
    return {
        "dataset": "f" * 64, "checker": "arm.toy.verifier", "aggregation": "mean over all items", "headline": headline,
        "refused": None, "num_expected": num_items, "num_scored": num_items, "num_failed": 0, "interval": "95%, bootstrap",
        "sampling": {"temperature": 0.7, "seed": 0},
        "estimates": {k: {"value": v, "low": max(v - 0.03, 0), "high": v + 0.03, "num_items": num_items} for k, v in estimates.items()},
    }  # fmt: skip


def _tiles(rows: int) -> bytes:
    rng = np.random.default_rng(rows)
    images = [[np.full((36, 36, 3), rng.integers(120, 240, 3), dtype=np.uint8) for _ in range(6)] for _ in range(rows)]
    for row in images:
        for image in row:
            image[8:24, 8:24] = rng.integers(0, 255, 3)
    return encode_png(sheet(images))


def _captions(rows: tuple[str, ...]) -> dict[str, Any]:
    prompts = [
        "a red circle",
        "two squares",
        HOSTILE,
        "a cross left of a circle",
        "a blue triangle",
        "a photo of a green cross",
    ]
    entries = [
        {"uid": str(i), "prompt": prompt, "group": CATEGORIES[i], "strict": i % 2 == 0, "reasons": [] if i % 2 == 0 else ["missing"]}
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip
    return {"rows": rows, "side": 108, "gap": 6, "entries": entries}


def _release() -> bytes:
    gates = [
        {"gate": "finetuned/text_to_image/mean", "holds": True, "sentence": "text_to_image/mean of finetuned is 0.450: the gate holds."},
        {"gate": "joint_policy/editing/strict", "holds": False,
         "sentence": "editing/strict of joint_policy is 0.050, but it must be at least 0.1."},
    ]  # fmt: skip
    return json.dumps(
        {
            "name": "arm",
            "alias": "champion",
            "alias_moves": False,
            "digests": {},
            "gates": gates,
            "licences": ["CC0-1.0"],
            "rewarded": {"gedit_en": ["viescore_editing 1, asked of a-judge, in edit"]},
        }
    ).encode()
