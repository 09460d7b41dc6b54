"""train-model: memory of a rank, rows and tokens of a step, what divides by what, speed, days, checkpoints."""

from typing import Any

from arm.preflight import memory
from arm.preflight.documents import Kind, kinds_of, variant_refusals
from arm.preflight.hardware import PUBLISHED, SMALL_TRAIN_MFU, TRAIN_MFU
from arm.preflight.models import encoder, language_model, language_parameters, layer_parameters, num_codes, with_codes
from arm.preflight.outline import Setting, StepPlan, days, gigabytes, human, refuse_memory
from arm.recipes.facts import LanguageGeometry
from arm.training.config import StageConfig
from arm.training.flops import step_flops

FILL = 0.995
"""Share of a row's places that hold a token (the planner's target)."""
PLAN_BYTES_PER_DOCUMENT = 16
"""Plan and ledger on disk (ours)."""


def plan_stage(setting: Setting, step: str) -> StepPlan:
    """One supervised stage."""
    config: StageConfig = setting.recipe.config(step)
    group = sequence_parallel(config)
    ranks = setting.ranks(step, config.rows_per_step // config.rows_per_micro_batch, each=group)
    plan = setting.start(step, ranks)
    model = with_codes(language_model(setting.recipe), config.num_shapes, num_codes(setting.recipe))
    kinds = kinds_of(setting.recipe, config, encoder(setting.recipe).patch)
    plan.refusals += refusals(setting, step, config, model, kinds, ranks)
    _note_rows(plan, config.rows_per_step, ranks // group * config.rows_per_micro_batch)
    _note_idle(setting, plan, config, group)
    _plan_memory(plan, config, model, num_codes(setting.recipe))
    _plan_data(plan, config, kinds)
    _plan_speed(setting, plan, config, model, kinds)
    _plan_disk(plan, config, model, kinds)
    refuse_memory(setting, plan)
    return plan


def sequence_parallel(config: StageConfig) -> int:
    """Ranks that share a row."""
    return int(getattr(config, "sequence_parallel", 1))


def refusals(
    setting: Setting, step: str, config: StageConfig, model: LanguageGeometry, kinds: list[Kind], ranks: int
) -> list[str]:
    """Why a stage cannot run, but for memory: a sentence each."""
    group = sequence_parallel(config)
    found = variant_refusals(setting.recipe, step, config)
    if setting.world is not None and setting.on_gpu(step) and group > setting.world:
        found.append(f"{step} shares a row among {group} ranks, but there are {setting.world} GPUs; take so many.")
    if ranks % group:
        found.append(f"{step} has {ranks} ranks, which {group} ranks of a sequence do not divide; take a multiple.")
    for name, heads in (("attention heads", model.heads), ("key-value heads", model.kv_heads)):
        if heads % group:
            found.append(f"{step} shares a row among {group} ranks, but the model has {heads} {name}; take a divisor.")
    return found + [sentence for kind in kinds for sentence in _source_refusals(step, config, kind)]


def mfu_of(setting: Setting, parameters: float) -> tuple[float, str]:
    """The share of the peak that is assumed, and why."""
    if setting.mfu is not None:
        return setting.mfu, "given"
    small = parameters < 1e9
    return (SMALL_TRAIN_MFU, "ours, below 1B parameters") if small else (TRAIN_MFU, "ours, see the published figures")


def flops_of_step(config: StageConfig, model: LanguageGeometry, kinds: list[Kind], codes: int) -> float:
    """FLOPs of a step, as the trainer counts them: those of one token times the tokens."""
    tokens = config.rows_per_step * config.sequence_length * FILL
    squares = sum(kind.share * kind.squares for kind in kinds)
    per_token = step_flops(
        num_parameters=model.layers * layer_parameters(model),
        num_layers=model.layers,
        width=model.width,
        lengths=[1],
        head_logits=round(head_logits(config, model, kinds, codes)),
    )
    return tokens * (per_token + 6.0 * model.layers * model.width * (squares - 1))


def head_logits(config: StageConfig, model: LanguageGeometry, kinds: list[Kind], codes: int) -> float:
    """Logits of a mean token: the parts of the tokens that are targets, times the rows of their modality."""
    rows = (codes, model.vocabulary - codes) if config.loss_rows == "modality" else (model.vocabulary,) * 2
    return sum(
        kind.share * (kind.targets[0] * rows[0] + kind.targets[1] * rows[1]) / kind.mean for kind in kinds if kind.mean
    )


def _plan_memory(plan: StepPlan, config: StageConfig, model: LanguageGeometry, codes: int) -> None:
    parameters = language_parameters(model)
    group = sequence_parallel(config)
    ema = float(getattr(config, "ema_decay", 0.0) or 0.0) > 0
    tokens = config.rows_per_micro_batch * config.sequence_length / group
    rows = model.vocabulary if config.loss_rows == "all" else max(model.vocabulary - codes, codes)
    stage = (
        0 if getattr(config, "engine", "deepspeed") == "torch" else config.zero_stage
    )  # plain PyTorch shares nothing
    shared = {"dtype": config.dtype}
    plan.memory = [
        *memory.zero_states(
            parameters,
            stage=stage,
            ranks=plan.ranks,
            gradient_dtype=config.gradient_dtype,
            muon=config.optimizer == "muon",
            ema=ema,
            **shared,
        ),
        *memory.language_activations(model, tokens, checkpointing=config.activation_checkpointing, **shared),
        memory.logits(min(config.loss_chunk, tokens), rows),
    ]
    plan.fact("parameters", human(parameters), f"{model.vocabulary:,} rows, head and embedding untied")


def _plan_data(plan: StepPlan, config: StageConfig, kinds: list[Kind]) -> None:
    tokens = config.rows_per_step * config.sequence_length
    plan.work = f"{human(tokens * config.steps)} tokens in {config.steps:,} steps"
    plan.fact("tokens a step", human(tokens), f"{config.rows_per_step} rows x {config.sequence_length:,}")
    group = sequence_parallel(config)
    rows = config.rows_per_step * group / plan.ranks
    plan.fact(
        "rows of a rank", f"{rows:g}", f"in micro-batches of {config.rows_per_micro_batch}, sequence parallel {group}"
    )
    schedule = f"{config.warmup_steps:,} steps of warm-up, then constant"
    if config.decay_fraction:
        schedule += f", falling over the last {config.decay_fraction:.0%}"
    plan.fact("learning rate", f"{config.learning_rate:g}", schedule)
    for kind in kinds:
        wanted = kind.share * tokens * FILL * config.steps / max(kind.mean, 1)
        there = kind.num_samples
        _note_end(plan, config, kind.name, wanted / there if there else 0.0)
        epochs = (
            f"{wanted / there:.2g} epochs of {human(there)}" if there else "you must have so many, or accept epochs"
        )
        plan.fact(
            f"{kind.name.replace('_', ' ')} documents", human(wanted),
            f"{kind.share:.3g} of the tokens, {kind.mean:,.0f} tokens each; {epochs}",
        )  # fmt: skip


def _note_rows(plan: StepPlan, rows: int, at_once: int) -> None:
    """Say so when the rows of a step leave some ranks with padding."""
    if at_once and rows % at_once:
        idle = _next(rows, at_once) - rows
        plan.notes.append(
            f"{rows} rows a step do not divide among {at_once} that are read at once: {idle} places are padding, of which "
            f"nothing is learned; {_next(rows, at_once)} rows would fill them."
        )


def _note_idle(setting: Setting, plan: StepPlan, config: StageConfig, group: int) -> None:
    """Say so when some of the GPUs there are have no part in the rows."""
    there = setting.world
    if there is not None and plan.gpus < there and there >= group:
        fitting = _next(config.rows_per_step, there // group * config.rows_per_micro_batch)
        plan.notes.append(
            f"{plan.gpus} of the {there} GPUs work: {config.rows_per_step} rows a step divide among no more of them; "
            f"{fitting} rows would divide among {there // group * group}."
        )


def _note_end(plan: StepPlan, config: StageConfig, kind: str, epochs: float) -> None:
    """Say so when a source that ends the stage runs out before its last step."""
    limit: Any = getattr(config.mixture, "limits", {}).get(kind)
    if limit and limit.at_end == "stop" and epochs > limit.max_epochs:
        done = limit.max_epochs / epochs
        plan.notes.append(f"{kind} runs out after {done:.0%} of the steps and ends the stage there (limits).")


def _plan_speed(
    setting: Setting, plan: StepPlan, config: StageConfig, model: LanguageGeometry, kinds: list[Kind]
) -> None:
    flops = flops_of_step(config, model, kinds, num_codes(setting.recipe))
    tokens = config.rows_per_step * config.sequence_length
    plan.fact("FLOPs a step", f"{flops:.3g}", "6·N·T + 6·L·d·Σlen² + 6·d·Σ targets·rows; recomputed layers not counted")
    attention = 6 * model.layers * model.width * sum(kind.share * kind.squares for kind in kinds) * tokens * FILL
    plan.fact("attention's part", f"{attention / flops:.1%}", "of the FLOPs: documents are short")
    if not setting.on_gpu(plan.step):
        setting.take_cpu_rate(plan, tokens * config.steps)
        return
    mfu, why = mfu_of(setting, language_parameters(model))
    seconds = flops / (plan.gpus * setting.gpu.peak_flops * mfu)
    plan.seconds = seconds * config.steps
    plan.fact("MFU", f"{mfu:.0%}", why)
    plan.fact("seconds a step", f"{seconds:.1f}")
    plan.fact("tokens/s", human(tokens / seconds), f"{tokens / seconds / plan.gpus:,.0f} a GPU")
    for who, _, reached in PUBLISHED[:2]:
        plan.fact(f"at {reached:.1%} MFU", days(plan.seconds * mfu / reached), f"as {who}")


def _plan_disk(plan: StepPlan, config: StageConfig, model: LanguageGeometry, kinds: list[Kind]) -> None:
    parameters = language_parameters(model)
    checkpoint = parameters * (2 + 12)
    tokens = config.rows_per_step * config.sequence_length * config.steps
    documents = sum(kind.share * tokens / max(kind.mean, 1) for kind in kinds)
    planned = documents * PLAN_BYTES_PER_DOCUMENT
    kept = int(getattr(config, "checkpoints_kept", 2))
    plan.disk = kept * checkpoint + 2 * parameters + planned
    plan.fact("a checkpoint", gigabytes(checkpoint), f"14 bytes a parameter; {kept} are kept")
    plan.fact("plan and ledger", gigabytes(planned), f"{human(documents)} documents")


def _source_refusals(step: str, config: StageConfig, kind: Kind) -> list[str]:
    name = kind.name
    if not kind.sources or kind.num_samples == 0:
        return [
            f"{step} takes {kind.share:.3g} of its tokens from {name}, but no source has such samples; "
            "add one to import-samples-training, or set the share to 0."
        ]
    if not kind.lengths:
        return [f"{step} takes tokens from {name}, but none of its variants holds them; name one in `variants`."]
    if min(length for length, _ in kind.lengths) > config.sequence_length:
        return [
            f"{step} packs rows of {config.sequence_length:,} tokens, but {name} documents have {kind.mean:,.0f}; make the "
            "rows longer or the images smaller."
        ]
    return []


def _next(value: int, divisor: int) -> int:
    """The least multiple of the divisor that is not below the value."""
    return -(-value // divisor) * divisor
