"""What a store of earlier crawls holds for the next one, by job: the input that its own earlier output is.

    store/06-filter-pairs    crawl 1 ◀─seen─ crawl 2 ◀─seen─ crawl 3                   current.json: crawl 3
    store/07-download-images attempt 1 ◀─retry_failures─ attempt 2      crawl 2: attempt 1      …

A crawl is told by the data that a job reads. A run over a fourth crawl takes the third's output; a run over the third
again, after a kill perhaps, takes the second's as it did before: the same content key, so that what is complete is
returned. Without a crawl before there is no such input. The store may be the run's own.

Attempt 2 of a download asks again for what attempt 1 did not bring, attempt 3 for what attempt 2 did not: the number, not
"once more", so that the same command finds its own output. The images of each attempt are a crawl for curate-images.
"""

from collections.abc import Mapping
from functools import cached_property

from arm import manifest
from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import open_folder

TAKEN_AS = {"filter-pairs": "seen", "curate-images": "known"}
"""Job -> the input that its own earlier output is."""
DATA = {"filter-pairs": ("pairs",), "curate-images": ("crawled", "imported")}
"""Job -> the inputs that tell one crawl from another: what judges them may change."""
ATTEMPTED, RETRIED = "download-images", "retry_failures"
COMPACTED = "compacted"
"""The input of a version without what was taken down (`arm.takedown.compaction`)."""


def with_earlier(
    job: str, inputs: Mapping[str, str | None], output: str, store: str, attempt: int = 1
) -> dict[str, str | None]:
    """The inputs of a job, completed by its output for the crawl before this one in `store`, where there is one; those of
    a further attempt by the attempt before it."""
    url = f"{store.rstrip('/')}/{output.rstrip('/').rpartition('/')[2]}"
    if job == ATTEMPTED and attempt != 1:
        return {**inputs, RETRIED: _attempt_before(_Family(url, RETRIED), inputs, store, attempt).url}
    name = TAKEN_AS.get(job)
    if not store or name is None or inputs.get(name):
        return dict(inputs)
    found = _before(_Family(url, name), {role: _digest(inputs.get(role)) for role in DATA[job]})
    return {**inputs, name: found.url if found else None}


class _Family:
    """The artifacts of one job in a store, which follow one another by an input of theirs."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    @cached_property
    def newest(self) -> Manifest | None:
        """The one that `current.json` points to: made, or found again, last."""
        return manifest.load(self._url) if open_folder(self._url).exists("current.json") else None

    @cached_property
    def by_digest(self) -> dict[str, Manifest]:
        """All of them."""
        found = map(manifest.load, manifest.complete_artifacts(self._url))
        return {item.digest: item for item in found}

    def line(self, item: Manifest | None) -> list[Manifest]:
        """An artifact, the one that it was made from, and so on."""
        line = list[Manifest]()
        while item:
            line.append(item)
            item = self._find(self.inputs_of(item).get(self._name, ""))
        return line

    def _find(self, digest: str) -> Manifest | None:
        """An artifact, or the version without what was taken down that stands in for it once it is deleted."""
        standing = (item for item in self.by_digest.values() if item.inputs.get(COMPACTED) == digest)
        return self.by_digest.get(digest) or next(standing, None)

    def inputs_of(self, item: Manifest) -> Mapping[str, str]:
        """What an artifact was made from; a version of it without what was taken down was made from the same, and says so
        itself once the whole one is deleted."""
        while COMPACTED in item.inputs and item.inputs[COMPACTED] in self.by_digest:
            item = self.by_digest[item.inputs[COMPACTED]]
        return item.inputs

    @cached_property
    def last_line(self) -> list[Manifest]:
        """The longest line that the newest is of: an older crawl that was run again ends no line."""
        if self.newest is None:
            return []
        lines = (self.line(item) for item in self.by_digest.values())
        fit = [line for line in lines if any(item.digest == self.newest.digest for item in line)]
        return max(fit, key=lambda line: (len(line), line[0].key), default=[self.newest])


def _before(family: _Family, data: Mapping[str, str | None]) -> Manifest | None:
    """The last artifact, or what the first of its line that was made from this data was made from."""
    line = family.last_line
    inputs = [family.inputs_of(item) for item in line]
    own = [place for place, found in enumerate(inputs) if {role: found.get(role) for role in data} == data]
    rest = line[max(own) + 1 :] if own else line
    return rest[0] if rest else None


def _attempt_before(family: _Family, inputs: Mapping[str, str | None], store: str, attempt: int) -> Manifest:
    """The output of attempt - 1 of the same pairs; UserError where there is none, or one cannot tell which.

    The whole one as long as it is there: a takedown must not give the attempt after it another key.
    """
    if attempt < 1 or not store:
        raise UserError(
            f"Attempt {attempt} of download-images with the store {store!r}; give a number from 1, and from 2 on the "
            "store of the attempts before (earlier)."
        )
    pairs = _digest(inputs.get("pairs"))
    fit = [
        item
        for item in family.by_digest.values()
        if item.inputs.get(COMPACTED) not in family.by_digest
        and item.inputs.get("pairs") == pairs
        and len(family.line(item)) == attempt - 1
    ]
    if len(fit) > 1:
        told = {item.digest for item in family.last_line}
        fit = [item for item in fit if item.digest in told] or fit
    if len(fit) != 1:
        raise UserError(
            f"{store} holds {len(fit)} outputs of download-images that are attempt {attempt - 1} of these pairs, and "
            f"attempt {attempt} needs one; run the attempt before it first, or name it: arm download-images --retry-failures."
        )
    return fit[0]


def _digest(url: str | None) -> str | None:
    return manifest.load(url).digest if url else None
