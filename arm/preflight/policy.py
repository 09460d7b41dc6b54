"""train-policy: images and judgements, seconds of generate, decode, judge and learn, judge replicas, memory.

judgements       steps x prompts x group x rubrics      280 x 64 x 16 x 1 = 286,720 (Table 2)
judge replicas   images x rubrics x p50 / (concurrency x step budget)

A judge service gives all parts of a verdict in one call; a model that is asked rubrics is called once for each.
"""

from math import ceil

from arm.preflight import memory, models
from arm.preflight.hardware import BANDWIDTH_SHARE, FORWARD_MFU, LAUNCH_SECONDS_PER_LAYER
from arm.preflight.memory import Part
from arm.preflight.outline import Setting, StepPlan, days, human, refuse_memory
from arm.preflight.training import mfu_of
from arm.preflight.visual import render_flops, rendering_memory
from arm.recipes.facts import LanguageGeometry
from arm.rl.config import PolicyConfig, RewardConfig

PROMPT_TOKENS = 100
"""Of a prompt or an instruction (ours)."""


def plan_policy(setting: Setting, step: str) -> StepPlan:
    """One stage of GRPO."""
    config: PolicyConfig = setting.recipe.config(step)
    plan = setting.start(step, setting.ranks(step, config.prompts_per_step))
    encoder = models.encoder(setting.recipe)
    stage = setting.recipe.config("train-model-finetune")
    model = models.with_codes(models.language_model(setting.recipe), stage.num_shapes, models.num_codes(setting.recipe))
    sides = {"text_to_image": config.image_size, "edit": config.editing.max_long_side}
    codes = models.most_codes(encoder, *(sides[task] for task in config.tasks))
    images = config.prompts_per_step * config.group_size
    plan.work = f"{human(images * config.steps)} images in {config.steps} steps"
    plan.fact("images a step", f"{images:,}", f"{config.prompts_per_step} prompts x {config.group_size}")
    _plan_memory(setting, plan, config, model, codes)
    _plan_judgements(setting, plan, config)
    _plan_time(setting, plan, config, model, codes)
    parameters = models.language_parameters(model)
    plan.disk = parameters * (2 * 14 + 2)
    if config.prompts_per_step % plan.ranks:
        plan.notes.append(f"{config.prompts_per_step} prompts over {plan.ranks} ranks: some ranks draw one group more.")
    if setting.on_gpu(step):
        plan.notes.append("The detokenizer is loaded in float32; seconds of rendering assume bfloat16 products.")
    refuse_memory(setting, plan)
    return plan


def judgements(config: PolicyConfig) -> int:
    """Calls of a stage's judges, without refills: 280 x 64 x 16 x 1 rubric = 286,720."""
    return round(config.steps * sum(calls_of_step(config).values()))


def calls_of_step(config: PolicyConfig) -> dict[str, float]:
    """Task -> calls about the images of a step."""
    shares = {"text_to_image": 1 - config.share_of_edits, "edit": config.share_of_edits}
    images = config.prompts_per_step * config.group_size
    return {task: images * shares[task] * num_rubrics(config.reward, task) for task in config.tasks}


def num_rubrics(reward: RewardConfig, task: str) -> int:
    """Calls for an image of a task."""
    return len(reward.rubrics[task].asked) if task in reward.rubrics else 1


def judge_seconds(config: PolicyConfig, seconds: float, ranks: int) -> float:
    """How long a step's calls take at `seconds` each: those of all tasks one after the other, within the models' rates."""
    total = 0.0
    for task, calls in calls_of_step(config).items():
        asked = config.reward.rubrics.get(task)
        at_once = asked.judge.num_workers if asked else config.reward.concurrency
        rate = asked.judge.calls_per_minute if asked else 0.0
        total += max(calls * seconds / (at_once * ranks), calls * 60 / rate if rate else 0.0)
    return total


def _plan_memory(setting: Setting, plan: StepPlan, config: PolicyConfig, model: LanguageGeometry, codes: int) -> None:
    encoder = models.encoder(setting.recipe)
    network = models.detokenizer(setting.recipe, encoder.patch)
    width = 4 if config.dtype == "float32" else 2
    *renderer, rendering = rendering_memory(network, codes, encoder.patch, config.rollout_batch)
    tokens = _prompt_tokens(config, codes, most=True) + codes
    learned = memory.language_activations(model, config.learn_batch * tokens, checkpointing=False, dtype=config.dtype)
    learning = [
        *learned,
        memory.logits(min(config.logits_chunk, config.learn_batch * codes), models.num_codes(setting.recipe)),
    ]
    sampling = [memory.cache(model, config.rollout_batch, tokens)]
    phases = {"generating": sampling, "rendering": [rendering], "learning": learning}
    fullest = max(phases, key=lambda name: memory.total(phases[name]))
    plan.memory = [
        *memory.zero_states(models.language_parameters(model), stage=1, ranks=plan.ranks, dtype=config.dtype),
        memory.frozen_language(model, "reference", width),
        Part("encoder", 4 * models.vision_parameters(encoder), "float32, frozen"),
        *renderer,
        *phases[fullest],
    ]
    plan.fact("fullest while", fullest, ", ".join(f"{n} {memory.total(p) / 1e9:.0f} GB" for n, p in phases.items()))


