"""train-model as a job: two ranks over gloo, killed and resumed with the same bytes, loaded by plain transformers."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_lmm import CODES, tiny_lmm
from token_store import artifact, finished_run, make_store
from transformers import AutoModelForCausalLM

from arm.errors import UserError
from arm.manifest import entries_of
from arm.model.documents import KINDS
from arm.model.lmm import CAPTION_VECTORS
from arm.model.token_shards import open_shards
from arm.storage import LocalFolder
from arm.training.config import StageConfig
from arm.training.ledger.chain import Run
from arm.training.ledger.query import query_uid
from arm.training.ledger.verification import verify_all
from arm.training.stages import check_shapes, initial_weights

SCRIPT = str(Path(__file__).with_name("stage_rank.py"))
CONFIG = {
    "steps": 8, "sequence_length": 64, "rows_per_step": 4, "rows_per_micro_batch": 1, "warmup_steps": 2,
    "learning_rate": 0.003, "num_shapes": 4, "validate_every": 4, "validation_documents": 4, "log_every": 2,
    "checkpoint_every_steps": 3, "code_initialisation": "digits",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_store(path)
    return path


def train(folder: Path, output: Path, *, ranks: int = 2, kill_after: int | None = None, **changes: object) -> list[int]:
    """Run every rank; returns the exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(ranks), "MASTER_PORT": port}
    environment |= {"MASTER_ADDR": "127.0.0.1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment |= {"KILL_AFTER": str(kill_after)} if kill_after else {}
    command = [sys.executable, SCRIPT, str(folder), str(output), json.dumps({**CONFIG, **changes})]
    processes = [
        subprocess.Popen(command, env={**environment, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE)
        for r in range(ranks)
    ]
    results = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    for error, code in results:
        assert code in (0, -9) or kill_after, error.decode()[-3000:]
    return [code for _, code in results]


def files_of(output: Path) -> dict[str, str]:
    """Files that the artifact's digest covers, and their checksums."""
    return {entry.path: entry.sha256 for entry in entries_of(LocalFolder(output))}


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    output = folder / "undisturbed"
    assert train(folder, output) == [0, 0]
    return output


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_a_killed_stage_goes_on_and_gives_the_same_bytes(folder: Path, trained: Path, optimizer: str) -> None:
    reference = trained
    if optimizer == "muon":
        reference = folder / "undisturbed-muon"
        train(folder, reference, optimizer="muon")
    output = folder / f"killed-{optimizer}"
    assert train(folder, output, kill_after=2, optimizer=optimizer) == [-9, -9]
    assert not (output / "model").exists()
    assert train(folder, output, optimizer=optimizer) == [0, 0]
    assert files_of(output) == files_of(reference)
    if optimizer == "adamw":
        prove_the_ledger(folder, output)


def prove_the_ledger(folder: Path, output: Path) -> None:
    """Saved after steps 3 and 6, then killed: verified down to the tokens, and every sample of a shard is accounted for."""
    inputs = {name: artifact(folder / name, name) for name in ("tokens", "base", "tokenizer")}
    manifest = finished_run(folder, output, CONFIG)
    (line,) = verify_all([Run(manifest)], list(inputs.values()), tokens=True)
    assert "8 steps" in line
    assert "begun 2 times, 0 steps done again" in line
    assert line.endswith("tokens of 8 steps built again and equal")
    uids = pa.ipc.open_file(str(folder / "tokens/shards/default/edit-00000.arrow")).read_all()["uid"].to_pylist()
    ((shard, held_out),) = {
        (shard.name, tuple(shard.held_out)) for shard in open_shards(
            inputs["tokens"], tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes
        ) if shard.name == "default/edit-00000"
    }  # fmt: skip
    used = 0
    for uid, hidden in zip(uids, held_out, strict=True):
        place, *lines = query_uid([Run(manifest)], uid.hex(), list(inputs.values()))
        assert shard in place
        assert place.endswith("held out: no run of training reads it.") == hidden
        assert not (hidden and lines)
        used += len([line for line in lines if " step" in line and "seen by" not in line])
        assert hidden or lines[-1].startswith(("seen by the model of pretrain", f"{uid.hex()} was offered and never"))
    plan = pq.read_table(output / "plan" / "rows-00000.parquet").to_pandas()
    assert used == (plan["shard"] == shard).sum() > 0
    (sentence,) = query_uid([Run(manifest)], "0" * 32, list(inputs.values()))
    assert sentence == f"{'0' * 32} was never offered: it is in none of the token shards that these runs read."


def test_the_model_is_stock_and_the_curves_fall(trained: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    assert model.config.vocab_size == 32 + 4 + 8
    curves = [json.loads(line) for line in (trained / "curves.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in curves if "loss" in record]
    assert losses[-1] < losses[0]
    assert any("held_out/edit/codes" in record for record in curves)


def test_the_curves_count_by_kind_what_the_plan_says_was_read(trained: Path) -> None:
    plan = pq.read_table(trained / "plan" / "rows-00000.parquet").to_pandas()
    curves = [json.loads(line) for line in (trained / "curves.jsonl").read_text().splitlines()]
    for entry in (entry for entry in curves if "loss" in entry):
        read = plan[plan["step"] < entry["step"]]
        shares = read.groupby("kind", observed=False)["length"].sum() / read["length"].sum()
        assert {kind: entry[f"share/{kind}"] for kind in KINDS} == pytest.approx(shares.to_dict(), abs=1e-6)
        assert entry["fill"] == pytest.approx(read["length"].sum() / (entry["step"] * 4 * 64), abs=1e-6)
        assert entry["share_target/text_to_image"] == pytest.approx(0.7)


def test_the_speed_of_a_resumed_stage_goes_on_where_it_was_and_no_manifest_lists_it(
    folder: Path, trained: Path
) -> None:
    entries = [json.loads(line) for line in (trained / "view" / "speed.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4, 6, 8]
    assert {entry["speed/slowest_rank"] for entry in entries} <= {0.0, 1.0}
    assert "speed/checkpoint_seconds" in entries[1]  # saved after step 3
    assert "view/speed.jsonl" not in {entry.path for entry in artifact(trained, "model").files}


def test_no_published_file_says_where_the_store_lies(folder: Path, trained: Path) -> None:
    names = files_of(trained)
    assert "model/config.json" in names
    assert [name for name in names if str(folder).encode() in (trained / name).read_bytes()] == []


def test_the_ledger_agrees_with_the_plan(trained: Path) -> None:
    plan = pq.read_table(trained / "plan" / "rows-00000.parquet").to_pandas()
    ledger = pq.read_table(trained / "ledger" / "steps-00000.parquet").to_pandas()
    by_step = plan.groupby("step")
    assert ledger["documents"].tolist() == by_step.size().tolist()
    assert ledger["tokens"].tolist() == by_step["length"].sum().tolist()
    assert set(plan["kind"]) <= set(KINDS)
    assert ledger["digest"].is_unique


def test_one_rank_consumes_the_same_documents_and_learns_the_same(folder: Path, trained: Path) -> None:
    """Digests of every step are equal at 1 and 2 ranks; in float32 the losses agree to 1e-4."""
    outputs = []
    for ranks in (1, 2):
        outputs.append(folder / f"float32-{ranks}")
        train(folder, outputs[-1], ranks=ranks, dtype="float32")
    ledgers = [pq.read_table(output / "ledger" / "steps-00000.parquet").to_pydict() for output in (*outputs, trained)]
    assert ledgers[0] == ledgers[1] == ledgers[2]
    one, two = ([json.loads(line) for line in (path / "curves.jsonl").read_text().splitlines()] for path in outputs)
    assert [entry.keys() for entry in one] == [entry.keys() for entry in two]
    for a, b in zip(one, two, strict=True):  # by kind and modality, held out or not, logits and shares
        torch.testing.assert_close(torch.tensor([*a.values()]), torch.tensor([*b.values()]), atol=1e-4, rtol=1e-4)


def test_codes_start_from_captions_only_where_the_base_is_the_model_that_the_caption_loss_read(tmp_path: Path) -> None:
    """A base retrained since, or a tokenizer without a caption loss: one sentence, before anything is trained."""
    config = StageConfig(code_initialisation="captions")
    base, other = (artifact(make_folder(tmp_path / name, name), name) for name in ("base", "other"))
    tokenizer = artifact(make_folder(tmp_path / "tokenizer", CAPTION_VECTORS), "tokenizer")
    taught = replace(tokenizer, inputs={"caption_model": base.digest})
    assert initial_weights(taught, base, CODES, config) == tmp_path / "tokenizer" / CAPTION_VECTORS
    with pytest.raises(UserError, match=f"read language model {base.digest[:12]}, and the base is {other.digest[:12]}"):
        initial_weights(taught, other, CODES, config)
    with pytest.raises(UserError, match=f"has no {CAPTION_VECTORS}"):
        initial_weights(base, base, CODES, config)


def test_a_later_stage_has_the_shape_tokens_of_the_first() -> None:
    *_, vocabulary = tiny_lmm()
    check_shapes(vocabulary, StageConfig(stage="continue", num_shapes=vocabulary.num_shapes))
    with pytest.raises(UserError, match=f"num_shapes is 128, but the base knows {vocabulary.num_shapes} shape tokens"):
        check_shapes(vocabulary, StageConfig(stage="continue"))


def make_folder(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.slow
def test_the_next_stage_starts_from_the_model_before(
    folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", str(trained))
    output = folder / "continued"
    assert train(folder, output, ranks=1, stage="continue", code_initialisation="mean", steps=2) == [0]
    assert (output / "model" / "vocabulary.json").read_bytes() == (trained / "model" / "vocabulary.json").read_bytes()
    with pytest.raises(AssertionError, match="num_shapes is 5, but the base knows 4"):
        train(folder, folder / "refused", ranks=1, stage="continue", code_initialisation="mean", num_shapes=5)


@pytest.mark.slow
def test_a_stage_that_goes_on_after_a_takedown_keeps_its_order_and_feeds_padding(
    folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after step 3 and gone on with a sample of step 5 taken down: the ledger differs in the digests that fed it."""
    plan = pq.read_table(trained / "plan" / "rows-00000.parquet").to_pylist()
    document = next(row for row in plan if row["step"] == 5)
    shard = pa.ipc.open_file(str(folder / "tokens" / "shards" / f"{document['shard']}.arrow")).read_all()
    uid = shard["uid"][document["shard_row"]].as_py().hex()
    fed = {
        row["step"] for row in plan if (row["shard"], row["shard_row"]) == (document["shard"], document["shard_row"])
    }
    output = tmp_path / "model"
    train(folder, output, kill_after=1)
    monkeypatch.setenv("REFUSED", uid)
    assert train(folder, output) == [0, 0]
    for name in ("plan/rows-00000.parquet", "ledger/documents-00000.parquet"):
        assert (output / name).read_bytes() == (trained / name).read_bytes()
    before, after = (pq.read_table(path / "ledger" / "steps-00000.parquet").to_pylist() for path in (trained, output))
    digests = [row.pop("digest") for row in before], [row.pop("digest") for row in after]
    assert before == after
    changed = {step for step, (a, b) in enumerate(zip(*digests, strict=True)) if a != b}
    assert changed == {step for step in fed if step >= 3}
    assert (output / "model" / "model.safetensors").read_bytes() != (
        trained / "model" / "model.safetensors"
    ).read_bytes()
    (line,) = verify_all([Run(finished_run(folder, output, CONFIG))], [], tokens=False)
    assert "8 steps" in line
