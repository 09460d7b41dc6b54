"""import-model: stock checkpoints in safetensors, nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_storage import moto_address, new_bucket, use_s3

from arm.data.config import ImportModelConfig
from arm.data.model_import import count_parameters, import_model
from arm.errors import UserError
from arm.storage import LocalFolder, open_folder

__all__ = ["moto_address"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.float16)}, folder / "model.safetensors")
    return folder


def run(checkpoint: Path, **options: str) -> dict[str, int]:
    config = ImportModelConfig(path=str(checkpoint), role="language_model", licence="Apache-2.0", **options)  # type: ignore[arg-type]
    return import_model(output=LocalFolder(checkpoint.parent / "out"), config=config).counts


def test_a_checkpoint_is_copied_and_its_parameters_counted(checkpoint: Path) -> None:
    assert run(checkpoint, name="toy") == {"files_copied": 2, "parameters": 11}
    out = checkpoint.parent / "out"
    assert (out / "model/model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert json.loads((out / "model.json").read_text()) == {
        "name": "toy", "role": "language_model", "licence": "Apache-2.0", "model_type": "qwen2",
    }  # fmt: skip


def test_a_checkpoint_in_object_storage_is_copied_alike(
    checkpoint: Path, tmp_path: Path, moto_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    address = new_bucket(f"model-{abs(hash(str(tmp_path))):x}")
    for path in checkpoint.iterdir():
        open_folder(address).write(f"qwen/{path.name}", path.read_bytes())
    config = ImportModelConfig(path=f"{address}/qwen", role="language_model")
    counts = import_model(output=LocalFolder(tmp_path / "out"), config=config).counts
    assert counts == {"files_copied": 2, "parameters": 11}
    assert (tmp_path / "out/model/config.json").read_text() == '{"model_type": "qwen2"}'


def test_a_checkpoint_with_a_link_to_another_file_of_this_machine_is_refused(checkpoint: Path) -> None:
    (checkpoint.parent / "secret").write_text("secret")
    (checkpoint / "tokenizer.json").symlink_to("../secret")
    with pytest.raises(
        UserError, match=r"tokenizer\.json is a link out of .*checkpoint.*secret; put the files themselves"
    ):
        run(checkpoint)
    assert not (checkpoint.parent / "out/model").exists()


def test_a_snapshot_of_the_hubs_cache_is_copied_though_its_files_are_links(checkpoint: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub/models--qwen--toy"
    snapshot = cache / "snapshots/0123"
    snapshot.mkdir(parents=True)
    checkpoint.rename(cache / "blobs")
    for path in (cache / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    (tmp_path / "named").symlink_to(snapshot)  # what a user links and names is followed
    assert run(tmp_path / "named") == {"files_copied": 2, "parameters": 11}
    assert (tmp_path / "out/model/config.json").read_text() == '{"model_type": "qwen2"}'
    assert not (tmp_path / "out/model/config.json").is_symlink()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("pytorch_model.bin", b"pickle", "pickles"),
        ("modeling.py", b"code", "code"),
        ("config.json", b'{"model_type": "bert"}', "'bert', no language_model"),
        ("config.json", b'{"model_type": "qwen2", "auto_map": {}}', "auto_map"),
        ("config.json", b"{", "not a JSON object"),
        ("model.safetensors", b"\xff" * 100, "damaged"),
    ],
)
def test_what_is_unsafe_or_unfit_is_refused_in_a_sentence(
    checkpoint: Path, name: str, content: bytes, words: str
) -> None:
    (checkpoint / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        run(checkpoint)


def test_a_truncated_checkpoint_is_refused(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        run(checkpoint)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 24], "starts at byte"),  # over the other tensor: a thousand such would write a thousand copies
        ([11, 35], "starts at byte"),
        ([10, 30], "20 bytes for F32"),
        ([10.0, 34.0], "offsets or shape"),
    ],
)
def test_tensors_that_overlap_leave_holes_or_have_other_sizes_are_refused(
    tmp_path: Path, offsets: list[float], words: str
) -> None:
    """ "a" has 10 bytes; "b", six float32, must lie behind it."""
    header = {
        "a": {"dtype": "F16", "shape": [5], "data_offsets": [0, 10]},
        "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": offsets},
    }
    encoded = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(34))
    with pytest.raises(UserError, match=words):
        count_parameters(path)
