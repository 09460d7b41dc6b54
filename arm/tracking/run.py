"""What tracking must know of a run: `arm.jobs.Plan` has it, and stays to the left of this package."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from arm.manifest import Manifest


class NamedInput(Protocol):
    """An input that a job declares."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def holds_paths(self) -> bool: ...


class Job(Protocol):
    """A job's name and its inputs."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[NamedInput]: ...


class Run(Protocol):
    """A run made ready."""

    @property
    def job(self) -> Job: ...
    @property
    def config(self) -> Any: ...
    @property
    def inputs(self) -> Mapping[str, Manifest]: ...
    @property
    def digests(self) -> Mapping[str, str]:
        """Role -> digest, outside files included."""
        ...

    @property
    def key(self) -> str: ...
    @property
    def output(self) -> str:
        """The family folder."""
        ...
