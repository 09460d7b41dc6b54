"""What is read of a store: planning and choosing held-out samples read sidecars alone, training the shards of its plan."""

import dataclasses
from contextlib import closing
from pathlib import Path

import pytest
from tiny_lmm import CODES, tiny_lmm
from token_store import make_store
from transformers import AutoTokenizer

from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.documents import TextEncoder
from arm.model.token_shards import find_uid
from arm.storage import LocalFolder
from arm.training.config import MixtureConfig, StageConfig
from arm.training.loader import Loader, held_out_batches
from arm.training.mixture import find_held_out
from arm.training.shards import open_later
from arm.training.stages import plan_stage

STAGE = StageConfig(steps=3, rows_per_step=2, sequence_length=64, mixture=MixtureConfig(shuffle_shards=1), num_shapes=4)
_, _, VOCABULARY = tiny_lmm()


class Counted(LocalFolder):
    """Notes the files that are read, and how often each is given back."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read_files: list[str] = []
        self.released: list[str] = []

    def fetch(self, name: str) -> Path:
        self.read_files.append(name)
        return super().fetch(name)

    def read(self, name: str) -> bytes:
        self.read_files.append(name)
        return super().read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        self.read_files.append(name)
        return super().read_range(name, offset, length)

    def release(self, name: str) -> None:
        self.released.append(name)
        super().release(name)

    def under(self, prefix: str) -> set[str]:
        """The files that were read in a folder."""
        return {name for name in self.read_files if name.startswith(prefix)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A store of 14 shards, two of each task."""
    folder = tmp_path_factory.mktemp("store")
    return folder, make_store(folder)["tokens"]


@pytest.fixture
def counted(store: tuple[Path, Manifest]) -> tuple[Manifest, Counted]:
    folder = Counted(store[0] / "tokens")
    return dataclasses.replace(store[1], folder=folder), folder


@pytest.mark.usefixtures("alone")
def test_a_plan_reads_no_shard_and_training_those_of_its_plan_alone(
    store: tuple[Path, Manifest], counted: tuple[Manifest, Counted], tmp_path: Path
) -> None:
    tokens, folder = counted
    encode = TextEncoder(AutoTokenizer.from_pretrained(store[0] / "base" / "model"))
    with closing(open_later(tokens, CODES)) as shards:
        planned = plan_stage(shards, STAGE, LocalFolder(tmp_path))
        assert folder.under("shards/") == set()
        assert folder.under("lengths/")
        loader = Loader(shards, planned, VOCABULARY, encode, rows_per_step=2, rows_per_micro_batch=2)
        with closing(loader):
            batches = [batch for step in range(3) for batch in loader.micro_batches(step)]
        needed = {shards.names[shard] for shard in planned.rows(0, 6).shards.tolist()}
        assert folder.under("shards/") == {f"shards/{name}.arrow" for name in needed}
    assert len(needed) < 14
    assert sum(batch.num_documents for batch in batches) == len(planned.rows(0, 6).kinds)


def test_held_out_samples_are_chosen_from_sidecars_and_only_their_shards_are_opened(
    store: tuple[Path, Manifest], counted: tuple[Manifest, Counted]
) -> None:
    tokens, folder = counted
    encode = TextEncoder(AutoTokenizer.from_pretrained(store[0] / "base" / "model"))
    with closing(open_later(tokens, CODES)) as shards:
        found = find_held_out(shards.lengths, MixtureConfig(), num_documents=1, max_tokens=128)
        assert folder.under("shards/") == set()
        held_out_batches(shards, found, VOCABULARY, encode, max_tokens=128)
        chosen = {shards.names[shard] for places in found.places.values() for shard, _ in places}
    assert folder.under("shards/") == {f"shards/{name}.arrow" for name in chosen}
    assert len(chosen) < 14


def test_sidecars_are_given_back_and_a_bounded_number_stays_in_memory(
    counted: tuple[Manifest, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arm.training.shards.MAX_LENGTHS", 2)
    tokens, folder = counted
    with closing(open_later(tokens, CODES)) as shards:
        assert folder.read_files == folder.released == [f"index/{shards.names[0]}.json"]
        lengths = [f"lengths/{name}.parquet" for name in shards.names[:3]]
        for number in (0, 1, 0, 2, 0, 1):  # 2 drops 1, which is read again
            assert shards.lengths[number].name == shards.names[number]
    assert folder.read_files[1:] == folder.released[1:] == [*lengths, lengths[1]]


def test_codes_of_another_visual_tokenizer_are_refused_before_a_plan_is_made(
    counted: tuple[Manifest, Counted],
) -> None:
    tokens, folder = counted
    with pytest.raises(UserError, match=r"index/default/caption-00000\.json holds codes of visual tokenizer"):
        open_later(tokens, dataclasses.replace(CODES, fingerprint="e" * 64))
    assert folder.read_files == ["index/default/caption-00000.json"]


def test_a_uid_is_found_without_reading_a_shard(counted: tuple[Manifest, Counted]) -> None:
    tokens, folder = counted
    with closing(open_later(tokens, CODES)) as shards:
        row = int((~shards.lengths[3].held_out).argmax())
        uid = shards.lengths[3].uids[row].astype("<u8").tobytes()
        assert list(find_uid(tokens, uid)) == [(shards.names[3], row, False)]
    assert folder.under("shards/") == set()
    assert len(folder.under("lengths/")) == 14
