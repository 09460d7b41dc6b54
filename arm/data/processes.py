"""Work spread over processes of this machine: results in the order of the items, children that die with their parent."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from arm.children import tie_to_parent
from arm.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, name: str
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; with one worker in this very process."""
    if workers == 1 or len(items) <= 1:
        yield from track(map(function, items), name, total=len(items))
        return
    tie = tie_to_parent(os.getpid())
    with multiprocessing.get_context("fork").Pool(min(workers, len(items)), initializer=tie) as pool:
        yield from track(pool.imap(function, items), name, total=len(items))
