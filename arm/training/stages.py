"""train-model: one stage of training (pretrain, continue or finetune) from token shards to a stock checkpoint.

model/              what plain transformers loads, with vocabulary.json and the text tokenizer
curves.jsonl        losses by modality and kind of document, held-out and not; shares, logits, gradient norms
view/speed.jsonl    tokens a second, step times, waiting, checkpoints, slowest rank: no digest covers it
plan/               every document in the order of the rows: what step reads what, written ahead (arm.training.plan.files)
ledger/*.parquet    what was consumed at each step: documents, tokens, digests; written as training goes
"""

import json
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from arm.device import computing_dtype, make_deterministic
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.model.attention import NAME as DOCUMENTS
from arm.model.documents import KINDS, TextEncoder, check_text_tokenizer
from arm.model.lmm import (
    CAPTION_VECTORS,
    VisualCodes,
    caption_vectors,
    initial_values,
    initialise,
    load_base,
    load_trained,
    save,
)
from arm.model.sequence import check_heads, sequence_group
from arm.model.vocabulary import Vocabulary
from arm.storage import Folder, publish_tree
from arm.tombstones import digest_of
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank, start_process_group
from arm.training.engine_config import EngineConfig
from arm.training.ledger.recorder import Recorder
from arm.training.loader import Loader, evened, held_out_batches
from arm.training.loss import PackedModel
from arm.training.metrics import Meter
from arm.training.mixture import HeldOut, find_held_out
from arm.training.plan.files import PlanFiles, PlanWriter, num_segments, plan_identity
from arm.training.plan.index import ShardIndex
from arm.training.plan.planner import Planner, StageShape
from arm.training.sequence import SplitLoader, split
from arm.training.shards import Shards, open_later
from arm.training.trainer import History, Trainer


def train_model(
    *, tokens: Manifest, base: Manifest, tokenizer: Manifest, output: Folder, config: StageConfig
) -> Outcome:
    """Train one stage; every rank calls this, rank 0 publishes."""
    make_deterministic(config.seed)
    start_process_group()
    codes = VisualCodes.load(tokenizer.local("tokenizer/visual_tokenizer.json").parent)
    codes.check_initialisation(config.code_initialisation == "digits")
    weights = initial_weights(tokenizer, base, codes, config)
    with closing(open_later(tokens, codes, config.variants)) as shards:
        planned = plan_stage(shards, config, output)
        meter = Meter(config)  # schedules stretch over the declared steps
        config = replace(config, steps=_whole_steps(planned, config))
        model, text_tokenizer, vocabulary = _model(base, codes, weights, config)
        check_text_tokenizer(shards.lengths[0].text_fingerprint, text_tokenizer)
        held_out = find_held_out(
            shards.lengths, config.mixture, num_documents=config.validation_documents, max_tokens=_batch_tokens(config)
        )
        trainer = _trainer(
            model, text_tokenizer, vocabulary, shards, planned, held_out, output, config, meter, tokens.tombstones
        )
        with closing(trainer.loader):
            history = trainer.run()
    if config.ema_decay:
        trainer.use_average()
    _publish_model(trainer, text_tokenizer, vocabulary, output)
    if rank() == 0:
        _publish_curves(history, output)
        assert trainer.recorder
        trainer.recorder.close()
    dist.barrier()
    return _outcome(trainer, planned, held_out, config)


def plan_stage(shards: Shards, config: StageConfig, output: Folder) -> PlanFiles:
    """The plan of a stage, written ahead by rank 0 and read by all: the same on every rank."""
    stage = stage_shape(config)
    if rank() == 0:
        index = _index(shards, config)
        identity = plan_identity(index, config.mixture, stage, seed=config.seed)
        planner = Planner(index, config.mixture, stage, seed=config.seed)
        writer = PlanWriter(planner, stage, identity=identity, names=shards.names, folder=output)
    for number in range(num_segments(stage)):
        if rank() == 0:
            writer.write(number)
        dist.barrier()  # once a segment: nobody waits longer than the collectives' timeout
    return written_plan(shards, config, output)


def written_plan(shards: Shards, config: StageConfig, output: Folder) -> PlanFiles:
    """The plan that lies in a run's output; UserError or IntegrityError where it is another stage's."""
    stage, index = stage_shape(config), _index(shards, config)
    identity = plan_identity(index, config.mixture, stage, seed=config.seed)
    return PlanFiles(output, stage, shards.names, identity=identity)


def _whole_steps(planned: PlanFiles, config: StageConfig) -> int:
    """The steps that a plan fills: fewer than declared where a source stops the stage."""
    steps = planned.num_rows // config.rows_per_step
    if not steps:
        raise UserError(
            "A kind of document whose limit says 'stop' ends before the first step is full; raise its max_epochs, or let "
            "it repeat."
        )
    return steps


def _index(shards: Shards, config: StageConfig) -> ShardIndex:
    return ShardIndex(
        shards.lengths,
        shards.names,
        config.mixture,
        seed=config.seed,
        tasks=shards.tasks,
        longest_side=config.num_shapes,
    )


def stage_shape(config: StageConfig) -> StageShape:
    """How large the stage is."""
    return StageShape(steps=config.steps, rows_per_step=config.rows_per_step, sequence_length=config.sequence_length)


