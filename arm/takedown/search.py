"""What the artifacts of a store hold of what is taken down: by their indexes, every sample wherever it lies.

    asked   url of one image        pairs, image shards  ->  uid 00ab…      token shards  ->  uid 00ab…, too

A sample keeps its uid on the whole road, so what one artifact knows by an address or a checksum is found in the others by
the uid. Every version of an artifact in the store is searched, not only the newest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from arm import manifest as manifests
from arm import tombstones
from arm.data.holdings import Index, Place, open_index
from arm.data.refusing import HOLD_SAMPLES
from arm.manifest import Manifest
from arm.progress import track


@dataclass(frozen=True, slots=True)
class Holding:
    """An artifact that holds samples, with its index."""

    manifest: Manifest
    index: Index

    def places(self, uids: frozenset[str]) -> list[Place]:
        """Where the samples lie in it."""
        return self.index.places(uids)


def artifacts_of(store: str) -> list[Manifest]:
    """Every complete artifact of a store, older versions included, in order of their folders."""
    return [manifests.load(address) for address in manifests.complete_artifacts(store, of_a_store=True)]


def holdings_of(store: str, artifacts: Sequence[Manifest]) -> list[Holding]:
    """Those that hold samples; an index that is missing is made, which reads the artifact once."""
    holding = [manifest for manifest in artifacts if manifest.kind in HOLD_SAMPLES]
    tracked = track(holding, "index artifacts", total=len(holding))
    return [Holding(manifest, open_index(store, manifest)) for manifest in tracked]


def find(holdings: Sequence[Holding], entries: tombstones.Entries) -> frozenset[str]:
    """The uids of all samples that the entries name in any of the artifacts."""
    return frozenset[str]().union(*(holding.index.uids_of(entries) for holding in holdings))


def unsearched(store: str) -> Iterator[tombstones.Version]:
    """The files of the set whose search was not finished."""
    versions = tombstones.read_versions(store)
    for version in versions:
        if not version.search_of and not tombstones.is_searched(versions, version.number):
            yield version
