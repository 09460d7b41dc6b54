"""Which benchmarks a stage's rewards are taken from: a rubric of ours is known, a judge's rule is declared."""

from arm.evaluation.official.suites import SUITES
from arm.evaluation.rubric import load_rubric
from arm.manifest import Manifest
from arm.rl.config import PolicyConfig
from arm.storage import Folder
from arm.tracking.rewarded import Rewarded, read_rewarded, write_rewarded


def write_benchmarks(model: Manifest, config: PolicyConfig, output: Folder) -> None:
    """rewarded.json: what the start of the stage was rewarded by, and this stage after it."""
    found = read_rewarded(model)
    for benchmark, by in rewarded_by(config).items():
        found[benchmark] = list(dict.fromkeys([*found.get(benchmark, []), *by]))
    write_rewarded(found, output)


def rewarded_by(config: PolicyConfig) -> Rewarded:
    """Benchmark -> the rubrics and judges that apply its rubric or rule in this stage."""
    found: Rewarded = {}
    for task in config.tasks:
        asked = config.reward.rubrics.get(task)
        by = config.reward.judge if asked is None else asked.judge.model
        for benchmark in config.reward.benchmarks.get(task, ()):
            found.setdefault(benchmark, []).append(f"{by} in {config.stage}")
        for name in [each.rubric for each in asked.asked] if asked else []:
            for suite in SUITES.values():
                if name in suite.rubrics:
                    version = load_rubric(name).version
                    found.setdefault(suite.name, []).append(f"{name} {version}, asked of {by}, in {config.stage}")
    return found
