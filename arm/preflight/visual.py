"""The visual side: train-tokenizer, tokenize-images with bytes by resolution, train-detokenizer, evaluate-tokenizer."""

from collections.abc import Sequence

from arm.preflight import memory, models
from arm.preflight.documents import Source, grids_of, sources_of
from arm.preflight.hardware import FORWARD_MFU
from arm.preflight.memory import Part
from arm.preflight.needs import samples_planned
from arm.preflight.outline import Setting, StepPlan, gigabytes, human, refuse_memory
from arm.preflight.training import mfu_of
from arm.recipes.facts import DiffusionGeometry, LanguageGeometry, VisionGeometry
from arm.tokenizer.config import DetokenizerConfig, EncodeConfig, ResolutionConfig, TokenizerConfig

CAPTION_TOKENS = 100
"""Of a caption, where the config allows more (ours)."""
TEXT_TOWER_TOKENS = 64
"""SigLIP2 pads every text to so many."""
TEXT_BYTES_PER_TOKEN = 4.5
"""Characters behind a token of English (ours)."""
ROW_BYTES = 200
"""Columns of a token shard beside codes and texts (ours)."""
DECODER_BYTES_PER_PIXEL = 4_096
"""An autoencoder at work on the full resolution: four maps of 256 channels in float32 (ours)."""
TRAINING_TASKS = ("text_to_image", "caption")


def plan_tokenizer(setting: Setting, step: str) -> StepPlan:
    """train-tokenizer."""
    config: TokenizerConfig = setting.recipe.config(step)
    plan = setting.start(step, setting.ranks(step, config.batch_size))
    encoder, caption = models.encoder(setting.recipe), models.language_model(setting.recipe)
    codes = mean_codes(setting, config.resolutions, encoder.patch)
    images = config.batch_size * config.num_steps
    micro = config.micro_batch or config.batch_size // plan.ranks
    words = min(config.caption_length, CAPTION_TOKENS)
    plan.work = f"{human(images)} images in {config.num_steps:,} steps"
    plan.fact("codes of an image", f"{codes:,.0f}", "mean over the resolutions")
    if config.batch_size % plan.ranks:
        plan.refusals.append(f"{step} has batches of {config.batch_size}, which {plan.ranks} ranks do not divide.")
    learned, flops = _tokenizer_cost(config, encoder, caption, codes, words)
    dtype = "float32"
    plan.memory = [
        *memory.zero_states(learned, stage=1, ranks=plan.ranks, dtype=dtype),
        *_frozen(encoder, text=config.sigmoid_weight > 0),
        *([memory.frozen_language(caption, "caption model", 4)] if config.caption_weight else []),
        *_tokenizer_activations(config, caption, codes, words, micro),
    ]
    plan.fact("parameters that learn", human(learned), "both projections, the pixel DiT and the adapter")
    plan.fact("FLOPs an image", f"{flops:.3g}", "encoder once, projections and DiT three times, caption model twice")
    plan.disk = learned * 16 + 4 * models.vision_parameters(encoder)
    _take_time(setting, plan, images, flops, mfu_of(setting, learned)[0])
    if config.caption_weight and models.language_parameters(caption) > 1e9:
        plan.notes.append("The pipeline captions with the language model; the paper's caption loss uses Qwen2.5-0.5B.")
    refuse_memory(setting, plan)
    return plan


def plan_encoding(setting: Setting, step: str) -> StepPlan:
    """tokenize-images: codes of two bytes each and texts, by variant and by size of the grid."""
    config: EncodeConfig = setting.recipe.config(step)
    plan = setting.start(step, setting.world if setting.world and setting.on_gpu(step) else None)
    encoder = models.encoder(setting.recipe)
    images = flops = 0.0
    planned = samples_planned(setting.recipe)
    for variant in config.variants:
        size = texts = 0.0
        buckets: dict[str, float] = {}
        for source in sources_of(setting.recipe):
            if not variant.takes(source.task):
                continue
            number = planned[source.name]
            texts += number * (source.facts.text_tokens * TEXT_BYTES_PER_TOKEN + ROW_BYTES)
            for rows, columns, share in _grids(source, variant.resolution, encoder.patch):
                found = number * source.facts.images * share
                images += found
                flops += found * encode_flops(encoder, rows * columns)
                size += found * rows * columns * 2
                name = f"{rows * encoder.patch} x {columns * encoder.patch}"
                buckets[name] = buckets.get(name, 0.0) + found
        shown = ", ".join(
            f"{name}: {human(number)}" for name, number in sorted(buckets.items(), key=lambda x: -x[1])[:6]
        )
        plan.fact(variant.name, gigabytes(size + texts), f"codes {gigabytes(size)}, texts {gigabytes(texts)}; {shown}")
        plan.disk += size + texts
    plan.work = f"{human(images)} images, two bytes a code"
    plan.memory = [*_frozen(encoder, text=False), Part("batch", config.batch_size * 3 * 1_024 * 1_024, "pixels")]
    _take_time(setting, plan, images, flops / max(images, 1), FORWARD_MFU)
    refuse_memory(setting, plan)
    return plan


