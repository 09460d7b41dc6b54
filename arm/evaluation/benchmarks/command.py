"""The verb `score`: results made anywhere, in the official layout, to a table, a JSON and the items' verdicts.

DIR/<benchmark>/scores.json     headline or why it is refused, estimates with intervals, details, protocol
DIR/<benchmark>/items.jsonl     one verdict an item
"""

import argparse
from pathlib import Path

from arm.errors import UserError
from arm.evaluation.benchmarks import registry
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files, open_given
from arm.evaluation.benchmarks.result import Result, write_result
from arm.storage import open_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--benchmark", required=True, metavar="NAME", help=f"one of {', '.join(registry.SCORERS)}")
    parser.add_argument("--results", required=True, metavar="PLACE", help="folder, file or s3:// with the results")
    parser.add_argument("--data", metavar="PLACE", help="folder, file or s3:// of the data set (default: --results)")
    parser.add_argument("--mode", default="official", choices=("official", "corrected"), help="default: %(default)s")
    parser.add_argument("--revision", default="", help="revision of the data set, for the protocol")
    parser.add_argument("--judge", default="", help="id of the model that judged, for the protocol")
    parser.add_argument("--judge-date", default="", metavar="DATE", help="day of the judgements, for the protocol")
    parser.add_argument("--prompt", metavar="FILE", help="the prompt that was given; the protocol holds its sha256")
    parser.add_argument("--bootstraps", type=int, default=1000, help="resamples behind each interval")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling")
    parser.add_argument("--output", default="scores", metavar="DIR", help="where the files go (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Score, print, write."""
    config = ScoreConfig(
        mode=options.mode, revision=options.revision, judge=options.judge, judge_date=options.judge_date,
        prompt=_read_prompt(options.prompt), num_bootstraps=options.bootstraps, seed=options.seed,
    )  # fmt: skip
    registry.find(options.benchmark)
    results = open_files(options.results)
    data = open_given(options.data) if options.data else open_files(options.results)
    result = registry.score(options.benchmark, results, data, config)
    print(table(result))
    print(write(result, options.output))


def table(result: Result) -> str:
    """The numbers with their intervals, the headline first, and what one must know of them."""
    scores, protocol = result.scores, result.protocol
    shown = scores.published()
    names = sorted(shown, key=lambda name: (name != scores.headline, name.count("/"), name))
    lines = [
        f"{name:44} {shown[name].value:>10.4f}   {shown[name].low:.4f} to {shown[name].high:.4f}" for name in names
    ]
    if scores.refused:
        lines.insert(0, f"{scores.headline:44}    refused   {scores.refused}")
    counts = f"{protocol.num_expected:,} expected, {protocol.num_scored:,} scored, {protocol.num_failed:,} failed"
    counts += f", {protocol.num_missing:,} missing" if protocol.num_missing else ""
    checked = "; ".join(text if part == "all" else f"{part}: {text}" for part, text in protocol.checked.items())
    lines += ["", f"{scores.benchmark} ({protocol.mode}): {protocol.aggregation}", f"{counts}; {checked}"]
    lines += [f"{count:,} × {flag}" for flag, count in protocol.flags.items()]
    lines += [f"note: {note}" for note in protocol.notes]
    return "\n".join(lines)


def write(result: Result, output: str) -> str:
    """Write both files and return their folder."""
    folder = open_folder(output).child(result.scores.benchmark)
    write_result(result, folder)
    return folder.url


def _read_prompt(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompt {path!r} cannot be read ({error}).") from None
