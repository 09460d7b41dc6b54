"""A stage under every engine: plain PyTorch, ZeRO 1 and 3 train, validate and publish the same model."""

import json
from pathlib import Path

import pytest
import torch
from engine_runs import rows_of
from tiny_lmm import tiny_lmm
from token_store import artifact, finished_run, make_store
from transformers import AutoModelForCausalLM

from arm import config as configs
from arm.errors import UserError
from arm.model.attention import NAME as DOCUMENTS
from arm.storage import LocalFolder
from arm.training.config import StageConfig
from arm.training.ledger.chain import Run
from arm.training.ledger.verification import verify_all
from arm.training.loss import PackedModel
from arm.training.stages import engine_config, train_model
from tests.training.ranks import Server

CONFIG = {
    "steps": 3, "sequence_length": 64, "rows_per_step": 2, "warmup_steps": 1, "learning_rate": 0.003, "num_shapes": 4,
    "validate_every": 2, "validation_documents": 4, "log_every": 1, "dtype": "float32", "epsilon": 1e-8,
}  # fmt: skip
RUNS: dict[str, dict[str, object]] = {
    "zero-1": {},
    "zero-3": {"zero_stage": 3, "activation_checkpointing": True},
    "torch": {"engine": "torch"},
    "average": {"ema_decay": 0.5},
    "stopped": {"steps": 60, "rows_per_step": 3, "validate_every": 100, "mixture": {
        "text_to_image": [[0, 0.7], [1, 0.5]], "text_only": [[0, 0.05], [1, 0.25]],
        "limits": {"text": {"max_epochs": 1, "at_end": "stop"}},
    }},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind on one rank."""
    folder = tmp_path_factory.mktemp("runs")
    make_store(folder)
    inputs = {name: artifact(folder / name, name) for name in ("tokens", "base", "tokenizer")}
    for name, changes in RUNS.items():
        config = configs.from_dict(StageConfig, {**CONFIG, **changes})
        train_model(**inputs, output=LocalFolder(folder / name), config=config)
    return folder


@pytest.mark.parametrize("name", ["zero-3", "torch"])
def test_engines_agree_on_curves_held_out_losses_and_the_published_model(name: str, trained: Path) -> None:
    ours, reference = (
        [json.loads(line) for line in (trained / run / "curves.jsonl").read_text().splitlines()]
        for run in (name, "zero-1")
    )
    assert [record.keys() for record in ours] == [record.keys() for record in reference]
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    models = [AutoModelForCausalLM.from_pretrained(trained / run / "model") for run in (name, "zero-1")]
    for (key, mine), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max()) < 1e-3, key


def test_an_average_is_published_in_place_of_the_last_weights(trained: Path) -> None:
    last, average = (
        AutoModelForCausalLM.from_pretrained(trained / run / "model").lm_head.weight for run in ("zero-1", "average")
    )
    assert 0 < float((last - average).abs().max()) < 0.01
    last, average = ((trained / run / "curves.jsonl").read_text().splitlines() for run in ("zero-1", "average"))
    assert last == average[:-1]  # the average only watches
    held_out, published = (json.loads(line) for line in average[-2:])
    assert {name.replace("held_out", "held_out_average") for name in held_out} == published.keys()
    assert all(
        held_out[name] != published[name.replace("held_out", "held_out_average")] for name in held_out.keys() - {"step"}
    )


def test_a_stage_that_a_source_stops_verifies_and_asks_for_the_shares_of_the_declared_one(trained: Path) -> None:
    """.70 falling to .50 over 60 steps of 192 places: .70 − .10 · tokens read / 11,520 on the mean so far."""
    output = trained / "stopped"
    entry = [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()][-2]
    assert entry["step"] < 30
    assert entry["share_target/text_to_image"] == pytest.approx(0.7 - 0.1 * entry["tokens"] / 11_520, abs=1e-3)
    inputs = [artifact(trained / name, name) for name in ("tokens", "base", "tokenizer")]
    (line,) = verify_all([Run(finished_run(trained, output, {**CONFIG, **RUNS["stopped"]}))], inputs, tokens=True)
    assert f": {entry['step']} steps, " in line


@pytest.mark.slow
def test_zero_3_evens_out_the_held_out_batches_of_sequence_groups(trained: Path) -> None:
    """Two groups of two ranks and one held-out document of a kind: the second group measures padding, split like a row."""
    server = Server(trained)
    try:
        for name, changes in (("groups", {"zero_stage": 3, "sequence_parallel": 2}), ("alone", {"zero_stage": 3})):
            ranks = 4 if name == "groups" else 1
            codes = server.run(name, ranks, steps=2, validate_every=2, validation_documents=1, **changes)
            assert codes == [0] * ranks, server.said(name)
    finally:
        server.close()
    ours, alone = (
        [json.loads(line) for line in (trained / name / "curves.jsonl").read_text().splitlines()][-1]
        for name in ("groups", "alone")
    )
    assert ours == pytest.approx(alone, abs=1e-4)


def test_recomputed_layers_and_chunks_have_the_gradients_of_kept_ones() -> None:
    """Checkpointed layers, and logits of 16 targets at a time."""
    gradients = []
    for recompute, chunk in ((False, 8_192), (True, 16)):
        model, _, vocabulary = tiny_lmm()
        model.train().set_attn_implementation(DOCUMENTS)
        if recompute:
            model.gradient_checkpointing_enable()
        config = StageConfig(loss_chunk=chunk)
        PackedModel(model, vocabulary, config)(rows_of(0, vocabulary)[0]).weighted.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_what_cannot_be_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="zero_stage has no effect with the engine 'torch'"):
        StageConfig(engine="torch", zero_stage=2)
    with pytest.raises(UserError, match="Muon needs whole matrices and ZeRO stage 3"):
        StageConfig(optimizer="muon", zero_stage=3)
    with pytest.raises(UserError, match="gradient_dtype is 'float32', but ZeRO stage 0 of DeepSpeed"):
        StageConfig(gradient_dtype="float32", zero_stage=0)
    with pytest.raises(UserError, match=r"ema_decay is 1\.0"):
        StageConfig(ema_decay=1.0)
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(UserError, match="sequence_parallel is 4 on 6 ranks"):
        engine_config(StageConfig(sequence_parallel=4))
