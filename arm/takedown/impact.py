"""What a takedown touches: how much each artifact holds, what training consumed of it up to which step, what derives from it.

Counts of samples and tokens are the index's; documents and steps of a finished stage are its ledger's, the tokens of each
document its plan's. Of a stage that is not finished its checkpoints are counted, by its plan.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from arm import jobs, tombstones
from arm.data.holdings import Place
from arm.errors import ArmError
from arm.manifest import Manifest
from arm.takedown.consumption import Stage, stages_of
from arm.takedown.search import Holding

COMPACTION = "takedown"
"""The job of compacted versions."""
DATA = ("pairs/", "documents/", "shards/")
"""Files of samples; others (dropped/, failures/, decisions/) tell of them."""


@dataclass(frozen=True, slots=True)
class FileShare:
    """What one file holds of what was taken down."""

    file: str
    samples: int
    of_samples: int
    tokens: int
    of_tokens: int


@dataclass(frozen=True, slots=True)
class ArtifactShare:
    """What one artifact holds of it."""

    digest: str
    kind: str
    url: str
    samples: int
    of_samples: int
    tokens: int
    of_tokens: int
    told_of: int
    """Rows of its tables that tell of samples that were dropped or failed."""
    files: tuple[FileShare, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """An artifact that was made of one that holds it, or of one that was made of such, judges left out."""

    digest: str
    kind: str
    job: str
    url: str


@dataclass(frozen=True, slots=True)
class Impact:
    """The whole answer."""

    number: int
    """Of the file of the set that holds what was asked for."""
    entries: dict[str, tuple[str, ...]]
    uids: tuple[str, ...]
    artifacts: tuple[ArtifactShare, ...]
    stages: tuple[Stage, ...]
    derived: tuple[Derived, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def measure(
    store: str,
    number: int,
    entries: tombstones.Entries,
    uids: frozenset[str],
    holdings: Sequence[Holding],
    artifacts: Sequence[Manifest],
) -> Impact:
    """Count what some uids touch in a store."""
    places = {holding.manifest.digest: holding.places(uids) for holding in holdings}
    holding_it = [holding for holding in holdings if places[holding.manifest.digest]]
    digests = {holding.manifest.digest for holding in holding_it}
    derived = derived_from(digests, artifacts)
    known = {manifest.digest for manifest in artifacts}
    return Impact(
        number=number,
        entries={kind: tuple(sorted(entries.get(kind, ()))) for kind in tombstones.KINDS},
        uids=tuple(sorted(uids)),
        artifacts=tuple(share_of(holding, places[holding.manifest.digest]) for holding in holding_it),
        stages=tuple(stages_of(store, [(h.manifest, places[h.manifest.digest]) for h in holding_it], artifacts)),
        derived=(*derived, *(node for node in _elsewhere(store, digests) if node.digest not in known)),
    )


def share_of(holding: Holding, places: Sequence[Place]) -> ArtifactShare:
    """How much of an artifact some of its rows are, file by file."""
    index, manifest = holding.index, holding.manifest
    hits: dict[str, list[Place]] = {}
    for place in places:
        hits.setdefault(place.file, []).append(place)
    columns = zip(index.files, index.samples, index.tokens, strict=True)
    files = [
        FileShare(file, len(hits.get(file, ())), samples, sum(place.tokens for place in hits.get(file, ())), tokens)
        for file, samples, tokens in columns
    ]
    data = [file for file in files if file.file.startswith(DATA)]
    samples, of_samples, tokens, of_tokens = (
        sum(getattr(file, name) for file in data) for name in ("samples", "of_samples", "tokens", "of_tokens")
    )
    told = sum(file.samples for file in files if not file.file.startswith(DATA))
    touched = tuple(file for file in files if file.samples)
    return ArtifactShare(
        manifest.digest, manifest.kind, manifest.folder.url, samples, of_samples, tokens, of_tokens, told, touched
    )


def derived_from(digests: set[str], artifacts: Sequence[Manifest]) -> list[Derived]:
    """What was made of some artifacts, over data and initial weights, by the manifests' own inputs; itself left out."""
    reached = set(digests)
    while True:
        more = {m.digest for m in artifacts if m.digest not in reached and reached.intersection(_made_of(m))}
        if not more:
            break
        reached |= more
    found = (manifest for manifest in artifacts if manifest.digest in reached - digests)
    return [Derived(manifest.digest, manifest.kind, manifest.job, manifest.folder.url) for manifest in found]


def _made_of(manifest: Manifest) -> Iterator[str]:
    """Digests of the inputs that left something in an artifact; a compacted version is made of what is left."""
    if manifest.job == COMPACTION:
        return
    judges = {item.name for job in jobs.JOBS if job.name == manifest.job for item in job.inputs if item.role == "judge"}
    yield from (digest for name, digest in manifest.inputs.items() if name not in judges)


def _elsewhere(store: str, digests: set[str]) -> list[Derived]:
    """What lineage knows to derive from it, in other stores too; nothing where it knows none of them."""
    from arm.tracking import lineage

    found: dict[str, Derived] = {}
    for digest in sorted(digests):
        try:
            nodes = lineage.impact(store, digest)
        except ArmError:
            continue
        found |= {node.digest: Derived(node.digest, node.kind, node.job, node.url) for node in nodes}
    return list(found.values())
