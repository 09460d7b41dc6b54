"""Manifests whose readers refuse what was taken down.

    inputs, digests = refuse({"images": manifest}, store)       inputs["images"].tombstones   {"00ab…", "7f31…"}
                                                                digests   [{"tombstones/images": "5e1f…"}, {}]

`arm.jobs` asks this of every job's inputs. The set that applies to an input is what that very artifact holds of the
tombstones of its own store and of the store that the output goes to, so that a takedown changes the keys of the jobs that
read what was taken down, and no others. What an artifact holds is looked up once a state of the set.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from arm import tombstones
from arm.manifest import Manifest
from arm.tombstones import Held
from arm.tracking.spool import store_of

HOLD_SAMPLES = ("pairs", "filtered-pairs", "image-shards", "curated-shards", "token-shards")
"""Kinds of artifacts that hold samples, or pairs that become samples."""


def refuse(inputs: Mapping[str, Manifest], output_store: str) -> tuple[dict[str, Manifest], list[dict[str, str]]]:
    """The inputs with what their readers refuse, and the digests that this adds to a content key: of the set as it is now
    first, then as it was after each earlier takedown, none last."""
    state_of = cache(tombstones.state_of)  # one listing a store, however many inputs
    stores = {name: _stores(manifest, output_store, state_of) for name, manifest in inputs.items()}
    held = {
        name: [_held(store, inputs[name], state_of(store)) for store in found]
        for name, found in stores.items()
        if found
    }
    numbers = sorted({number for found in held.values() for item in found for number in item.uids}, reverse=True)
    digests = [_digests(held, number) for number in numbers]
    refusing = {name: replace(inputs[name], tombstones=_until(found, 2**31)) for name, found in held.items()}
    return {**inputs, **refusing}, [*digests, {}]


def refused_counts(inputs: Mapping[str, Manifest]) -> dict[str, int]:
    """How many uids the readers of each input refused, for the counts of what was made of them."""
    return {f"tombstones/{name}": len(item.tombstones) for name, item in inputs.items() if item.tombstones}


def refused_digest(inputs: Mapping[str, Manifest]) -> str:
    """A digest of all uids that the readers of some inputs refuse."""
    return tombstones.digest_of(f"{name} {uid}" for name, item in inputs.items() for uid in item.tombstones)


def refusing(manifest: Manifest) -> Manifest:
    """One manifest with what its readers refuse by the tombstones of its own store."""
    found, _ = refuse({"it": manifest}, store_of_artifact(manifest))
    return found["it"]


def store_of_artifact(manifest: Manifest) -> str:
    """The store that an artifact lies in: two folders above its files."""
    return store_of(store_of(manifest.folder.url))


def _stores(manifest: Manifest, output_store: str, state_of: Callable[[str], int]) -> list[str]:
    """The stores with tombstones that this manifest is subject to."""
    if manifest.kind not in HOLD_SAMPLES:
        return []
    return [store for store in dict.fromkeys((store_of_artifact(manifest), output_store)) if state_of(store)]


def _held(store: str, manifest: Manifest, state: int) -> Held:
    known = tombstones.read_held(store, manifest.digest)
    if known is not None and known.state == state:
        return known
    from arm.data.holdings import look_up

    return look_up(store, manifest)


def _until(held: list[Held], number: int) -> frozenset[str]:
    return frozenset[str]().union(*(item.until(number) for item in held))


def _digests(held: Mapping[str, list[Held]], number: int) -> dict[str, str]:
    found = {name: _until(items, number) for name, items in held.items()}
    return {f"tombstones/{name}": tombstones.digest_of(uids) for name, uids in found.items() if uids}
