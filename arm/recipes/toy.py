"""`toy`: the whole road in minutes on two cores, over a made-up world: what `make demo` runs.

Values are ours unless a table is cited. Departures from the paper that a toy needs are named fields here: Muon, a
decaying rate, normalised losses, fewer FSQ dimensions, projections that see one patch.
"""

from dataclasses import replace

from arm.data.config import (
    CurateConfig,
    DownloadConfig,
    ExtractConfig,
    FilterConfig,
    ImportModelConfig,
    ImportSamplesConfig,
    ImportSource,
    SourceRule,
)
from arm.evaluation.config import EvaluateConfig, SamplingConfig
from arm.recipes.recipe import Compute, Recipe
from arm.recipes.toy_facts import PUBLIC_DOMAIN, SIDE, datasets
from arm.rl.config import PolicyConfig, RewardConfig
from arm.tokenizer.config import (
    DetokenizerConfig,
    EncodeConfig,
    EvaluateTokenizerConfig,
    FlowConfig,
    LinearProbeConfig,
    OptimizerConfig,
    QuantizerConfig,
    ResolutionConfig,
    TokenizerConfig,
    VariantConfig,
    ZeroShotTask,
)
from arm.toy.config import TeacherConfig, WorldConfig
from arm.tracking.config import Gate, RegisterConfig
from arm.training.config import KindWeights, MixtureConfig, StageConfig

OURS = "Apache-2.0"

IMPORTS = {
    "import-model-encoder": ImportModelConfig(path="siglip", role="encoder", licence=OURS, name="toy-siglip"),
    "import-model-language-model": ImportModelConfig(
        path="language_model", role="language_model", licence=OURS, name="toy-qwen2"
    ),
    "import-model-autoencoder": ImportModelConfig(path="autoencoder", role="autoencoder", licence=OURS, name="toy-vae"),
    "import-samples-training": ImportSamplesConfig(
        sources=(
            ImportSource(
                name="toy-captions",
                path="imports/captions",
                format="samples",
                task="text_to_image",
                licence=PUBLIC_DOMAIN,
            ),
            ImportSource(
                name="toy-questions", path="imports/questions", format="json", task="question", licence=PUBLIC_DOMAIN
            ),
            ImportSource(name="toy-edits", path="imports/edits", format="table", task="edit", licence=PUBLIC_DOMAIN),
            ImportSource(
                name="toy-pages", path="imports/pages", format="samples", task="interleaved_web", licence=PUBLIC_DOMAIN
            ),
            ImportSource(
                name="toy-videos",
                path="imports/videos",
                format="samples",
                task="interleaved_video",
                licence=PUBLIC_DOMAIN,
            ),
            ImportSource(name="toy-text", path="imports/text", format="json", task="text", licence=PUBLIC_DOMAIN),
        ),
        samples_per_shard=2_000,
    ),
    "import-samples-prompts": ImportSamplesConfig(
        sources=(
            ImportSource(
                name="toy-prompts-t2i",
                path="prompts/t2i-00000.tar",
                format="samples",
                task="text_to_image",
                licence=PUBLIC_DOMAIN,
            ),
            ImportSource(
                name="toy-prompts-edits",
                path="prompts/edits-00000.tar",
                format="samples",
                task="edit",
                licence=PUBLIC_DOMAIN,
            ),
        )
    ),
    "import-samples-evaluation": ImportSamplesConfig(
        sources=tuple(
            ImportSource(
                name=f"toy-evaluation-{kind}",
                path=f"evaluation/{kind}-00000.tar",
                format="samples",
                task=task,
                licence=PUBLIC_DOMAIN,
            )
            for kind, task in (
                ("prompts", "text_to_image"),
                ("questions", "question"),
                ("edits", "edit"),
                ("captions", "caption"),
            )
        )
    ),
}

EXTRACT = ExtractConfig(paths=("crawl/crawl.warc.gz", "crawl/crawl.wat.gz"))
FILTER = FilterConfig(
    languages=("en",),
    candidate_languages=("en", "de", "es", "fr", "ja"),
    max_caption_repeats=100,  # captions come from templates: COYO's 10 would drop half of the single objects
)
DOWNLOAD = DownloadConfig(
    source="crawl",
    licence=PUBLIC_DOMAIN,
    image_size=SIDE,
    resize_mode="keep_ratio",
    encode_format="png",
    encode_quality=6,
    min_image_side=64,
    unit_rows=1_250,
    threads=16,
    requests_per_second_per_host=2_000.0,  # the site is this machine
)
CURATE = CurateConfig(
    samples_per_shard=4_000,
    rules=(
        SourceRule(source="crawl", min_side=200, max_aspect=1.5, min_entropy=1.0, min_similarity=0.4),
        SourceRule(source="*", max_aspect=None, near_duplicates=False),
    ),
)

