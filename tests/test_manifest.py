"""A manifest identifies an artifact by its bytes alone, and finds every damaged file by name."""

import dataclasses
import json
from pathlib import Path

import pytest

from arm import manifest as manifests
from arm.errors import IntegrityError, UserError
from arm.manifest import FileEntry, Manifest
from arm.storage import LocalFolder


@pytest.fixture
def artifact(tmp_path: Path) -> Manifest:
    """Two files under model/, one shard, and what no digest covers."""
    folder = LocalFolder(tmp_path / "05" / "abc")
    for name in ("model/a.bin", "model/deep/b.bin", "shards/0.tar", "run.json", "view/index.html", ".work/x"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(name.encode())
    made = make(folder)
    folder.write(manifests.NAME, made.to_json())
    return made


def make(folder: LocalFolder) -> Manifest:
    return Manifest(
        kind="model", job="train", version=1, key="k", config={"b": 1, "a": [2]}, inputs={"data": "d"},
        counts={"steps": 5}, metrics={"loss": 0.25}, files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip


def test_only_published_files_are_covered(artifact: Manifest) -> None:
    assert [entry.path for entry in artifact.files] == ["model/a.bin", "model/deep/b.bin", "shards/0.tar"]
    # sha256 of the eleven bytes `model/a.bin`
    assert artifact.files[0].bytes == 11


def test_the_digest_does_not_depend_on_where_it_lies(artifact: Manifest, tmp_path: Path) -> None:
    Path(artifact.folder.url).rename(tmp_path / "moved")
    moved = manifests.load(str(tmp_path / "moved"))
    assert moved.digest == artifact.digest
    assert str(tmp_path) not in moved.to_json().decode()


def test_a_manifest_is_written_out_once_for_its_digest(artifact: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lineage has a row for every file, each with the digest: 2,212 images would write out 2,212 entries 2,212 times."""
    written: list[str] = []
    monkeypatch.setattr(Manifest, "to_json", lambda manifest: written.append(manifest.key) or b"{}")
    fresh = dataclasses.replace(artifact)
    assert len({fresh.digest for _ in range(3)}) == len(written) == 1


def test_the_digest_depends_on_every_byte(artifact: Manifest) -> None:
    folder = artifact.folder
    folder.write("model/a.bin", b"model/a.biN")
    assert isinstance(folder, LocalFolder)
    assert make(folder).digest != artifact.digest


@pytest.mark.parametrize("how", ["folder", "file", "family", "reference"])
def test_a_manifest_is_opened_by_folder_file_family_or_reference(artifact: Manifest, tmp_path: Path, how: str) -> None:
    LocalFolder(tmp_path / "05").write("current.json", json.dumps({"manifest": "abc/manifest.json"}).encode())
    manifests.save_reference(artifact, str(tmp_path / "reference.json"))
    place = {
        "folder": artifact.folder.url, "file": artifact.url,
        "family": str(tmp_path / "05"), "reference": str(tmp_path / "reference.json"),
    }[how]  # fmt: skip
    assert manifests.load(place) == artifact


def test_a_reference_to_a_changed_manifest_is_refused(artifact: Manifest, tmp_path: Path) -> None:
    manifests.save_reference(artifact, str(tmp_path / "reference.json"))
    text = artifact.to_json().decode().replace("0.25", "0.26")
    artifact.folder.write(manifests.NAME, text.encode())
    with pytest.raises(IntegrityError, match="has changed since it was handed over"):
        manifests.load(str(tmp_path / "reference.json"))


def test_a_file_is_read_back_verified(artifact: Manifest) -> None:
    assert artifact.local("shards/0.tar").read_bytes() == b"shards/0.tar"
    assert artifact.local_folder("model") == Path(artifact.folder.url) / "model"
    assert artifact.local_folder("model/deep") == Path(artifact.folder.url) / "model" / "deep"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (b"model/a.biN", "altered: its sha256"),
        (b"model", "truncated or altered: 5 bytes, expected 11"),
        (None, "is missing"),
    ],
)
def test_a_damaged_file_is_named(artifact: Manifest, damage: bytes | None, sentence: str) -> None:
    path = Path(artifact.folder.url) / "model/a.bin"
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(IntegrityError, match=sentence) as caught:
        artifact.local_folder("model")
    assert str(path) in str(caught.value)


def test_a_folder_without_manifest_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no manifest.json: not an artifact, or its job has not finished"):
        manifests.load(str(tmp_path))


def test_a_file_that_is_no_manifest_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match="is neither a manifest nor a reference"):
        manifests.load(str(tmp_path / "shard.tar"))


@pytest.mark.parametrize("text", ["{", '{"files": []}', '{"files": [{"path": 1}]}', "[]"])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / manifests.NAME).write_text(text)
    with pytest.raises(IntegrityError, match=r"damaged|not a manifest"):
        manifests.load(str(tmp_path))


def test_entries_are_selected_by_prefix_and_suffix() -> None:
    files = tuple(FileEntry(path=path, bytes=0, sha256="") for path in ("a/1.tar", "a/2.json", "b/1.tar"))
    found = Manifest(kind="", job="", version=1, key="", config={}, inputs={}, counts={}, metrics={}, files=files)
    assert [entry.path for entry in found.select("a/", ".tar")] == ["a/1.tar"]