def plan_detokenizer(setting: Setting, step: str) -> StepPlan:
    """train-detokenizer."""
    config: DetokenizerConfig = setting.recipe.config(step)
    plan = setting.start(step, setting.ranks(step, config.batch_size))
    encoder = models.encoder(setting.recipe)
    network = models.detokenizer(setting.recipe, encoder.patch)
    codes = mean_codes(setting, config.resolutions, encoder.patch)
    tokens = tokens_of_image(network, codes, encoder.patch)
    largest = max(resolution.max_long_side for resolution in config.resolutions) ** 2 / encoder.patch**2
    micro = config.micro_batch or config.batch_size // plan.ranks
    if config.batch_size % plan.ranks:
        plan.refusals.append(f"{step} has batches of {config.batch_size}, which {plan.ranks} ranks do not divide.")
    images = config.batch_size * config.num_steps
    plan.work = f"{human(images)} images in {config.num_steps:,} steps"
    dtype = "bfloat16" if config.precision == "bfloat16_weights" else "float32"
    widest = micro * tokens_of_image(network, largest, encoder.patch)
    kept = memory.block_activations(widest, network.width, network.blocks)
    if config.activation_checkpointing:
        kept = 2 * widest * network.width * network.blocks + 2 * memory.block_activations(widest, network.width, 1)
    plan.memory = [
        *memory.zero_states(network.parameters, stage=1, ranks=plan.ranks, dtype=dtype),
        *_frozen(encoder, text=False),
        Part("autoencoder", network.autoencoder_parameters * 4, "float32, frozen"),
        Part("activations", kept, f"{micro} images of the largest size, {network.blocks} blocks"),
    ]
    flops = 3 * forward_flops(network, tokens)
    plan.fact("parameters that learn", human(network.parameters), config.backbone)
    plan.fact("FLOPs an image", f"{flops:.3g}", f"{tokens:,.0f} tokens")
    latents = config.max_images * codes * encoder.patch**2 / 64 * 16 * 4
    plan.disk = network.parameters * 16 + latents
    plan.fact("prepared latents", gigabytes(latents), f"{config.max_images:,} images, as many as are prepared at most")
    _take_time(setting, plan, images, flops, mfu_of(setting, network.parameters)[0])
    refuse_memory(setting, plan)
    return plan


def plan_tokenizer_evaluation(setting: Setting, step: str) -> StepPlan:
    """evaluate-tokenizer: every image encoded and rendered."""
    config = setting.recipe.config(step)
    plan = setting.start(step)
    encoder = models.encoder(setting.recipe)
    network = models.detokenizer(setting.recipe, encoder.patch)
    made = setting.recipe.config("train-detokenizer")
    codes = mean_codes(setting, config.resolutions, encoder.patch)
    images = config.max_images * len(config.resolutions)
    flops = encode_flops(encoder, codes) + render_flops(
        network, codes, encoder.patch, config.steps or made.sampling_steps, config.guidance or made.guidance
    )
    plan.work = f"at most {human(images)} images, encoded and rendered"
    plan.memory = [
        *_frozen(encoder, text=True), *rendering_memory(network, codes, encoder.patch, config.batch_size)
    ]  # fmt: skip
    if setting.on_gpu(step):
        _take_time(setting, plan, images, flops, FORWARD_MFU)
    else:
        setting.take_cpu_rate(plan, images)
    refuse_memory(setting, plan)
    return plan


def mean_codes(setting: Setting, resolutions: Sequence[ResolutionConfig], patch: int) -> float:
    """Codes of an image, over the captioned sources and the resolutions."""
    sources = [source for source in sources_of(setting.recipe) if source.task in TRAINING_TASKS]
    means = [
        sum(rows * columns * share for rows, columns, share in grids_of(source.facts, resolution, patch))
        for source in sources
        for resolution in resolutions
    ]
    return sum(means) / max(len(means), 1)


def encode_flops(encoder: VisionGeometry, codes: float) -> float:
    """A forward pass of the encoder over an image; the projection in is a tenth of it and left out."""
    return 2 * models.vision_parameters(encoder) * codes + 4 * encoder.layers * encoder.width * codes**2