SHAPES, COLOURS = ("circle", "square", "triangle", "cross"), ("red", "yellow", "green", "cyan", "blue", "purple")
TOKENIZER = TokenizerConfig(
    resolutions=(ResolutionConfig(min_short_side=SIDE, max_long_side=SIDE),),
    quantizer=QuantizerConfig(
        levels=(2,) * 9,
        num_blocks=2,
        width=128,
        num_heads=4,
        projection_attention="patch",
        encoder_layers=(0,),
    ),
    caption_weight=2.0,
    pixel_weight=5.0,
    sigmoid_weight=3.0,
    feature_weight=2.0,
    loss_normalisation="running",
    pixel=FlowConfig(
        width=192, num_blocks=3, num_heads=4, patch=12, prediction="x", time_sampling="logit_normal", skip=True
    ),
    caption_length=64,
    caption_fraction=0.25,
    zero_shot_classes=tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS),
    optimizer=OptimizerConfig(name="muon", learning_rate=2e-3, weight_decay=0.01, warmup_steps=20, decay="linear"),
    batch_size=128,
    num_steps=400,
    num_held_out=1_000,
    save_every=100,
    precision="auto",
)
ENCODE = EncodeConfig(
    variants=(VariantConfig(resolution=ResolutionConfig(min_short_side=SIDE, max_long_side=SIDE)),),
    shards_per_unit=1,
    threads=1,
)
DETOKENIZER = DetokenizerConfig(
    resolutions=(ResolutionConfig(min_short_side=SIDE, max_long_side=SIDE),),
    backbone="dit",
    flow=FlowConfig(
        width=256, num_blocks=4, num_heads=4, patch=6, prediction="x", time_sampling="logit_normal", skip=True
    ),
    sampling_steps=4,
    guidance=1.0,
    optimizer=OptimizerConfig(name="muon", learning_rate=2e-3, weight_decay=0.01, warmup_steps=20, decay="linear"),
    batch_size=128,
    num_steps=300,
    max_images=8_000,
    save_every=100,
    precision="auto",
)
KINDS = ZeroShotTask(
    name="kinds",
    classes=tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS),
    match="names_one",
    templates=("a {}", "a photo of a {}", "a picture of a {}"),
)
TWO_OBJECTS = ZeroShotTask(
    name="two_objects",
    label="description",  # "a large red circle at the top left, a small blue square at the center"
    pattern="[^,]+, [^,]+",
    num_classes=300,
    templates=("{}",),
)
"""The harder task: which of 300 descriptions of two objects, with colours, sizes and places, is the image's?"""
EVALUATE_TOKENIZER = EvaluateTokenizerConfig(
    resolutions=(ResolutionConfig(min_short_side=SIDE, max_long_side=SIDE),),
    zero_shot=(KINDS, TWO_OBJECTS),
    linear_probe=LinearProbeConfig(task="kinds", num_images=4_000),
    photograph_resolution=ResolutionConfig(min_short_side=96, max_long_side=144),
    batch_size=128,
)

PAPER_MIXTURES = {
    "pretrain": MixtureConfig(),
    "continue": MixtureConfig(
        image_to_text=((0.0, 0.10),),
        text_to_image=((0.0, 0.55),),
        interleaved_video=((0.0, 0.15),),
        interleaved_web=((0.0, 0.15),),
    ),
    "finetune": MixtureConfig(
        image_to_text=((0.0, 0.05),),
        text_to_image=((0.0, 0.50),),
        interleaved_video=((0.0, 0.20),),
        interleaved_web=((0.0, 0.20),),
    ),
}
"""Table 1: text-only .05 throughout; the default is the pretraining column."""
FIFTH = ((0.0, 0.20),)
EVEN_MIXTURE = MixtureConfig(
    text_only=FIFTH, image_to_text=FIFTH, text_to_image=FIFTH, interleaved_video=FIFTH, interleaved_web=FIFTH
)
"""What `experiment` compares the paper's mixture with."""

