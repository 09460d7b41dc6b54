"""How the tests of import-samples declare a source, run it, and look at what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pictures import picture

from arm.data.config import ImportFormat, ImportSamplesConfig, ImportSource
from arm.data.images import encode_image
from arm.data.importing import import_samples
from arm.data.shards import read_shard
from arm.records import Image, Sample
from arm.storage import LocalFolder

PNG = encode_image(picture(0)).data
OTHER_PNG = encode_image(picture(1)).data


def run(
    tmp_path: Path,
    form: ImportFormat,
    path: Path | str,
    task: str,
    *,
    options: Mapping[str, Any] | None = None,
    **of: Any,
) -> tuple[list[Sample], dict[str, int]]:
    """Import one source into `tmp_path/out`: its samples in order, and the counts. `of`: fields of the source."""
    source = ImportSource(name="given", path=str(path), format=form, task=task, **({"licence": "CC0-1.0"} | of))
    config = ImportSamplesConfig(
        sources=(source,), **({"max_dropped_share": 0.99, "samples_per_shard": 2} | dict(options or {}))
    )
    outcome = import_samples(output=LocalFolder(tmp_path / "out"), config=config)
    return samples_in(tmp_path / "out"), outcome.counts


def samples_in(folder: Path) -> list[Sample]:
    """The samples of all shards in order."""
    return [sample for shard in sorted((folder / "shards").iterdir()) for sample in read_shard(shard)]


def kinds(sample: Sample) -> list[str]:
    """`["image", "caption: a cat"]`."""
    return ["image" if isinstance(part, Image) else f"{part.role}: {part.text}" for part in sample.parts]


def dropped(counts: dict[str, int]) -> dict[str, int]:
    """Reason -> number."""
    return {name.removeprefix("dropped/"): count for name, count in counts.items() if name.startswith("dropped/")}