def _plan_judgements(setting: Setting, plan: StepPlan, config: PolicyConfig) -> None:
    reward, calls, asked = config.reward, judgements(config), calls_of_step(config)
    paid = [number for task, number in asked.items() if task in reward.rubrics or not reward.module]
    plan.extra_cost = round(config.steps * sum(paid)) * setting.cost_per_judgement
    most = calls * (1 + config.refill_rounds)
    plan.fact("judgements", f"{calls:,}", f"at most {most:,} with {config.refill_rounds} rounds of refills")
    if plan.extra_cost:
        plan.fact("judge", f"${plan.extra_cost:,.0f}", f"${setting.cost_per_judgement:g} each, assumed; {reward.names}")
    for task, rubrics in reward.rubrics.items():
        budget, cost = rubrics.judge.max_dollars, config.steps * asked[task] * setting.cost_per_judgement
        if 0 < budget < cost:
            plan.notes.append(
                f"{task} needs ${cost:,.0f} of judgements, but its budget is ${budget:,.0f}: the run will pause."
            )


def _plan_time(setting: Setting, plan: StepPlan, config: PolicyConfig, model: LanguageGeometry, codes: int) -> None:
    if not setting.on_gpu(plan.step):
        setting.take_cpu_rate(plan, config.steps * config.prompts_per_step * config.group_size)
        return
    images = config.prompts_per_step * config.group_size
    own = ceil(config.prompts_per_step / plan.ranks) * config.group_size
    parts = {
        "generate": generate_seconds(setting, model, own, codes, config.rollout_batch),
        "decode": own * _render_seconds(setting, config, codes),
        "learn": _learn_flops(config, model, codes) * images / plan.gpus / _speed(setting, model),
    }
    budget = parts["generate"] + parts["decode"]
    parts["judge"] = max(judge_seconds(config, setting.judge_seconds, plan.ranks) - budget, 0.0)
    for name, seconds in parts.items():
        plan.fact(f"seconds: {name}", f"{seconds:,.0f}", "beyond generating and decoding" if name == "judge" else "")
    _plan_replicas(setting, plan, config, budget)
    plan.seconds = sum(parts.values()) * config.steps
    plan.fact("a step", days(plan.seconds / config.steps))


def _plan_replicas(setting: Setting, plan: StepPlan, config: PolicyConfig, budget: float) -> None:
    reward, needed, how = config.reward, 0.0, []
    for task, calls in calls_of_step(config).items():
        asked, number = reward.rubrics.get(task), num_rubrics(reward, task)
        at_once = asked.judge.num_workers if asked else reward.concurrency
        needed += calls * setting.judge_seconds / (at_once * budget)
        rubrics = f"{number} rubric" if number == 1 else f"{number} rubrics"
        how.append(
            f"{calls / number:,.0f} images x {rubrics} x {setting.judge_seconds:g} s / ({at_once} at once x {budget:,.0f} s)"
        )
    plan.fact("judge replicas", f"{max(1, ceil(needed))}", " + ".join(how))


def generate_seconds(setting: Setting, model: LanguageGeometry, images: float, codes: float, batch: int) -> float:
    """Sampling codes one after the other: weights and cache are read for each, and layers must be launched."""
    cached = memory.cache(model, batch, codes / 2).size
    read = (2 * models.language_parameters(model) + cached) / (setting.gpu.bandwidth * BANDWIDTH_SHARE)
    return ceil(images / batch) * codes * max(read, model.layers * LAUNCH_SECONDS_PER_LAYER)


def _render_seconds(setting: Setting, config: PolicyConfig, codes: int) -> float:
    patch = models.encoder(setting.recipe).patch
    network, made = models.detokenizer(setting.recipe, patch), setting.recipe.config("train-detokenizer")
    steps = config.render_steps or made.sampling_steps
    guidance = made.guidance if config.render_guidance is None else config.render_guidance
    return render_flops(network, codes, patch, steps, guidance) / (setting.gpu.peak_flops * FORWARD_MFU)


def _learn_flops(config: PolicyConfig, model: LanguageGeometry, codes: int) -> float:
    """An image's passes: the first of the learner and the reference's forward, the update's forward and backward."""
    weights = models.language_parameters(model) - model.vocabulary * model.width
    tokens = _prompt_tokens(config, codes, most=False) + codes
    passes = 2 + 2 + 6 * config.updates_per_step
    return passes * weights * tokens + passes * model.layers * model.width * tokens**2


def _speed(setting: Setting, model: LanguageGeometry) -> float:
    return setting.gpu.peak_flops * mfu_of(setting, models.language_parameters(model))[0]


def _prompt_tokens(config: PolicyConfig, codes: int, *, most: bool) -> float:
    """Text, and the source of an edit: of the longest prompt, or of the mean one."""
    edits = config.share_of_edits
    return PROMPT_TOKENS + codes * ((edits > 0) if most else edits)