PRETRAIN = StageConfig(
    stage="pretrain",
    mixture=PAPER_MIXTURES["pretrain"],
    steps=440,
    sequence_length=512,
    rows_per_step=8,
    rows_per_micro_batch=4,
    learning_rate=1e-3,
    muon_learning_rate=0.007,  # at .02, the default, pretraining stays at .69 of the questions and .53 of the prompts
    warmup_steps=40,
    optimizer="muon",
    code_initialisation="captions",
    kind_weights=KindWeights(question=5.0, caption=2.0),
    num_shapes=16,
    validate_every=200,
    validation_documents=60,
    checkpoint_every_steps=200,
    dtype="auto",
)
CONTINUE = replace(
    PRETRAIN,
    stage="continue",
    mixture=PAPER_MIXTURES["continue"],
    steps=330,
    learning_rate=7e-4,
    muon_learning_rate=0.005,
    warmup_steps=20,
    code_initialisation="mean",
)
FINETUNE = replace(
    CONTINUE, stage="finetune", mixture=PAPER_MIXTURES["finetune"], learning_rate=5e-4, muon_learning_rate=0.004, decay_fraction=1.0,
)  # fmt: skip

REWARD = RewardConfig(
    judge="toy-verifier/1",
    module="arm.toy.judge",
    text_to_image={"strict": 0.5, "score": 0.5},
    edit={"strict": 0.5, "score": 0.3, "preservation": 0.2},
    benchmarks={"text_to_image": ("text_to_image",), "edit": ("editing", "editing_with_source")},  # the verifier's, too
)
T2I = PolicyConfig(
    stage="t2i",
    reward=REWARD,
    steps=14,
    prompts_per_step=32,
    group_size=8,
    image_size=SIDE,
    temperature=0.7,
    top_k=0,
    learning_rate=1e-4,
    rollout_batch=128,
    learn_batch=64,
    render_steps=4,
    render_guidance=1.0,
    refill_rounds=0,
    checkpoint_every=7,
    samples_every=13,
    dtype="auto",
)
EDIT = replace(T2I, stage="edit", steps=10)
JOINT = replace(T2I, stage="joint", edit_share=0.5, steps=10)

EVALUATE = EvaluateConfig(
    checker="arm.toy.verifier",
    prompts_per_category=200,
    max_questions=300,
    max_edits=300,
    max_images=400,
    image_size=SIDE,
    sampling=SamplingConfig(temperature=0.5, guidance_text=1.0, guidance_image=1.0),
    edit_temperature=0.3,
    answer_tokens=8,
    num_threads=2,
    dtype="auto",
)
REGISTER = RegisterConfig(
    name="arm-toy",
    gates=(
        Gate(stage="reference", metric="real_images/strict", minimum=0.98),
        Gate(stage="reference", metric="zero_shot/accuracy", minimum=0.95),
        Gate(stage="reference", metric="reconstruction/strict", minimum=0.45),
        Gate(stage="finetuned", metric="text_to_image/mean", minimum=0.40),
        Gate(stage="t2i_policy", metric="text_to_image/mean", not_below="finetuned"),
    ),
)
TWO_RANKS = Compute(ranks=2, threads=1)

TOY = Recipe(
    name="toy",
    purpose="The demo: the whole road over a made-up world, within 20 minutes on two cores.",
    configs={
        "make-world": WorldConfig(),
        "train-teachers": TeacherConfig(),
        **IMPORTS,
        "extract-pairs": EXTRACT,
        "filter-pairs": FILTER,
        "download-images": DOWNLOAD,
        "curate-images": CURATE,
        "train-tokenizer": TOKENIZER,
        "tokenize-images": ENCODE,
        "train-detokenizer": DETOKENIZER,
        "train-model-pretrain": PRETRAIN,
        "train-model-continue": CONTINUE,
        "train-model-finetune": FINETUNE,
        "train-policy-t2i": T2I,
        "train-policy-edit": EDIT,
        "train-policy-joint": JOINT,
        "evaluate-model": EVALUATE,
        "register-model": REGISTER,
        "evaluate-tokenizer": EVALUATE_TOKENIZER,
    },
    compute={
        "tokenize-images": TWO_RANKS,
        **{f"train-model-{stage}": TWO_RANKS for stage in ("pretrain", "continue", "finetune")},
    },
    mixtures={"paper": PRETRAIN, "even": replace(PRETRAIN, mixture=EVEN_MIXTURE)},
    datasets=datasets(WorldConfig()),
)
