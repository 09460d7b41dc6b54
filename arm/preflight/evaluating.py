"""evaluate-model: items of every benchmark at every stage, and the images that are drawn and rendered for them."""

from arm.preflight import memory, models
from arm.preflight.hardware import FORWARD_MFU
from arm.preflight.outline import Setting, StepPlan, human, joined, refuse_memory
from arm.preflight.policy import generate_seconds
from arm.preflight.visual import render_flops, rendering_memory

STAGES = 6
"""Models that are measured: after three supervised stages and three of reinforcement learning."""
CATEGORIES = 6
"""Of text-to-image prompts, as in GenEval."""


def plan_evaluation(setting: Setting, step: str) -> StepPlan:
    """evaluate-model."""
    config = setting.recipe.config(step)
    plan = setting.start(step)
    drawn = (config.prompts_per_category * CATEGORIES if "text_to_image" in config.benchmarks else 0) + (
        config.max_edits if "editing" in config.benchmarks else 0
    )
    asked = config.max_questions if "understanding" in config.benchmarks else 0
    parts = [f"{human(number)} {what}" for number, what in ((drawn, "images"), (asked, "questions")) if number]
    plan.work = f"{joined(parts) if parts else 'nothing'} at each of {STAGES} stages"
    encoder = models.encoder(setting.recipe)
    stage = setting.recipe.config("train-model-finetune")
    model = models.with_codes(models.language_model(setting.recipe), stage.num_shapes, models.num_codes(setting.recipe))
    made = models.most_codes(encoder, config.image_size, config.editing.max_long_side)
    read = models.most_codes(encoder, config.reading.max_long_side)
    batch = min(config.batch_size, max(drawn, asked, 1))
    plan.memory = [
        memory.frozen_language(model, "model", 4 if config.dtype == "float32" else 2),
        memory.cache(model, batch * (2 if drawn else 1), max(made, read) if drawn else read),
    ]
    if drawn:
        network = models.detokenizer(setting.recipe, encoder.patch)
        plan.memory += rendering_memory(network, made, encoder.patch, batch)
    if not setting.on_gpu(step):
        setting.take_cpu_rate(plan, STAGES * (drawn + asked))
        refuse_memory(setting, plan)
        return plan
    plan.seconds = STAGES * (
        generate_seconds(setting, model, 2 * drawn, made, batch)
        + generate_seconds(setting, model, asked, config.answer_tokens, batch)
        + asked * 2 * models.language_parameters(model) * read / (setting.gpu.peak_flops * FORWARD_MFU)
        + drawn * _render_flops(setting, made, encoder.patch) / (setting.gpu.peak_flops * FORWARD_MFU)
    )
    refuse_memory(setting, plan)
    return plan


def _render_flops(setting: Setting, codes: float, patch: int) -> float:
    made = setting.recipe.config("train-detokenizer")
    network = models.detokenizer(setting.recipe, patch)
    return render_flops(network, codes, patch, made.sampling_steps, made.guidance)
