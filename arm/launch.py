"""Start a job where its resources say: in this process, as ranks on this machine, or on a cluster.

    launch("filter-pairs", pairs="store/05-extract-pairs", output="store/06-filter-pairs", config="{}").save("ref.json")

Light first: config, content key and the check for a complete output come before any heavy import. Ranks follow
torchrun's protocol (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so `torchrun -m arm.launch` starts the same
worker on a cluster; here they are plain children, which saves torchrun's own imports and lets each die with its parent.

    ARM_LAUNCH      what a rank runs: {job, output, config, inputs, threads}
    ARM_ERROR_FILE  where a UserError goes as one JSON line {job, error} before exit code 1
    ARM_RUNNER_PID  the process of `pipelines.run`: a task dies with it
    ARM_REFUSED     digest of what the launcher's inputs refuse: a rank that started after a takedown meanwhile says so
    ARM_PART        k/n: which units this process makes, where the parts of a job run apart (see `launch_part`)

A rank that exits with 75 (EX_TEMPFAIL: it hung, see `arm.training.heartbeat`) has all of them run again, a few times. On
Ctrl-C or SIGTERM the ranks have two minutes to save.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm import config as configs
from arm import jobs, manifest
from arm.children import RUN_AGAIN, die_with, start_child
from arm.data.refusing import refused_digest
from arm.earlier import with_earlier
from arm.errors import ArmError, UserError
from arm.manifest import Manifest
from arm.progress import tell
from arm.resources import Resources, payload_of
from arm.storage.disk import disk_errors_in_a_sentence
from arm.tracking.session import session
from arm.tracking.spool import store_of

POLL_SECONDS = 0.1
RESTARTS = 3
"""How often ranks that ask for it are run again, unless an hour lies between."""
SAVE_SECONDS = 120.0
"""How long ranks that are asked to stop may take: to end the step, to save, and a minute for the copy in the store."""
STACKS_SECONDS = 5.0
"""How long the others may take to write down where they hang, after the first has given up."""
BRIEF_SPIN = "20000"
"""How long a thread of libgomp looks for work before it sleeps: some ten microseconds. Two threads on small matrices
did 2.9 steps a second with it, 1.8 without (docs/log.md); waiting for ever costs five times on shared cores."""
RANK_COMMAND = (sys.executable, "-m", "arm.launch")


@dataclass(frozen=True)
class Launched:
    """A finished job's output."""

    manifest: Manifest

    def save(self, path: str) -> None:
        """Write the reference that the next KFP component reads."""
        manifest.save_reference(self.manifest, path)


def launch(
    job_name: str,
    *,
    output: str,
    config: str = "{}",
    resources: str = "{}",
    earlier: str = "",
    attempt: int = 1,
    **inputs: str | None,
) -> Launched:
    """Run a job to its end, or return its complete output; in a task, a UserError becomes a file and exit code 1.

    `earlier` is a store of earlier crawls that this one adds to, `attempt` the number of a download (see `arm.earlier`).
    """
    with reported_errors(job_name), disk_errors_in_a_sentence(output):
        if "ARM_RUNNER_PID" in os.environ:
            die_with(int(os.environ["ARM_RUNNER_PID"]))
        place = configs.from_json(Resources, resources)
        inputs = with_earlier(job_name, inputs, output, earlier, attempt)
        plan = jobs.plan(job_name, output=output, config=config, inputs=inputs)
        _check_ranks(plan.job, place)
        tell(event="start", job=job_name, output=output)
        started, reused = time.monotonic(), jobs.reuse(plan)
        finished = reused or _start(plan, place)
        seconds = round(time.monotonic() - started, 2)
        tell(event="end", job=job_name, output=output, url=finished.url, reused=bool(reused), seconds=seconds)
        return Launched(finished)


def launch_part(
    job_name: str, part: str, *, output: str, config: str = "{}", resources: str = "{}", **inputs: str | None
) -> None:
    """Make the units of part `k/n` of a divisible job in this process; nothing is published but units."""
    with reported_errors(job_name), disk_errors_in_a_sentence(output):
        place = configs.from_json(Resources, resources)
        plan = jobs.plan(job_name, output=output, config=config, inputs=inputs)
        if plan.complete() is None:
            prepare_process(place.threads)
            execute_part(plan, part)


def execute_part(plan: jobs.Plan, part: str) -> None:
    """Make the units of a part beside the other parts, without the output's lock.

    Each unit is made by one part and published whole, so parts cannot meet; the job itself, run when they have ended,
    finds the units, makes what is missing under the lock, sums up and publishes the manifest.
    """
    index, _, count = part.partition("/")
    if not plan.job.divisible:
        raise UserError(f"{plan.job.name} cannot be run in parts; run it as one.")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"{part!r} is no part; give k/n with k from 0 to n - 1.")
    os.environ["ARM_PART"] = part
    jobs.call(plan)


@contextlib.contextmanager
def reported_errors(job_name: str) -> Iterator[None]:
    """Hand a UserError to whoever set ARM_ERROR_FILE; without it, the error goes on as it is."""
    try:
        yield
    except ArmError as error:
        path = os.environ.get("ARM_ERROR_FILE")
        if not path:
            raise
        with open(path, "a") as stream:
            stream.write(json.dumps({"job": job_name, "error": str(error)}) + "\n")
        raise SystemExit(1) from None