def initial_weights(tokenizer: Manifest, base: Manifest, codes: VisualCodes, config: StageConfig) -> Path | None:
    """The file of the tokenizer that new rows start from; UserError where the tokenizer has none for this base."""
    if config.code_initialisation == "features":
        return tokenizer.local(f"tokenizer/{codes.features_file}")
    if config.code_initialisation != "captions":
        return None
    if not tokenizer.select(CAPTION_VECTORS):
        raise UserError(
            f"code_initialisation is 'captions', but {tokenizer.url} has no {CAPTION_VECTORS}: train it with a caption loss, "
            "or choose 'digits' or 'features'."
        )
    taught = tokenizer.inputs.get("caption_model", "")
    if taught != base.digest:
        raise UserError(
            f"code_initialisation is 'captions', but the tokenizer's caption loss read language model {taught[:12]}, and the "
            f"base is {base.digest[:12]}: give that one, or choose 'digits' or 'features'."
        )
    return tokenizer.local(CAPTION_VECTORS)


def _model(
    base: Manifest, codes: VisualCodes, weights: Path | None, config: StageConfig
) -> tuple[Any, Any, Vocabulary]:
    folder = base.local_folder("model")
    if config.stage != "pretrain":
        trained = load_trained(folder, codes)
        check_shapes(trained[2], config)
        return trained
    model, text_tokenizer = load_base(folder)
    vocabulary = initialise(
        model,
        text_tokenizer,
        codes,
        num_shapes=config.num_shapes,
        values=initial_values(config.code_initialisation, codes, weights),
        added_layers=config.added_layers,
        seed=config.seed,
        embeddings=caption_vectors(weights) if weights and config.code_initialisation == "captions" else None,
    )
    return model, text_tokenizer, vocabulary


def check_shapes(vocabulary: Vocabulary, config: StageConfig) -> None:
    """The first stage decides about shape tokens; a later one that asks for others is refused."""
    if config.num_shapes != vocabulary.num_shapes:
        raise UserError(
            f"num_shapes is {config.num_shapes}, but the base knows {vocabulary.num_shapes} shape tokens since its first "
            f"stage; set {vocabulary.num_shapes}, or train the first stage anew."
        )


def _trainer(
    model: Any,
    text_tokenizer: Any,
    vocabulary: Vocabulary,
    shards: Shards,
    planned: PlanFiles,
    held_out: HeldOut,
    output: Folder,
    config: StageConfig,
    meter: Meter,
    refused: frozenset[str],
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
        loss_on=config.loss_on,
        refused=refused,
        **here,
    )
    measured = held_out_batches(
        shards, held_out, vocabulary, encode, max_tokens=_batch_tokens(config), refused=refused, **here
    )
    if config.zero_stage == 3:
        measured = evened(measured, vocabulary)
    batches: Loader | SplitLoader = loader
    if group is not None:
        batches = SplitLoader(loader, group)
        measured = {kind: [split(batch, group) for batch in found] for kind, found in measured.items()}
    engine = Engine(PackedModel(model, vocabulary, config), engine_config(config))
    checkpoints = Checkpoints.of(output, keep=config.checkpoints_kept, keep_every=config.checkpoint_kept_every_steps)
    return Trainer(
        engine,
        batches,
        config,
        held_out=measured,
        checkpoints=checkpoints,
        name=f"train-model {config.stage}",
        meter=meter,
        recorder=_recorder(loader, output, refused) if rank() == 0 else None,
    )


def _batch_tokens(config: StageConfig) -> int:
    """The most tokens of a held-out batch: those of a micro-batch."""
    return config.sequence_length * config.rows_per_micro_batch


def _recorder(loader: Loader, output: Folder, refused: frozenset[str]) -> Recorder:
    tombstones = digest_of(refused) if refused else ""
    return Recorder(output, loader.documents_of, loader.shard_names, num_ranks=num_ranks(), tombstones=tombstones)


def engine_config(config: StageConfig) -> EngineConfig:
    """The engine of a stage. Rows need not divide among the ranks: a rank without a row gets padding."""
    if num_ranks() % config.sequence_parallel:
        raise UserError(
            f"sequence_parallel is {config.sequence_parallel} on {num_ranks()} ranks; their number must be a multiple."
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
        gradient_dtype=config.gradient_dtype,
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


def _outcome(trainer: Trainer, planned: PlanFiles, held_out: HeldOut, config: StageConfig) -> Outcome:
    history, read = trainer.history, trainer.meter.read
    last = {
        name: value for record in history.curves if record["step"] == config.steps for name, value in record.items()
    }
    last.pop("step", None)
    counts = {
        "steps": config.steps,
        "documents": sum(consumed[0] for consumed in history.consumed),
        "tokens": sum(consumed[1] for consumed in history.consumed),
    }
    counts |= {f"tokens/{kind}": count for kind, count in zip(KINDS, read.tokens_K.tolist(), strict=True)}
    counts |= {f"targets/{kind}": n for kind, n in zip(KINDS, read.targets_DK.sum(dim=0).tolist(), strict=True)}
    counts |= {f"dropped/too_long/{kind}": count for kind, count in planned.too_long().items()}
    counts |= {f"dropped/too_long/held_out/{kind}": count for kind, count in held_out.too_long.items()}
    bits = {"bits": 16.0 if computing_dtype("auto") == "bfloat16" else 32.0} if config.dtype == "auto" else {}
    return Outcome(counts=counts, metrics=last | bits)
