"""train-model: one stage of training (pretrain, continue or finetune) from token shards to a stock checkpoint.

model/              what plain transformers loads, with vocabulary.json and the text tokenizer
curves.jsonl        losses by modality and kind of document, held-out and not; shares, logits, gradient norms
view/speed.jsonl    tokens a second, step times, waiting, checkpoints, slowest rank: no digest covers it
plan/*.parquet      every document in the order of the rows: what step reads what
ledger/*.parquet    what was consumed at each step: documents, tokens, digests; written as training goes
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch.distributed as dist

from arm.device import computing_dtype, make_deterministic
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.model.attention import NAME as DOCUMENTS
from arm.model.documents import KINDS, TextEncoder, check_text_tokenizer
from arm.model.lmm import VisualCodes, initial_values, initialise, load_base, load_trained, save
from arm.model.sequence import check_heads, sequence_group
from arm.model.token_shards import Shard, open_shards
from arm.model.vocabulary import Vocabulary
from arm.storage import Folder, publish_tree
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank, start_process_group
from arm.training.engine_config import EngineConfig
from arm.training.ledger.recorder import Recorder
from arm.training.loader import Loader, evened, held_out_batches
from arm.training.loss import PackedModel
from arm.training.mixture import Plan, plan
from arm.training.sequence import SplitLoader, split
from arm.training.trainer import History, Trainer

PLAN_CHUNK_STEPS = 1_000
"""Steps of one Parquet file of the plan."""


def train_model(
    *, tokens: Manifest, base: Manifest, tokenizer: Manifest, output: Folder, config: StageConfig
) -> Outcome:
    """Train one stage; every rank calls this, rank 0 publishes."""
    make_deterministic(config.seed)
    start_process_group()
    codes = VisualCodes.load(tokenizer.local("tokenizer/visual_tokenizer.json").parent)
    codes.check_initialisation(config.code_initialisation == "digits")
    shards = open_variants(tokens, codes, config.variants)
    planned = plan_stage(shards, config)
    features = config.code_initialisation == "features"
    weights = tokenizer.local(f"tokenizer/{codes.features_file}") if features else None
    model, text_tokenizer, vocabulary = _model(base, codes, weights, config)
    check_text_tokenizer(shards[0].text_fingerprint, text_tokenizer)
    trainer = _trainer(model, text_tokenizer, vocabulary, shards, planned, output, config)
    history = trainer.run()
    if config.ema_decay:
        trainer.engine.use_average()
    _publish_model(trainer, text_tokenizer, vocabulary, output)
    if rank() == 0:
        _publish_curves(history, output)
        _publish_plan(shards, planned, config, output)
        assert trainer.recorder
        trainer.recorder.close()
    dist.barrier()
    return _outcome(trainer, config)


def open_variants(tokens: Manifest, codes: VisualCodes, variants: tuple[str, ...]) -> list[Shard]:
    """The shards of the chosen variants, in their order; a task in two of them would be read twice: a UserError."""
    found: list[Shard] = []
    variant_of: dict[str, str | None] = {}
    for variant in variants or (None,):
        shards = open_shards(
            tokens, tokenizer_fingerprint=codes.fingerprint, num_codes=codes.num_codes, variant=variant
        )
        for task in {str(task) for shard in shards for task in set(shard.tasks)}:
            if task in variant_of:
                raise UserError(f"The variants {variant_of[task]} and {variant} both hold the task {task}; choose one.")
            variant_of[task] = variant
        found += shards
    return found


def plan_stage(shards: list[Shard], config: StageConfig) -> Plan:
    """The plan of a stage: the same on every rank."""
    return plan(
        shards,
        config.mixture,
        seed=config.seed,
        num_rows=config.steps * config.rows_per_step,
        sequence_length=config.sequence_length,
    )


def _model(
    base: Manifest, codes: VisualCodes, weights: Path | None, config: StageConfig
) -> tuple[Any, Any, Vocabulary]:
    folder = base.local_folder("model")
    if config.stage != "pretrain":
        return load_trained(folder, codes)
    model, text_tokenizer = load_base(folder)
    vocabulary = initialise(
        model,
        text_tokenizer,
        codes,
        num_shapes=config.num_shapes,
        values=initial_values(config.code_initialisation, codes, weights),
        added_layers=config.added_layers,
        seed=config.seed,
    )
    return model, text_tokenizer, vocabulary


def _trainer(
    model: Any,
    text_tokenizer: Any,
    vocabulary: Vocabulary,
    shards: list[Shard],
    planned: Plan,
    output: Folder,
    config: StageConfig,
) -> Trainer:
    model.train().set_attn_implementation(DOCUMENTS)
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable()
    encode = TextEncoder(text_tokenizer)
    check_heads(model.config, config.sequence_parallel)
    group = sequence_group(config.sequence_parallel)
    here = {"rank": rank() // config.sequence_parallel, "num_ranks": num_ranks() // config.sequence_parallel}
    loader = Loader(
        shards,
        planned,
        vocabulary,
        encode,
        rows_per_step=config.rows_per_step,
        rows_per_micro_batch=config.rows_per_micro_batch,
        learn_all=config.loss_on == "all",
        **here,
    )
    held_out = held_out_batches(
        shards,
        config.mixture,
        vocabulary,
        encode,
        num_documents=config.validation_documents,
        max_tokens=config.sequence_length * config.rows_per_micro_batch,
        **here,
    )
    batches: Loader | SplitLoader = loader
    if group is not None:
        batches = SplitLoader(loader, group)
        held_out = {kind: [split(batch, group) for batch in found] for kind, found in held_out.items()}
    if config.zero_stage == 3:
        held_out = evened(held_out, vocabulary)
    engine = Engine(PackedModel(model, vocabulary, config), engine_config(config))
    checkpoints = Checkpoints.of(output, keep=config.checkpoints_kept, keep_every=config.checkpoint_kept_every_steps)
    names = [shard.name for shard in shards]
    return Trainer(
        engine,
        batches,
        config,
        held_out=held_out,
        checkpoints=checkpoints,
        name=f"train-model {config.stage}",
        recorder=Recorder(output, loader.documents_of, names, num_ranks=num_ranks()) if rank() == 0 else None,
    )


def engine_config(config: StageConfig) -> EngineConfig:
    """The engine of a stage; refuses rows that do not divide among the ranks."""
    if num_ranks() % config.sequence_parallel:
        raise UserError(
            f"sequence_parallel is {config.sequence_parallel} on {num_ranks()} ranks; their number must be a multiple."
        )
    readers = num_ranks() // config.sequence_parallel
    if config.rows_per_step % (readers * config.rows_per_micro_batch):
        raise UserError(
            f"rows_per_step is {config.rows_per_step}; it must divide by {readers} ranks that read rows times "
            f"{config.rows_per_micro_batch} rows of a micro-batch."
        )
    return EngineConfig(
        optimizer=config.optimizer,
        muon_factor=config.muon_learning_rate / config.learning_rate,
        betas=config.betas,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        micro_batch=config.rows_per_micro_batch,
        engine=config.engine,
        zero_stage=config.zero_stage,
        dtype=computing_dtype(config.dtype),
        ema_decay=config.ema_decay,
        new_rows_factor=config.new_rows_learning_rate,
    )


def _publish_model(trainer: Trainer, text_tokenizer: Any, vocabulary: Vocabulary, output: Folder) -> None:
    """Every rank calls this, because weights may be gathered; rank 0 writes."""
    with trainer.engine.whole_module() as module:
        if rank() == 0:
            assert isinstance(module, PackedModel)
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / "model"
                save(module.model, text_tokenizer, vocabulary, folder)
                publish_tree(output, "model", folder)


def _publish_curves(history: History, output: Folder) -> None:
    for name, records in (("curves.jsonl", history.curves), ("view/speed.jsonl", history.speeds)):
        output.write(name, "".join(json.dumps(record, sort_keys=True) + "\n" for record in records).encode())
    tracker.log({name: value for record in history.curves[-2:] for name, value in record.items()}, step=0)


def _publish_plan(shards: list[Shard], planned: Plan, config: StageConfig, output: Folder) -> None:
    """One Parquet file for each thousand steps; columns say where each document lies and what it lost."""
    rows_per_file = PLAN_CHUNK_STEPS * config.rows_per_step
    for number, first in enumerate(range(0, planned.num_rows, rows_per_file)):
        rows = range(first, min(first + rows_per_file, planned.num_rows))
        start, end = planned.packed_starts[rows.start], planned.packed_starts[rows.stop]
        documents = planned.packed[start:end]
        sizes = np.diff(planned.packed_starts[rows.start : rows.stop + 1])
        row = np.repeat(np.arange(rows.start, rows.stop), sizes)
        names = pa.array([shard.name for shard in shards])
        table = pa.table(
            {
                "step": (row // config.rows_per_step).astype(np.uint32),
                "row": row.astype(np.uint32),
                "kind": pa.DictionaryArray.from_arrays(planned.kinds[documents].astype(np.int8), pa.array(KINDS)),
                "shard": pa.DictionaryArray.from_arrays(planned.shards[documents].astype(np.int32), names),
                "shard_row": planned.rows[documents].astype(np.uint32),
                "epoch": planned.epochs[documents].astype(np.uint16),
                "drop": planned.drops[documents].astype(np.uint8),
                "length": planned.lengths[documents].astype(np.uint32),
            }
        )
        with output.publish(f"plan/rows-{number:05d}.parquet") as path:
            pq.write_table(table, path, compression="zstd")


def _outcome(trainer: Trainer, config: StageConfig) -> Outcome:
    history, read = trainer.history, trainer.meter.read
    last = {name: value for record in history.curves[-2:] for name, value in record.items() if name != "step"}
    counts = {
        "steps": config.steps,
        "documents": sum(consumed[0] for consumed in history.consumed),
        "tokens": sum(consumed[1] for consumed in history.consumed),
    }
    counts |= {f"tokens/{kind}": count for kind, count in zip(KINDS, read.tokens_K.tolist(), strict=True)}
    counts |= {f"targets/{kind}": n for kind, n in zip(KINDS, read.targets_DK.sum(dim=0).tolist(), strict=True)}
    bits = {"bits": 16.0 if computing_dtype("auto") == "bfloat16" else 32.0} if config.dtype == "auto" else {}
    return Outcome(counts=counts, metrics=last | bits)
