"""Run a pipeline here or on a cluster.

    python -m pipelines.run --recipe toy                                  the whole road on this machine
    python -m pipelines.run --recipe toy --pipeline experiment            two mixtures, one table
    python -m pipelines.run --recipe proof --pipeline tokenizer-ablation  the rows of Table 7, one report
    python -m pipelines.run --recipe proof --seed 1                       the road again from another seed, in the same store
    python -m pipelines.run --recipe small --earlier store/small          a second crawl, added to those before it
    python -m pipelines.run --recipe small --attempt 2                    asks again for what the download did not bring
    python -m pipelines.run --recipe small --host https://kubeflow/…      the same pipeline, submitted
    python -m pipelines.run --recipe small --compile build/               the same pipeline, as KFP's YAML

Killed or failed, the same command goes on: a job whose output is complete returns it. On Ctrl-C or SIGTERM a training
saves first.
"""

import argparse
import builtins
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arm import recipes
from arm.errors import ArmError, UserError
from arm.evaluation.report import write_report
from arm.launch import read_error
from arm.lock import output_lock
from arm.recipes import STEPS, Recipe
from arm.storage import Folder, LocalFolder, open_folder
from arm.storage.disk import disk_errors_in_a_sentence, full_disk_error, is_full
from arm.tracking.session import session
from arm.tracking.spool import tracking_folder
from pipelines.stopping import interrupt_on_sigterm, let_tasks_save

ROOT = Path(__file__).resolve().parents[1]
ABLATION = "tokenizer-ablation"
PIPELINES = ("toy", "full", "experiment", ABLATION)
ABLATION_STEPS = (
    "make-world", "train-teachers", "import-model-encoder", "import-model-language-model", "import-model-autoencoder",
    "import-samples-training", "import-samples-evaluation",
)  # fmt: skip
"""What an ablation needs of the road before its loop."""
JOBS_OF_A_TOKENIZER = 4
"""A turn of the loop: train-tokenizer, train-detokenizer, evaluate-tokenizer, evaluate-model."""


def main(arguments: list[str] | None = None) -> None:
    """Run, submit or compile a pipeline; an error is one sentence and exit code 1."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        recipe = recipes.find(options.recipe)
        store = options.store or f"store/{recipe.name}"
        if options.seed is not None:
            recipe = recipe.seeded(options.seed)
        name = options.pipeline or ("toy" if "make-world" in recipe.configs else "full")
        if options.compile:
            print(compile_to(Path(options.compile), name, recipe, cluster=options.cluster))
        elif options.host:
            submit(options.host, name, recipe, store, options.earlier, options.attempt)
        else:
            interrupt_on_sigterm()
            with disk_errors_in_a_sentence(store):
                run_here(name, recipe, store, options.earlier, options.attempt)
    except ArmError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def run_here(name: str, recipe: Recipe, store: str, earlier: str = "", attempt: int = 1) -> None:
    """Run a pipeline with KFP's local runner: every task a process on this machine."""
    started = time.monotonic()
    folder = open_folder(store)
    with output_lock(folder, "pipelines.run", wait_seconds=5), tempfile.TemporaryDirectory() as errors:
        files = _Files(_working_folder(folder), Path(errors))
        pipeline = _build(name, recipe, cluster=False)
        os.environ |= _environment(files)
        num_jobs = _num_jobs(name, recipe)
        print(f"{pipeline.name}: {num_jobs} jobs into {store}", flush=True)
        with session(folder.url, pipeline=name, recipe=recipe.name):
            reused = _run(pipeline, _arguments(name, folder.url, earlier, attempt), files, num_jobs)
    print(f"{num_jobs} jobs in {time.monotonic() - started:.0f} s, {reused} of them done before.")
    print(f"The report: {write_report(folder.url)}")
    if name == ABLATION:
        print(f"The ablation: {folder.fetch('ablation/report.html')}")


def _arguments(name: str, store: str, earlier: str, attempt: int) -> dict[str, Any]:
    """The pipeline's parameters besides the configs; a further attempt adds to the run's own store unless told."""
    if (earlier or attempt != 1) and name == ABLATION:
        raise UserError(f"{ABLATION} reads no crawl; leave --earlier {earlier!r} and --attempt {attempt} out.")
    if attempt < 1:
        raise UserError(
            f"--attempt is {attempt}; give 1 for the first download of a crawl, 2 for what it did not bring."
        )
    given: dict[str, Any] = {"store": store}
    if earlier or attempt > 1:
        given["earlier"] = open_folder(earlier or store).url
    return given | ({"attempt": attempt} if attempt > 1 else {})


def _working_folder(folder: Folder) -> Path:
    """The private folder of the store's runs: in a local store, else in the cache, one a store."""
    return (
        Path(folder.url) / ".pipeline" if isinstance(folder, LocalFolder) else tracking_folder(folder.url) / "pipeline"
    )


def submit(host: str, name: str, recipe: Recipe, store: str, earlier: str = "", attempt: int = 1) -> None:
    """Start a run on a Kubeflow Pipelines server."""
    if not store.startswith("s3://"):
        raise UserError(f"A cluster cannot write to {store!r}; give --store s3://bucket/prefix.")
    refuse_exceptions(recipe)
    import kfp

    client = kfp.Client(host=host)
    run = client.create_run_from_pipeline_func(
        _build(name, recipe, cluster=True), arguments=_arguments(name, store, earlier, attempt), enable_caching=False
    )
    print(f"{host.rstrip('/')}/#/runs/details/{run.run_id}")


