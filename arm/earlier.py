"""What a store of earlier crawls holds for the next one: the input `seen` of filter-pairs, the input `known` of curate-images.

    store/06-filter-pairs    crawl 1 ◀─seen─ crawl 2 ◀─seen─ crawl 3     current.json: crawl 3

A crawl is told by the data that a job reads. A run over a fourth crawl takes the third's output; a run over the third
again, after a kill perhaps, takes the second's as it did before: the same content key, so that what is complete is
returned. Without a crawl before there is no such input. The store may be the run's own.
"""

from collections.abc import Mapping

from arm import manifest
from arm.manifest import Manifest
from arm.storage import open_folder

TAKEN_AS = {"filter-pairs": "seen", "curate-images": "known"}
"""Job -> the input that its own earlier output is."""
DATA = {"filter-pairs": ("pairs",), "curate-images": ("crawled", "imported")}
"""Job -> the inputs that tell one crawl from another: what judges them may change."""


def with_earlier(job: str, inputs: Mapping[str, str | None], output: str, store: str) -> dict[str, str | None]:
    """The inputs of a job, completed by its output for the crawl before this one in `store`, where there is one."""
    name = TAKEN_AS.get(job)
    if not store or name is None or inputs.get(name):
        return dict(inputs)
    family = f"{store.rstrip('/')}/{output.rstrip('/').rpartition('/')[2]}"
    found = _before(family, name, {role: _digest(inputs.get(role)) for role in DATA[job]})
    return {**inputs, name: found.url if found else None}


def _before(family: str, name: str, data: Mapping[str, str | None]) -> Manifest | None:
    """The newest artifact of a family that was not made from this data, going back from one to its own earlier."""
    folder = open_folder(family)
    if not folder.exists("current.json"):
        return None
    found, made = manifest.load(family), dict[str, Manifest]()
    while {role: found.inputs.get(role) for role in data} == data:
        if name not in found.inputs:
            return None
        made = made or {item.digest: item for item in _artifacts(family)}
        if found.inputs[name] not in made:
            return None
        found = made[found.inputs[name]]
    return found


def _artifacts(family: str) -> list[Manifest]:
    names = [path for path in open_folder(family).list() if path.endswith(f"/{manifest.NAME}") and path.count("/") == 1]
    return [manifest.load(f"{family}/{name}") for name in names]


def _digest(url: str | None) -> str | None:
    return manifest.load(url).digest if url else None