def tokens_of_image(network: DiffusionGeometry, codes: float, patch: int) -> float:
    """Tokens that the renderer's transformer sees of an image."""
    own = codes * patch**2 / network.pixels_per_token**2
    return own + (codes if network.codes_as_tokens else 0)


def forward_flops(network: DiffusionGeometry, tokens: float) -> float:
    """A forward pass of the renderer's transformer."""
    attention = 4 * network.blocks * network.width * tokens**2 if network.codes_as_tokens else 0
    return 2 * network.parameters * tokens + attention


def render_flops(network: DiffusionGeometry, codes: float, patch: int, steps: int, guidance: float) -> float:
    """An image from its codes: every step once, or twice with guidance."""
    return forward_flops(network, tokens_of_image(network, codes, patch)) * steps * (1 if guidance == 1 else 2)


def rendering_memory(network: DiffusionGeometry, codes: float, patch: int, images: int) -> list[Part]:
    """The renderer, and a batch on its way through transformer or autoencoder, whichever is larger."""
    tokens = images * tokens_of_image(network, codes, patch)
    batch = max(40 * tokens * network.width, images * codes * patch**2 * DECODER_BYTES_PER_PIXEL)
    return [
        Part("detokenizer", 4 * network.parameters, "float32, as diffusers loads it, frozen"),
        Part("autoencoder", 4 * network.autoencoder_parameters, "float32, frozen"),
        Part("rendering", batch, f"{images} images at once, in a block or in the autoencoder's decoder"),
    ]


def _frozen(encoder: VisionGeometry, *, text: bool) -> list[Part]:
    parts = [Part("encoder", 4 * models.vision_parameters(encoder), "float32, frozen")]
    if text:
        parts.append(Part("text tower", 4 * encoder.text_parameters, "float32, frozen"))
    return parts


def _grids(source: Source, resolution: ResolutionConfig, patch: int) -> list[tuple[int, int, float]]:
    return list(grids_of(source.facts, resolution, patch)) if source.facts.images else []


def _tokenizer_cost(
    config: TokenizerConfig, encoder: VisionGeometry, caption: LanguageGeometry, codes: float, words: int
) -> tuple[float, float]:
    """(parameters that learn, FLOPs an image)."""
    quantizer, pixel = config.quantizer, config.pixel
    projections = models.block_parameters(quantizer.width, 2 * quantizer.num_blocks, conditioned=False)
    dit = models.block_parameters(pixel.width, pixel.num_blocks, conditioned=True) if config.pixel_weight else 0
    adapter = caption.width * (encoder.width + caption.width) if config.caption_weight else 0
    split = (encoder.patch / pixel.patch) ** 2
    flops = encode_flops(encoder, codes) + 6 * projections * codes + 6 * dit * codes * split
    if config.sigmoid_weight:
        flops += 2 * encoder.text_parameters * TEXT_TOWER_TOKENS
    if config.caption_weight:
        size = models.language_parameters(caption) - caption.vocabulary * caption.width
        flops += config.caption_fraction * 4 * size * (codes + words)
    return projections + dit + adapter, flops


def _tokenizer_activations(
    config: TokenizerConfig, caption: LanguageGeometry, codes: float, words: int, micro: int
) -> list[Part]:
    quantizer, pixel = config.quantizer, config.pixel
    blocks = memory.block_activations(micro * codes, quantizer.width, 2 * quantizer.num_blocks)
    blocks += memory.block_activations(micro * codes, pixel.width, pixel.num_blocks)
    parts = [Part("activations", blocks, f"{micro} images through the projections and the pixel DiT")]
    if config.caption_weight:
        length = codes + words
        read = max(1, round(micro * config.caption_fraction))
        kept = memory.language_activations(caption, read * length, checkpointing=False)[0]
        scores = 6 * read * caption.layers * caption.heads * length**2
        how = f"{read} captions of {length:,.0f} tokens, with eager attention's scores"
        parts.append(Part("activations of the caption model", kept.size + scores, how))
        parts.append(memory.logits(read * words, caption.vocabulary))
    return parts


def _take_time(setting: Setting, plan: StepPlan, images: float, flops: float, mfu: float) -> None:
    """Seconds from FLOPs on GPUs, or from the measured rate on CPUs."""
    if not setting.on_gpu(plan.step):
        setting.take_cpu_rate(plan, images)
        return
    plan.seconds = images * flops / (plan.gpus * setting.gpu.peak_flops * mfu)
    plan.fact("MFU", f"{mfu:.0%}", "assumed")
    plan.fact("images/s", human(images / max(plan.seconds, 1e-9)), "over all GPUs")