def compile_to(folder: Path, name: str, recipe: Recipe, *, cluster: bool) -> Path:
    """Write the pipeline as YAML: what a server, or a reader, wants."""
    from kfp import compiler

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{recipe.name}.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(_build(name, recipe, cluster=cluster), str(path))
    return path


class _Files:
    """The private files of a run: KFP's folder, log and progress, and in `errors`, beside a full store, the sentence."""

    def __init__(self, folder: Path, errors: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / "kfp", ignore_errors=True)
        self.root, self.log = folder / "kfp", folder / "kfp.log"
        self.progress, self.error = folder / "progress.jsonl", errors / "error.jsonl"
        self.progress.unlink(missing_ok=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="toy", help=f"{', '.join(recipes.RECIPES)}, or yours as module:CONSTANT")
    parser.add_argument("--pipeline", choices=PIPELINES, help="default: toy, or full where the recipe has no world")
    parser.add_argument(
        "--seed", type=int, help="of every training, of its data's order and of its evaluation (default: the recipe's)"
    )
    parser.add_argument("--store", help="folder or s3:// address of the artifacts (default: store/<recipe>)")
    parser.add_argument(
        "--earlier", default="", help="a store of earlier crawls, its own perhaps, that this one adds to"
    )
    parser.add_argument(
        "--attempt", type=int, default=1, help="2: ask again, and only, for what this crawl's download did not bring"
    )
    parser.add_argument("--host", help="address of a Kubeflow Pipelines server to submit to")
    parser.add_argument("--compile", metavar="DIR", help="write the pipeline's YAML there and stop")
    parser.add_argument("--cluster", action="store_true", help="with --compile: place steps for a cluster")
    return parser.parse_args(arguments)


def _build(name: str, recipe: Recipe, *, cluster: bool) -> Any:
    from pipelines import ablation, experiment, full, toy
    from pipelines.resources import Placement
    from pipelines.step import build

    graphs = {
        "toy": toy.toy,
        "full": full.full,
        "experiment": experiment.experiment,
        ABLATION: ablation.tokenizer_ablation,
    }
    if name == ABLATION and recipe.ablation is None:
        raise UserError(f"The recipe {recipe.name} has no ablation; choose --recipe proof, or give the recipe one.")
    graph = graphs[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(graph, recipe, Placement(recipe, cluster), steps=_steps(name, recipe))


def _steps(name: str, recipe: Recipe) -> list[str]:
    """The recipe's steps on the road that a pipeline takes a config for."""
    if name == ABLATION:
        return [step for step in recipe.configs if step in ABLATION_STEPS]
    absent = {
        "toy": (),
        "full": ("make-world", "train-teachers"),
        "experiment": ("train-model", "train-policy", "register-model"),
    }[name]
    known = (*STEPS, "import-model-backbone")  # beside the numbered road, and taken where a recipe names it
    return [step for step in recipe.configs if step in known and not step.startswith(absent)]


def _num_jobs(name: str, recipe: Recipe) -> int:
    """An experiment trains and evaluates once a mixture, an ablation its tokenizers."""
    num_steps = len(_steps(name, recipe))
    if recipe.ablation and name == ABLATION:
        return num_steps + JOBS_OF_A_TOKENIZER * len(recipe.ablation.runs())
    return num_steps - 1 + 2 * len(recipe.mixtures) if name == "experiment" else num_steps


def _environment(files: _Files) -> dict[str, str]:
    """What every task inherits, besides what the tracking session says."""
    return {
        "ARM_PROGRESS_FILE": str(files.progress),
        "ARM_ERROR_FILE": str(files.error),
        "ARM_RUNNER_PID": str(os.getpid()),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _run(pipeline: Any, arguments: dict[str, Any], files: _Files, num_jobs: int) -> int:
    """Run under kfp.local; a failure is the sentence of the job that failed. Returns how many jobs were done before."""
    from kfp import local

    from pipelines.screen import Screen

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(files.root), raise_on_error=True)
    screen = Screen(files.progress, sys.stdout, num_jobs)
    log_start = files.log.stat().st_size if files.log.is_file() else 0
    try:
        with screen, _output_to(files.log):
            pipeline(**arguments)
    except KeyboardInterrupt:
        let_tasks_save()
        raise
    except Exception as error:
        if sentence := read_error(files.error):
            raise UserError(sentence) from None
        if is_full(error, arguments["store"]):
            raise full_disk_error(arguments["store"]) from None
        if not isinstance(error, RuntimeError):
            raise
        crash = f"{screen.current} failed: {_last_error(files.log, log_start)}\nThe log is at {files.log}."
        raise UserError(crash) from None
    return screen.reused


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what KFP and the tasks print to a file. KFP's tasks side by side may leave `print` indented (2.17): put it back."""
    plain_print = builtins.print
    with (
        path.open("a", buffering=1) as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception:
            traceback.print_exc()
            raise
        finally:
            builtins.print = plain_print


def _last_error(log: Path, start: int) -> str:
    """What ended the task: the last line of its traceback, above the runner's own, or why it asks to be run again."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    wanted = re.compile(r"\s*([\w.]+(Error|Exception|Interrupt)\b|No step has ended for|Stopped after step)")
    errors = [line.strip() for line in lines if wanted.match(line)]
    return next((line for line in reversed(errors) if "finished with status" not in line), "no exception was printed")


def refuse_exceptions(recipe: Recipe) -> None:
    """Hosts that bypass the guard are for the toy site on this machine only."""
    for step, config in recipe.configs.items():
        if getattr(config, "exceptions", ()) or getattr(config, "private_hosts", ()):
            raise UserError(f"{step} of the recipe {recipe.name} lets hosts past the guard; a cluster refuses that.")


if __name__ == "__main__":
    main()
