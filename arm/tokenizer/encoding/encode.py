"""tokenize-images: every curated sample as codes and text, in Arrow token shards (`arm.model.token_shards`).

    image shards ── units of one source ── windows, decoded ahead ── batches of one shape ── record batches ── account

Units are independent: workers take them in turn, a killed one leaves whole units behind, and the files are the same
whatever the number of workers (`arm.tokenizer.encoding.units`). Rank 0 waits for the last account and sums up.

    checks.json     {"drift": {"default": {"garden-00000": 0.12, …}}, "drifted": ["default/web-00003"],
                     "too_few_codes": ["default/tiny-00000"]}
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from arm.device import make_deterministic, rank_device
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest, Outcome
from arm.model import token_shards
from arm.progress import Progress
from arm.storage import Folder
from arm.tokenizer.config import EncodeConfig
from arm.tokenizer.encoding.checks import Histogram, can_drift, drift
from arm.tokenizer.encoding.decoding import Picture, Window, windows
from arm.tokenizer.encoding.lengths import Measure
from arm.tokenizer.encoding.unit_files import Account, Tools, UnitFiles
from arm.tokenizer.encoding.units import Unit, leads, share_of, units_of, wait_for
from arm.tokenizer.images import to_images
from arm.tokenizer.metrics import entropy_bits, finite_means
from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer, load_tokenizer, tokenizer_folder
from arm.tokenizer.resolution import Size


def tokenize_images(
    *,
    images: Manifest,
    tokenizer: Manifest,
    text_tokenizer: Manifest,
    output: Folder,
    config: EncodeConfig,
    detokenizer: Manifest | None = None,
) -> Outcome:
    """Encode every image once for each size; every worker calls this, the one that leads sums up."""
    make_deterministic(threads=config.threads)
    units = units_of(images, config.shards_per_unit)
    tools = load_tools(tokenizer, text_tokenizer, detokenizer, config)
    made = set(output.list("reports/"))
    missing = [unit for unit in units if unit.report not in made]
    progress = Progress("tokenize-images: units", total=len(units), done=len(units) - len(missing))
    todo = [unit for unit in share_of(units) if unit.report not in made]
    for unit, ahead in groupby(windows(todo, images, config, tools.visual.stride), key=lambda window: window.unit):
        with UnitFiles(unit, output, tools) as files:
            for window in ahead:
                encode(window, tools.visual, config.batch_size)
                files.write(window)
        progress.advance()
    if not leads():
        return Outcome()
    wait_for(missing, output)
    return summarise(units, output, tools)


def load_tools(
    tokenizer: Manifest, text_tokenizer: Manifest, detokenizer: Manifest | None, config: EncodeConfig
) -> Tools:
    """Load what every unit is made with."""
    from transformers import AutoTokenizer

    if config.min_psnr is not None and detokenizer is None:
        raise UserError("EncodeConfig.min_psnr needs the input `detokenizer`: nothing else renders codes.")
    visual = load_tokenizer(tokenizer_folder(tokenizer)).to(rank_device())
    text = AutoTokenizer.from_pretrained(text_tokenizer.local_folder("model"))
    identity: dict[str, str | int] = {
        "format_version": token_shards.FORMAT_VERSION,
        "num_codes": visual.num_codes,
        "tokenizer_fingerprint": visual.fingerprint,
        "text_fingerprint": token_shards.text_fingerprint(text),
    }
    return Tools(
        visual=visual,
        measure=Measure(text),
        detokenizer=None if detokenizer is None else _load_detokenizer(detokenizer),
        identity=identity,
        config=config,
    )


def encode(window: Window, visual: ImageTokenizer, batch_size: int) -> None:
    """Fill in the codes of every picture of a window: batches of one size, in the order of the rows."""
    by_size: dict[Size, list[Picture]] = {}
    for row in window.rows:
        for picture in row.pictures:
            for size in picture.pixels:
                by_size.setdefault(size, []).append(picture)
    for size in sorted(by_size):
        pictures = by_size[size]
        for start in range(0, len(pictures), batch_size):
            _encode_batch(pictures[start : start + batch_size], size, visual)


def _encode_batch(pictures: Sequence[Picture], size: Size, visual: ImageTokenizer) -> None:
    codes = visual.encode(to_images(np.stack([picture.pixels[size] for picture in pictures]))).cpu()
    smallest, largest = int(codes.min()), int(codes.max())
    assert 0 <= smallest <= largest < visual.num_codes
    for picture, grid in zip(pictures, codes.numpy().astype(np.uint16), strict=True):
        picture.codes[size] = grid


def summarise(units: Sequence[Unit], output: Folder, tools: Tools) -> Outcome:
    """Counts of the whole, statistics of its codes and the alarms; too many dropped samples are a UserError."""
    counts: Counter[str] = Counter()
    histograms: dict[str, Histogram] = {}
    psnr: list[float] = []
    present = set(output.list())
    for unit, account in _accounts(units, output, tools):
        _check_files(unit, account, present)
        counts.update({name: account[name] for name in ("samples_read", "samples", "images")})
        counts.update({f"dropped/{reason}": number for reason, number in account["dropped"].items()})
        for name, variant in account["variants"].items():
            counts[f"rows/{name}"] += variant["rows"]
            histograms[name] = histograms.get(name, np.zeros(1, np.int64)) + np.asarray(variant["histogram"])
            psnr.extend(variant.get("psnr", []))
    _check_losses(counts, tools.config)
    counts["units_drifted"] = _check_drift(units, output, tools, histograms)
    metrics = _code_metrics(sum(histograms.values(), np.zeros(tools.visual.num_codes, np.int64)))
    rendered = finite_means({"psnr": torch.tensor(psnr, dtype=torch.float64)})
    metrics |= {name: round(value, 4) for name, value in rendered.items()}
    if "psnr" in metrics:
        _check_psnr(metrics["psnr"], len(psnr), tools.config)
    return Outcome(counts=dict(counts), metrics=metrics)


def _accounts(units: Sequence[Unit], output: Folder, tools: Tools) -> Iterator[tuple[Unit, Account]]:
    """The account of each unit; one that was made with other tokenizers is a UserError."""
    for unit in units:
        account: Account = json.loads(output.read(unit.report))
        for name, value in tools.identity.items():
            if account.get(name) != value:
                raise UserError(
                    f"{output.url}/{unit.report} has {name} {account.get(name)!r:.20}, not {value!r:.20}; "
                    "token shards of two tokenizers do not mix: delete that folder and run again."
                )
        yield unit, account


def _check_files(unit: Unit, account: Account, present: set[str]) -> None:
    """Every file that the account speaks of is there: what lost its files must not pass for a smaller data set."""
    for variant in account["variants"]:
        files = token_shards.ShardFiles(variant, unit.name)
        for name in (files.shard, files.lengths, files.index):
            if name not in present:
                raise IntegrityError(f"{name} is missing, though {unit.report} is there; delete that and run again.")


def _check_losses(counts: Counter[str], config: EncodeConfig) -> None:
    lost = sum(number for name, number in counts.items() if name.startswith("dropped/"))
    assert counts["samples_read"] == counts["samples"] + lost
    lost -= counts["dropped/tombstone"]
    if lost > config.max_dropped_share * counts["samples_read"]:
        raise UserError(f"{lost} of {counts['samples_read']} samples hold an unreadable image; curate them first.")


def _check_drift(units: Sequence[Unit], output: Folder, tools: Tools, histograms: dict[str, Histogram]) -> int:
    """Publish how far each unit's histogram lies from all the others'; name those beyond the bound and count them."""
    found: dict[str, dict[str, float]] = {name: {} for name in histograms}
    too_few: list[str] = []
    for unit, account in _accounts(units, output, tools):
        for name, variant in account["variants"].items():
            own = np.asarray(variant["histogram"])
            found[name][unit.name] = round(drift(own, histograms[name] - own), 6)
            too_few += [] if can_drift(own, histograms[name]) else [f"{name}/{unit.name}"]
    bound = tools.config.max_drift
    beyond = [f"{name}/{unit}" for name, values in found.items() for unit, value in values.items() if value > bound]
    drifted = [place for place in beyond if place not in set(too_few)]
    record: dict[str, Any] = {"drift": found, "drifted": drifted, "too_few_codes": too_few}
    output.write("checks.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    if drifted:
        sentence = (
            f"The codes of {', '.join(drifted[:5])} ({len(drifted)} in all) drift beyond {bound}; see checks.json."
        )
        if tools.config.fail_on_drift:
            raise UserError(sentence)
        print(sentence, file=sys.stderr)
    return len(drifted)


def _check_psnr(mean: float, count: int, config: EncodeConfig) -> None:
    if config.min_psnr is not None and mean < config.min_psnr:
        raise UserError(
            f"{count} images rendered from their codes have a mean PSNR of {mean} dB, below min_psnr {config.min_psnr}."
        )


def _code_metrics(histogram: Histogram) -> dict[str, float]:
    entropy = entropy_bits(histogram.astype(np.float64)) if histogram.any() else 0.0
    return {"code_usage": round(float((histogram > 0).mean()), 6), "perplexity": round(2**entropy, 4)}


def _load_detokenizer(manifest: Manifest) -> ImageDetokenizer:
    from arm.tokenizer.loading import detokenizer_folder, load_detokenizer

    return load_detokenizer(detokenizer_folder(manifest)).to(rank_device())
