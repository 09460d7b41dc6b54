"""The `arm` command: every job, and what one does with the results.

    arm                                          lists the verbs
    arm filter-pairs --pairs DIR --output DIR    runs a job, prints its metrics and, last, its folder
    arm filter-pairs --help                      shows its config
    arm generate "two red circles"               asks the released model
    arm score --benchmark geneval --results DIR  scores results made anywhere
    arm lineage impact SHARD                     which checkpoints and releases a shard went into
    arm ledger query --uid UID                   which steps of training consumed a sample
    arm takedown --domain bad.example.org        nothing of it is read from now on; says what it went into

An error is one sentence and exit code 1; Ctrl-C is exit code 130, and the same command goes on.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from arm import command_line, jobs
from arm.config import suggest
from arm.errors import ArmError, UserError, without_userinfo
from arm.storage.disk import disk_errors_in_a_sentence

STORE = "store/toy"
TOLD = {"evaluate-model": "arm.evaluation.summary:lines"}
"""Job -> import string of `(Manifest) -> lines`: what its command prints of the output beside the metrics."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours and whose flags are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    try:
        with disk_errors_in_a_sentence(os.getcwd()):
            _run(list(sys.argv[1:] if arguments is None else arguments))
    except ArmError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `arm jobs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    verb, *rest = arguments
    if verb in VERBS:
        VERBS[verb][1](rest)
    elif verb in (names := [job.name for job in jobs.JOBS]):
        run_job(jobs.find(verb), rest)
    else:
        raise UserError(f"There is no verb or job {verb!r}; {suggest(verb, [*VERBS, *names])}")


def overview() -> str:
    """The verbs, then where the jobs are."""
    lines = [f"  {verb:19} {purpose}" for verb, (purpose, _) in VERBS.items()]
    lines.append(f"  {'<job>':19} Run one of the {len(jobs.JOBS)} jobs of `arm jobs`.")
    return "\n".join(["usage: arm VERB …", "", *lines, "", "`arm VERB --help` says more."])


def run_job(job: jobs.Job, arguments: list[str]) -> None:
    """Run a job with its inputs, and its config as flags or as JSON."""
    from arm.launch import launch

    parser = Parser(prog=f"arm {job.name}", description=job.purpose, formatter_class=command_line.Formatter)
    place = {"default": job.output} if job.output else {"required": True}
    parser.add_argument("--output", metavar="DIR", help="family folder of the output", **place)
    for item in job.inputs:
        flag = f"--{item.name.replace('_', '-')}"
        text = f"{'optional ' if item.optional else ''}input ({item.role}): the folder of a finished job"
        parser.add_argument(flag, metavar="DIR", required=not item.optional, help=text)
    parser.add_argument("--config", default="{}", metavar="JSON", help="config as one JSON object; flags go over it")
    parser.add_argument("--resources", default="{}", metavar="JSON", help="where it runs: ranks, threads, …")
    config_type = jobs.resolve(job.config)
    command_line.add_fields(parser, config_type)
    values = vars(parser.parse_args(arguments))
    config = command_line.collect(config_type, values.pop("config"), values)
    inputs = {item.name: values[item.name] for item in job.inputs}
    launched = launch(job.name, output=values["output"], config=config, resources=values["resources"], **inputs)
    for name, value in launched.manifest.metrics.items():
        print(f"{name:44} {value:g}")
    for line in jobs.resolve(TOLD[job.name])(launched.manifest) if job.name in TOLD else ():
        print(line)
    print(launched.manifest.folder.url)


def list_jobs(arguments: list[str]) -> None:
    """All jobs in order."""
    Parser(prog="arm jobs", description=list_jobs.__doc__).parse_args(arguments)
    for job in jobs.JOBS:
        print(f"{job.name:18} {job.purpose}")


def lineage(arguments: list[str]) -> None:
    """What an artifact was made from, what was made from it, and what a file has gone into."""
    parser = _with_store(Parser(prog="arm lineage", description=lineage.__doc__))
    parser.add_argument("question", choices=("upstream", "downstream", "impact"))
    parser.add_argument("artifact", help="start of a digest, folder, or path or checksum of a file in an artifact")
    options = parser.parse_args(arguments)
    from arm.tracking import lineage as answers

    for node in getattr(answers, options.question)(options.store, options.artifact):
        print(f"{node.digest[:12]}  {node.kind:16} {node.job:18} {node.url}")


def ledger(arguments: list[str]) -> None:
    """What each step of training consumed: prove that nothing was left out or repeated, ask who saw a sample."""
    options = _ledger_parser().parse_args(arguments)
    from arm.training.ledger import chain, query, verification

    others = chain.opened(_of_store(options.store, "train-model", "train-tokenizer", "tokenize-images"))
    given = [options.outputs] if isinstance(options.outputs, str) else options.outputs
    places = given or _of_store(options.store, "train-model")
    if not places:
        raise UserError(f"The store {options.store} holds no output of train-model; give its folder.")
    runs = chain.open_chains(places if given or options.action == "verify" else places[-1:], others)
    if options.action == "verify":
        lines = verification.verify_all(runs, others, tokens=options.tokens)
    elif options.action == "query":
        found = query.query_uid(runs, options.uid, others) if options.uid else query.query_shard(runs, options.shard)
        lines = found
    else:
        lines = query.seen(runs, options.step, options.write)
    for line in lines:
        print(line, flush=True)


def _ledger_parser() -> Parser:
    parser = Parser(prog="arm ledger", description=ledger.__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|query|seen")
    verify = actions.add_parser("verify", help="prove runs and all that they started from")
    verify.add_argument(
        "--tokens", action="store_true", help="read the token shards again, too, and compare the tokens"
    )
    query = actions.add_parser("query", help="list the steps and models that saw a sample or a shard")
    wanted = query.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--uid", help="of the sample: 32 hexadecimal digits")
    wanted.add_argument("--shard", help="of the token shards: variant/unit")
    seen = actions.add_parser("seen", help="count or list what a checkpoint has seen")
    seen.add_argument("--step", type=int, help="after so many steps of the run (default: its end)")
    seen.add_argument("--write", metavar="FILE", help="list every document there, as Parquet")
    for action, what in ((verify, "folders"), (query, "folders"), (seen, "folder")):
        text = f"{what} of train-model (default: the newest of the store); those that it started from are found"
        _with_store(action).add_argument("outputs", nargs="?" if what == "folder" else "*", metavar="OUTPUT", help=text)
    return parser


def tracking(arguments: list[str]) -> None:
    """Send what a dead tracking server has not heard."""
    parser = _with_store(Parser(prog="arm tracking", description=tracking.__doc__))
    parser.add_argument("action", choices=("flush",))
    options = parser.parse_args(arguments)
    from arm.tracking.sender import Sender, mlflow_address

    address = without_userinfo(mlflow_address(options.store))
    if not Sender(options.store).send_all():
        raise UserError(f"{address} did not take everything; what is left stays in the spool.")
    print(f"Nothing waits for {address}.")


def ui(arguments: list[str]) -> None:
    """Open MLflow on the store."""
    parser = _with_store(Parser(prog="arm ui", description=ui.__doc__))
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args(arguments)
    from arm.tracking.sender import mlflow_address

    address = mlflow_address(options.store)
    if address.startswith("http"):
        print(without_userinfo(address))
        return
    print(f"http://127.0.0.1:{options.port} (the server takes half a minute to start)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(options.port)]
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": address}  # a command line is for all users to read
    os.execve(sys.executable, [*command, "--workers", "1"], environment)


def _with_store(parser: Parser) -> Parser:
    parser.add_argument("--store", default=os.environ.get("ARM_STORE", STORE), help="store (default: %(default)s)")
    return parser


def _of_store(store: str, *names: str) -> list[str]:
    """The family folders of some jobs that a store holds, in order of the road."""
    from arm.recipes import STEPS, folder_name, job_of
    from arm.storage import open_folder

    places = [f"{store.rstrip('/')}/{folder_name(step)}" for step in STEPS if job_of(step) in names]
    return [place for place in places if open_folder(place).exists("current.json")]


def report(arguments: list[str]) -> None:
    """Write the report of a store, or of one evaluation, anew and say where it lies."""
    parser = _with_store(Parser(prog="arm report", description=report.__doc__))
    parser.add_argument("place", nargs="?", help="a store, or the folder of an evaluation (default: --store)")
    parser.add_argument("--baseline", default="", metavar="PLACE", help="another store or evaluation to compare with")
    options = parser.parse_args(arguments)
    from arm.evaluation.report import write_report

    print(write_report(options.place or options.store, options.baseline))


def _command(module: str, verb: str, purpose: str, *, store: bool = False) -> tuple[str, Callable[[list[str]], None]]:
    """A verb whose flags and work stand in a module of their own, which is imported when it runs."""

    def run_verb(arguments: list[str]) -> None:
        command = import_module(module)
        parser = Parser(prog=f"arm {verb}", description=purpose)
        command.add_arguments(_with_store(parser) if store else parser)
        command.run(parser.parse_args(arguments))

    return purpose, run_verb


def _release(verb: str, purpose: str) -> tuple[str, Callable[[list[str]], None]]:
    """A verb of `arm/release_verbs.py`, which is imported when it runs."""

    def run_verb(arguments: list[str]) -> None:
        from arm import release_verbs

        release_verbs.run(verb, _with_store(Parser(prog=f"arm {verb}", description=purpose)), arguments)

    return purpose, run_verb


def _evaluation(verb: str, purpose: str) -> tuple[str, Callable[[list[str]], None]]:
    """A verb of `arm/evaluation_verbs.py`, which is imported when it runs."""

    def run_verb(arguments: list[str]) -> None:
        from arm import evaluation_verbs

        evaluation_verbs.run(verb, Parser(prog=f"arm {verb}", description=purpose), arguments)

    return purpose, run_verb


VERBS: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "jobs": ("List the jobs in order.", list_jobs),
    "plan": _command("arm.preflight.command", "plan", "Say what a recipe will take, and refuse what cannot run."),
    "generate": _release("generate", "Draw an image of what a text says."),
    "edit": _release("edit", "Change an image as a text says."),
    "ask": _release("ask", "Answer a question about an image."),
    "generate-images": _evaluation("generate-images", "Draw a benchmark's prompts with any model, in its layout."),
    "edit-images": _evaluation("edit-images", "Edit a benchmark's images with any model, in its layout."),
    "answer-questions": _evaluation("answer-questions", "Answer a benchmark's questions with any model."),
    "detect-objects": _evaluation("detect-objects", "Find the objects that GenEval's rule asks for."),
    "check-contamination": _evaluation("check-contamination", "Say what training has seen of evaluation sets."),
    "measure-cost": _evaluation("measure-cost", "Take the time of drawing, decoding and detokenization apart."),
    "report": ("Write the report of a store anew.", report),
    "score": _command("arm.evaluation.benchmarks.command", "score", "Score results as a benchmark's authors do."),
    "lineage": ("Say what was made from what.", lineage),
    "ledger": ("Prove what training consumed, say who saw a sample.", ledger),
    "takedown": _command(
        "arm.takedown.command", "takedown", "Take data down, say what holds it and what learned from it.", store=True
    ),
    "tracking": ("Send what a dead tracking server has not heard.", tracking),
    "ui": ("Open MLflow on the store.", ui),
}

if __name__ == "__main__":
    main()