def read_error(path: str | Path) -> str | None:
    """The first sentence that a task or rank left in an ARM_ERROR_FILE, if any."""
    lines = Path(path).read_text().splitlines() if Path(path).is_file() else []
    return str(json.loads(lines[0])["error"]) if lines else None


def prepare_process(threads: int) -> None:
    """Before torch is imported: fix the thread count, let waiting threads sleep soon, keep libraries from drawing bars."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", BRIEF_SPIN)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic algorithms ask for it on a GPU
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _start(plan: jobs.Plan, place: Resources) -> Manifest:
    if place.where != "here":
        from arm.launch_kubernetes import run_on_cluster

        return run_on_cluster(plan, place)
    with session(store_of(plan.output)):
        if place.ranks > 1:
            return _run_ranks(plan, place)
        prepare_process(place.threads)
        return jobs.execute(plan)


def _check_ranks(job: jobs.Job, place: Resources) -> None:
    """Refuse ranks that would all do the same: only some jobs divide their work."""
    if place.ranks > 1 and not job.distributed:
        raise UserError(f"{job.name} runs as one process, not as {place.ranks} ranks; give it ranks 1.")


def _run_ranks(plan: jobs.Plan, place: Resources) -> Manifest:
    """Start the ranks, wait for all, and read what rank 0 published."""
    from arm.lock import output_lock

    with output_lock(plan.folder, plan.job.name), tempfile.TemporaryDirectory() as folder:
        finished = plan.complete()
        if finished:
            return finished
        plan.folder.sweep()
        error_file = Path(folder) / "error.jsonl"
        common = {
            "ARM_LAUNCH": payload_of(plan, place.threads),
            "ARM_ERROR_FILE": str(error_file),
            "ARM_REFUSED": refused_digest(plan.inputs),
            "WORLD_SIZE": str(place.ranks),
            "LOCAL_WORLD_SIZE": str(place.ranks),
            "MASTER_ADDR": "127.0.0.1",
        }
        code = _run_again_and_again(plan.job.name, place.ranks, common)
        if code:
            raise _failure(plan.job.name, error_file, code)
    manifest = plan.complete()
    if manifest is None:  # run again after a hang, the ranks found other tombstones, which give other keys
        raise UserError(f"Data was taken down while {plan.job.name} ran; run the same command again.")
    return manifest


def _run_again_and_again(job_name: str, num_ranks: int, common: dict[str, str]) -> int:
    """Run the ranks, anew where they ask for it; the code that they ended with."""
    restarts = 0
    while True:
        started = time.monotonic()
        environment = {**common, "MASTER_PORT": str(_free_port())}
        code = _wait([_start_rank(rank, environment) for rank in range(num_ranks)])
        restarts = 0 if time.monotonic() - started > 3600 else restarts
        if code != RUN_AGAIN or restarts == RESTARTS:
            return code
        restarts, common = restarts + 1, {**common, "ARM_REFUSED": ""}  # what was taken down meanwhile is picked up
        print(f"The ranks of {job_name} are run again ({restarts} of {RESTARTS}).", file=sys.stderr, flush=True)


def _start_rank(rank: int, common: dict[str, str]) -> "subprocess.Popen[Any]":
    return start_child(RANK_COMMAND, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})


def _wait(ranks: "list[subprocess.Popen[Any]]") -> int:
    """Wait until every rank has ended well (0), or one has failed: its code. The others would wait for it in vain."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    try:
        while True:
            codes = [rank.poll() for rank in ranks]
            failed = [code for code in codes if code]
            if RUN_AGAIN in failed:
                _await(ranks, STACKS_SECONDS)
                return RUN_AGAIN
            if failed or all(code == 0 for code in codes):
                return failed[0] if failed else 0
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        if _asked_to_stop(ranks):
            raise SystemExit(RUN_AGAIN) from None
        raise
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
        signal.signal(signal.SIGTERM, before)


def _asked_to_stop(ranks: "list[subprocess.Popen[Any]]") -> bool:
    """Ask all ranks to stop and wait a while; whether all have saved. Who asks twice by SIGTERM changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for rank in ranks:
        rank.terminate()
    _await(ranks, SAVE_SECONDS)
    return all(rank.poll() == RUN_AGAIN for rank in ranks)


def _await(ranks: "list[subprocess.Popen[Any]]", seconds: float) -> None:
    """Wait so long at most until all have ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(POLL_SECONDS)


def _failure(job_name: str, error_file: Path, code: int) -> Exception:
    sentence = read_error(error_file)
    if code == RUN_AGAIN and not sentence:
        sentence = f"The ranks of {job_name} hung {RESTARTS + 1} times; their stacks are above, look at the machine."
    return UserError(sentence) if sentence else RuntimeError(f"A rank of {job_name} ended with code {code}; see above.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """A rank: run the job of ARM_LAUNCH in this process; in a pod, rank 0 sends what it tracks."""
    values = json.loads(os.environ["ARM_LAUNCH"])
    prepare_process(values["threads"])
    leads = os.environ.get("RANK", "0") == "0"
    with reported_errors(values["job"]), session(store_of(values["output"])) if leads else contextlib.nullcontext():
        plan = jobs.plan(values["job"], output=values["output"], config=values["config"], inputs=values["inputs"])
        if os.environ.get("ARM_REFUSED", "") not in ("", refused_digest(plan.inputs)):
            raise UserError(
                f"Data was taken down while the ranks of {values['job']} started; run the same command again."
            )
        try:
            jobs.execute(plan)
        except KeyboardInterrupt:  # the launcher, which was interrupted as well, says it
            raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
