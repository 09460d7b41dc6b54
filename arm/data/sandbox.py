"""A child process for a function that hostile input may keep for ever, crash, or fill the memory with.

    with Sandbox(parse_page, cpu_seconds=20, memory_bytes=2 << 30) as sandbox:
        page = sandbox.call(body, url)        CrashError when the child died of it; the next call has a new child

Trees are where it is needed: of nested `<div>` 10,000 take a parser of HTML .25 s and 100,000 more than a minute, because
the standard's algorithm is quadratic in the depth. No check beforehand tells these pages from others.
"""

import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from arm.children import tie_to_parent
from arm.errors import ArmError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class CrashError(ArmError):
    """The function failed on this input: an exception, too much time or memory, or a crash."""


class Sandbox(Generic[Parameters, Result]):
    """Calls a function in a child that is replaced when it dies."""

    def __init__(self, function: Callable[Parameters, Result], *, cpu_seconds: int, memory_bytes: int) -> None:
        self._function, self._cpu_seconds, self._memory_bytes = function, cpu_seconds, memory_bytes
        self._child: tuple[Any, Connection] | None = None

    def __enter__(self) -> "Sandbox[Parameters, Result]":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end()

    def call(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """The function's result; CrashError when there is none."""
        self._child = self._child or self._start()
        try:
            self._child[1].send((args, kwargs))
            succeeded, result = self._child[1].recv()
        except (EOFError, OSError):
            self._end()
            raise CrashError(f"{self._function.__name__} took more than it may, or crashed") from None
        if not succeeded:
            raise CrashError(f"{self._function.__name__} failed: {result}")
        return result  # type: ignore[no-any-return]

    def _start(self) -> tuple[Any, Connection]:
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        child = fork.Process(target=self._serve, args=(here, there, os.getpid()), daemon=True)
        child.start()
        there.close()
        return child, here

    def _end(self) -> None:
        if self._child is not None:
            child, connection = self._child
            self._child = None
            connection.close()
            child.kill()
            child.join()

    def _serve(self, here: Connection, there: Connection, parent: int) -> None:
        """What the child does: answer calls until the other end closes."""
        here.close()
        tie_to_parent(parent)()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _allow_memory(self._memory_bytes)
        while True:
            try:
                args, kwargs = there.recv()
            except EOFError:
                os._exit(0)
            _allow_seconds(self._cpu_seconds)
            try:
                answer = (True, self._function(*args, **kwargs))
            except Exception as error:
                answer = (False, type(error).__name__)  # type: ignore[assignment]
            there.send(answer)


def _allow_memory(num_bytes: int) -> None:
    """So many bytes more than what is mapped already."""
    with open("/proc/self/statm") as stream:
        mapped = int(stream.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + num_bytes, hard))


def _allow_seconds(seconds: int) -> None:
    """So many seconds of CPU from now: then the kernel sends SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))
