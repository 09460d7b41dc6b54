"""Work spread over processes of this machine: results in the order of the items, children that die with their parent."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from arm.children import tie_to_parent
from arm.errors import ArmError
from arm.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, name: str
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; with one worker in this very process.

    ArmError when a process is killed from outside: multiprocessing.Pool would wait for its result for ever.
    """
    if workers == 1 or len(items) <= 1:
        yield from track(map(function, items), name, total=len(items))
        return
    tie, fork = tie_to_parent(os.getpid()), multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(workers, len(items)), fork, initializer=tie) as pool:
        try:
            yield from track(pool.map(function, items), name, total=len(items))
        except BrokenProcessPool:
            raise ArmError(
                f"{name}: one of {workers} processes was killed, for want of memory perhaps; "
                "lower `workers` and run the same command again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
