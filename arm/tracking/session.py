"""A session: while it lasts, a follower sends what the jobs spool, so that metrics show up while they are made.

    with session("store", pipeline="full", recipe="toy"):
        ...                      jobs of this process and its children

The follower dies with the process that opened the session. At the end it has as long as it gets on with sending; what it
could not send stays in the spool for the next session, or for `arm tracking flush`. A session that failed does not keep its
error waiting: what MLflow does not take at once is sent by the next.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from arm.children import start_child
from arm.tracking.recording import pipeline as current_pipeline
from arm.tracking.spool import Spool, tracking_folder, unsent_bytes

OPEN = "ARM_TRACKING_SESSION"
PATIENCE_SECONDS = 20.0
"""Without anything sent; importing MLflow takes 6 to 9 of them."""
PATIENCE_AFTER_FAILURE_SECONDS = 3.0


@contextlib.contextmanager
def session(store: str, *, pipeline: str = "", recipe: str = "") -> Iterator[None]:
    """Follow the store's spools; with a pipeline's name, its jobs become children of one run. Sessions do not nest."""
    if os.environ.get(OPEN):
        yield
        return
    names = {OPEN: store} | (_pipeline_names(store, pipeline, recipe) if pipeline else {})
    follower = _start_follower(store)
    os.environ |= names
    status = "FAILED"
    try:
        _tell_pipeline(store, "RUNNING")
        yield
        status = "FINISHED"
    finally:
        _tell_pipeline(store, status)
        for name in names:
            os.environ.pop(name, None)
        if status == "FINISHED":
            _end(follower, store)
        else:
            _end_soon(follower)


def _pipeline_names(store: str, pipeline: str, recipe: str) -> dict[str, str]:
    """What tells a job which pipeline run it belongs to: the same after a kill and a restart."""
    key = hashlib.sha256(json.dumps([pipeline, recipe, store]).encode()).hexdigest()[:32]
    return {"ARM_PIPELINE_KEY": key, "ARM_PIPELINE_NAME": f"{pipeline} ({recipe})" if recipe else pipeline}


def _start_follower(store: str) -> "subprocess.Popen[Any]":
    folder = tracking_folder(store)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sender.log").open("a") as log:
        command = [sys.executable, "-m", "arm.tracking.sender", store]
        return start_child(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)


def _tell_pipeline(store: str, status: str) -> None:
    if current_pipeline():
        spool = Spool(tracking_folder(store), current_pipeline()["key"])
        spool.append({"event": "pipeline", "pipeline": current_pipeline(), "status": status})
        spool.close()


def _end_soon(follower: "subprocess.Popen[Any]") -> None:
    """Let the follower send what it can in a moment, and say nothing: the error that ended the session is to be seen."""
    _close(follower)
    with contextlib.suppress(subprocess.TimeoutExpired):
        follower.wait(PATIENCE_AFTER_FAILURE_SECONDS)
    follower.kill()
    follower.wait()


def _close(follower: "subprocess.Popen[Any]") -> None:
    assert follower.stdin is not None
    with contextlib.suppress(OSError):
        follower.stdin.close()


def _end(follower: "subprocess.Popen[Any]", store: str) -> None:
    """Close the follower's stdin and wait while what is left to send grows less."""
    _close(follower)
    left = unsent_bytes(store)
    while True:
        try:
            follower.wait(PATIENCE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            before, left = left, unsent_bytes(store)
            if left == 0 or left >= before:
                break
            print(f"MLflow is still being told of this run: {left:,} bytes to go.", flush=True)
    follower.kill()
    follower.wait()
    if left:
        print(
            f"MLflow has taken nothing for {PATIENCE_SECONDS:.0f} s, and does not show all of this run yet. Nothing is lost: "
            f"{left:,} bytes wait for the next run, or for `arm tracking flush --store {store}`; errors, if any, stand in "
            f"{tracking_folder(store) / 'sender.log'}."
        )
