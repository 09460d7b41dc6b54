"""Chains of training runs: finetune ← continue ← pretrain, each found by the digest of the model that it started from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arm import manifest as manifests
from arm.errors import IntegrityError, UserError
from arm.manifest import FileEntry, Manifest
from arm.training.ledger.format import DOCUMENTS, STEPS, Steps, read_steps

JOB = "train-model"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished stage of training with its ledger."""

    manifest: Manifest

    @property
    def stage(self) -> str:
        """pretrain, continue or finetune."""
        return str(self.manifest.config.get("stage", "pretrain"))

    @property
    def label(self) -> str:
        """`finetune 1a2b3c4d5e6f`."""
        return f"{self.stage} {self.manifest.digest[:12]}"

    def files(self) -> list[tuple[FileEntry, FileEntry]]:
        """The steps file and the documents file of each part, in order."""
        steps, documents = (self.manifest.select(prefix, ".parquet") for prefix in (STEPS, DOCUMENTS))
        numbers = [
            [entry.path.removeprefix(p) for entry in found] for p, found in ((STEPS, steps), (DOCUMENTS, documents))
        ]
        if not steps or numbers[0] != numbers[1]:
            raise IntegrityError(f"{self.manifest.folder.url} holds no whole ledger; train again.")
        return list(zip(steps, documents, strict=True))

    def steps(self) -> Steps:
        """The steps of all files, as they lie there."""
        tables = [read_steps(self.manifest.local(entry), self.where(entry)) for entry, _ in self.files()]
        names = ("step", "documents", "tokens", "digest", "identity")
        return Steps(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})

    def where(self, entry: FileEntry) -> str:
        """The address of a file, for errors."""
        return f"{self.manifest.folder.url}/{entry.path}"


def opened(places: Sequence[str]) -> list[Manifest]:
    """The manifests at some folders."""
    return [manifests.load(place) for place in places]


def open_chains(places: Sequence[str], others: Sequence[Manifest] = ()) -> list[Run]:
    """The runs at some folders and all that they started from, every one after the run that it started from.

    A run that started from another run of training which is not found is a UserError.
    """
    given = opened(places)
    for found in given:
        if found.job != JOB:
            raise UserError(f"{found.folder.url} is an output of {found.job}, which has no ledger; give one of {JOB}.")
    runs: dict[str, Run] = {}
    for found in given:
        for run in reversed(list(_back(found, [*given, *others]))):
            runs.setdefault(run.manifest.digest, run)
    return list(runs.values())


def base_of(run: Run, others: Sequence[Manifest]) -> Manifest | None:
    """The run that a run started from; None for the first stage, which starts from a language model."""
    if run.stage == "pretrain":
        return None
    base = find_input(run.manifest, "base", others)
    if base is None:
        place = address_of(run.manifest, "base")
        raise UserError(
            f"{run.label} started from the model {run.manifest.inputs.get('base', '')[:12]}, which is none of the given "
            f"runs{f' and not at {place} any more' if place else ''}; give its folder, too."
        )
    return base if base.job == JOB else None


def find_input(manifest: Manifest, name: str, others: Sequence[Manifest] = ()) -> Manifest | None:
    """An input by its digest: among some manifests, else where `run.json` says that it lay."""
    digest = manifest.inputs.get(name)
    for other in others:
        if other.digest == digest:
            return other
    try:
        found = manifests.load(address_of(manifest, name))
    except (UserError, OSError):
        return None
    return found if found.digest == digest else None


def address_of(manifest: Manifest, name: str) -> str:
    """Where `run.json` says that an input lay; empty when it says nothing."""
    try:
        return str(json.loads(manifest.folder.read("run.json"))["inputs"][name])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _back(manifest: Manifest, others: Sequence[Manifest]) -> Iterator[Run]:
    """A run, the run that it started from, and so on."""
    found: Manifest | None = manifest
    while found is not None:
        run = Run(found)
        yield run
        found = base_of(run, others)
