"""`arm_7b`: the paper's run (arXiv 2606.11188). Each value cites its table or section, or says `ours`.

Weights and data sets are read from the paths below; put them there, or derive a recipe with your own paths.
"""

from dataclasses import replace
from typing import Any

from arm.data.config import (
    CurateConfig,
    DownloadConfig,
    ExtractConfig,
    FilterConfig,
    ImportModelConfig,
    ImportSamplesConfig,
    ImportSource,
    SourceRule,
    SparkConfig,
)
from arm.evaluation.config import EvaluateConfig
from arm.recipes.facts import FLUX_DEV, QWEN_7B, SIGLIP2_SO400M, Crawl, DataSet
from arm.recipes.recipe import Compute, Recipe
from arm.recipes.toy import EVEN_MIXTURE, PAPER_MIXTURES
from arm.records import TASKS
from arm.rl.config import PolicyConfig, RewardConfig
from arm.tokenizer.config import (
    DetokenizerConfig,
    EncodeConfig,
    EvaluateTokenizerConfig,
    ResolutionConfig,
    TokenizerConfig,
    VariantConfig,
    ZeroShotTask,
)
from arm.tracking.config import RegisterConfig
from arm.training.config import StageConfig

CLUSTER_SPARK = SparkConfig(master="", driver_memory="8g", shuffle_partitions=2_000, java_options="")  # ours
IMPORTS: dict[str, Any] = {
    "import-model-encoder": ImportModelConfig(
        path="weights/siglip2-so400m-patch16-512",  # section 3.1; the id is inferred from "SigLIP2-SO400M-512"
        role="encoder",
        licence="Apache-2.0",
        name="google/siglip2-so400m-patch16-512",
    ),
    "import-model-language-model": ImportModelConfig(
        path="weights/Qwen2.5-7B",  # section 3.2; the paper's caption loss uses the 0.5B model of the family
        role="language_model",
        licence="Apache-2.0",
        name="Qwen/Qwen2.5-7B",
    ),
    "import-model-autoencoder": ImportModelConfig(
        path="weights/FLUX.1-dev/vae",  # section 3.1
        role="autoencoder",
        licence="FLUX.1-dev-non-commercial",
        name="black-forest-labs/FLUX.1-dev",
    ),
    "import-model-backbone": ImportModelConfig(
        path="weights/FLUX.1-dev/transformer",  # section 3.1: the detokenizer starts from it; Sana is the permissive choice
        role="backbone",
        licence="FLUX.1-dev-non-commercial",
        name="black-forest-labs/FLUX.1-dev",
    ),
    "import-samples-training": ImportSamplesConfig(  # ours: the paper's data sets are not public
        sources=(
            ImportSource(name="captions", path="data/captions/*.tar", format="webdataset", task="text_to_image"),
            ImportSource(name="questions", path="data/questions", format="json", task="question"),
            ImportSource(name="edits", path="data/edits", format="table", task="edit"),
            ImportSource(name="pages", path="data/pages", format="samples", task="interleaved_web"),
            ImportSource(name="videos", path="data/videos", format="samples", task="interleaved_video"),
            ImportSource(name="texts", path="data/texts", format="json", task="text"),
        )
    ),
    "import-samples-prompts": ImportSamplesConfig(  # ours
        sources=(
            ImportSource(name="prompts-t2i", path="data/prompts/t2i", format="samples", task="text_to_image"),
            ImportSource(name="prompts-edits", path="data/prompts/edits", format="samples", task="edit"),
        )
    ),
    "import-samples-evaluation": ImportSamplesConfig(  # ours: benchmarks as samples
        sources=(
            ImportSource(
                name="evaluation-prompts", path="data/evaluation/prompts", format="samples", task="text_to_image"
            ),
            ImportSource(
                name="evaluation-questions", path="data/evaluation/questions", format="samples", task="question"
            ),
            ImportSource(name="evaluation-edits", path="data/evaluation/edits", format="samples", task="edit"),
            ImportSource(name="evaluation-captions", path="data/evaluation/captions", format="samples", task="caption"),
        )
    ),
}
DATA: dict[str, Any] = {
    "extract-pairs": ExtractConfig(paths=("data/crawl/*.warc.wat.gz",), spark=CLUSTER_SPARK),  # ours
    "filter-pairs": FilterConfig(spark=CLUSTER_SPARK),  # COYO-700M's bounds
    "download-images": DownloadConfig(  # ours
        image_size=1_024, encode_quality=95, min_image_side=200, threads=64, spark=CLUSTER_SPARK
    ),
    "curate-images": CurateConfig(  # ours
        workers=16,
        rules=(  # no min_similarity: SigLIP2 scores on CPUs, some 9 s an image and core (`arm plan`)
            SourceRule(source="crawl", min_side=512, max_aspect=3.0, min_entropy=3.0, min_sharpness=20.0),
            SourceRule(source="*", min_side=200, max_aspect=3.0, near_duplicates=False),
        ),
    ),
}


def sides(short: int, long: int) -> ResolutionConfig:
    """Table 1's (min short side, max long side)."""
    return ResolutionConfig(min_short_side=short, max_long_side=long)


def variant(name: str, resolution: ResolutionConfig, *tasks: str) -> VariantConfig:
    """A variant that holds some tasks."""
    return VariantConfig(name=name, resolution=resolution, tasks=tasks)


READ_SIZES, EDIT_SIZES = sides(256, 976), sides(512, 1_024)
"""What questions and edits are finetuned at: policies and evaluation read images at the same sizes."""
ENCODE = EncodeConfig(  # Table 1's resolutions; understanding is ours
    variants=(
        variant("understanding", READ_SIZES, *(task for task in TASKS if task not in ("text_to_image", "edit"))),
        variant("images-512", sides(256, 512), "text_to_image"),
        variant("images-1024", sides(512, 1_024), "text_to_image"),
        variant("edits-256-980", sides(256, 980), "edit"),
        variant("edits-512-980", sides(512, 980), "edit"),
        variant("edits-1024", EDIT_SIZES, "edit"),
    ),
    threads=8,
    decode_threads=12,
)
FITTING: dict[str, Any] = {
    "activation_checkpointing": True,
    "zero_stage": 2,
    "loss_chunk": 2_048,
    "gradient_dtype": "float32",  # ours, for precision: as in Megatron-LM; 1.1 GB a rank
}
"""Ours: with these a row of 80K tokens fits a GPU of 80 GB, and two do without sequence parallelism (`arm plan`)."""
PRETRAIN = StageConfig(  # Table 1, PT
    stage="pretrain",
    mixture=PAPER_MIXTURES["pretrain"],  # Table 1: .05, .10, .70, .10, .05
    variants=("understanding", "images-512", "edits-256-980"),  # Table 1: (256, 512) and (256, 980)
    steps=100_000,  # Table 1: 100K
    sequence_length=81_920,  # Table 1: 80K
    rows_per_step=400,  # ours: 2.5T tokens over 100K steps of 80K rows need about 300; two rows for each of 200 GPUs
    learning_rate=2e-4,  # Table 1, constant
    warmup_steps=2_000,  # Table 1
    weight_decay=0.0,  # Table 1
    gradient_clip=1.0,  # Table 1
    betas=(0.9, 0.95),  # Table 1
    loss_on="openings",  # ours: free writing needs it
    **FITTING,
)
CONTINUE = StageConfig(  # Table 1, CT
    stage="continue",
    mixture=PAPER_MIXTURES["continue"],  # Table 1: .05, .10, .55, .15, .15
    variants=("understanding", "images-1024", "edits-512-980"),  # Table 1: (512, 1024) and (512, 980)
    steps=100_000,  # Table 1: 100K
    sequence_length=81_920,  # Table 1: 80K
    rows_per_step=320,  # ours: two rows for each of 160 GPUs
    learning_rate=2e-4,  # Table 1, constant
    warmup_steps=2_000,  # Table 1
    weight_decay=0.0,  # Table 1
    gradient_clip=1.0,  # Table 1
    betas=(0.9, 0.95),  # Table 1
    loss_on="openings",  # ours: free writing needs it
    **FITTING,
)
FINETUNE = StageConfig(  # Table 1, SFT
    stage="finetune",
    mixture=PAPER_MIXTURES["finetune"],  # Table 1: .05, .05, .50, .20, .20
    variants=("understanding", "images-1024", "edits-1024"),  # Table 1: (512, 1024) for both
    steps=40_000,  # Table 1: 40K
    sequence_length=81_920,  # Table 1: 80K
    rows_per_step=80,  # ours: one row for each of 80 GPUs, 0.26T tokens; Table 1's "0.2B" is surely 0.2T
    learning_rate=5e-5,  # Table 1, constant
    warmup_steps=0,  # Table 1: none
    weight_decay=0.0,  # Table 1
    gradient_clip=1.0,  # Table 1
    betas=(0.9, 0.95),  # Table 1
    loss_on="openings",  # ours: free writing needs it
    **FITTING,
)

T2I_JUDGE = RewardConfig(judge="o3/appearance-attributes-relations/1")  # section 3.3: GPT-o3
EDIT_WEIGHTS = {"instruction": 0.4, "preservation": 0.4, "quality": 0.2}  # ours
EDIT_JUDGE = RewardConfig(judge="gpt-4.1/instruction-preservation-quality/1", edit=EDIT_WEIGHTS)  # section 3.3
JOINT_JUDGE = RewardConfig(judge="mixed/1", edit=EDIT_WEIGHTS)  # section 3.3: mixed
AT_ONCE = 8  # ours: images that are drawn and rendered together; the autoencoder needs 4 GB for each (`arm plan`)
POLICIES = {
    "train-policy-t2i": PolicyConfig(stage="t2i", reward=T2I_JUDGE, rollout_batch=AT_ONCE),  # Table 2: the defaults
    "train-policy-edit": PolicyConfig(  # Table 2
        stage="edit",
        reward=EDIT_JUDGE,
        steps=100,
        prompts_per_step=40,
        learning_rate=5e-5,
        temperature=1.0,
        edit_resolution=EDIT_SIZES,
        rollout_batch=AT_ONCE,
    ),
    "train-policy-joint": PolicyConfig(  # Table 2; the share of edits is ours
        stage="joint",
        reward=JOINT_JUDGE,
        edit_share=0.5,
        steps=200,
        prompts_per_step=40,
        learning_rate=5e-5,
        temperature=1.0,
        edit_resolution=EDIT_SIZES,
        rollout_batch=AT_ONCE,
    ),
}


def gpus(ranks: int) -> Compute:
    """So many GPUs, one a rank, with the CPUs and memory that a pod of eight needs (ours)."""
    return Compute(ranks=ranks, threads=8, cpu="96", memory="1500Gi", gpus=1)


VIDEO_SIZES = ((360, 640, 0.7), (720, 1_280, 0.3))
DATASETS = {  # ours: the paper's are not public; sizes are yours, so a plan says how many samples the stages read
    "captions": DataSet(text_tokens=120),
    "questions": DataSet(text_tokens=150, answers=3),
    "edits": DataSet(images=2, text_tokens=20),
    "pages": DataSet(images=2.5, text_tokens=816),  # OBELICS: 353M images and 115B tokens on 141M pages
    "videos": DataSet(images=6, text_tokens=60, sizes=VIDEO_SIZES),
    "texts": DataSet(images=0, text_tokens=1_000),
}
CRAWL = Crawl(num_files=90_000)  # ours: one monthly crawl of Common Crawl

IMAGENET = ZeroShotTask(
    name="imagenet",
    classes_file="data/imagenet/classes.txt",
    label="folder",
    templates_file="data/imagenet/templates.txt",
)
ONE_GPU = Compute(threads=8, cpu="16", memory="128Gi", gpus=1)  # ours
POD = Compute(cpu="16", memory="64Gi", threads=16)
ARM_7B = Recipe(
    name="arm_7b",
    purpose="The paper's run: Qwen2.5-7B, 65,536 codes, 200 GPUs for pretraining.",
    configs={
        **IMPORTS,
        **DATA,
        "train-tokenizer": TokenizerConfig(micro_batch=8),  # section 3.1 and 4.1: the defaults; the micro-batch is ours
        "tokenize-images": ENCODE,
        "train-detokenizer": DetokenizerConfig(  # section 3.1 and 4.1: FLUX.1-dev; its training recipe is ours
            micro_batch=4, encode_batch=16, activation_checkpointing=True, precision="bfloat16_weights"
        ),
        "train-model-pretrain": PRETRAIN,
        "train-model-continue": CONTINUE,
        "train-model-finetune": FINETUNE,
        **POLICIES,
        "evaluate-model": EvaluateConfig(
            benchmarks=("understanding",),  # ours: the others need a checker
            image_size=1_024,  # section 4.1
            read_resolution=READ_SIZES,
            edit_resolution=EDIT_SIZES,
            max_questions=100_000,
            max_images=5_000,
            max_edits=1_212,
        ),
        "register-model": RegisterConfig(  # ours: leave the refusal out for a non-commercial release
            name="arm-7b", refused_licences=("FLUX.1-dev-non-commercial",)
        ),
        "evaluate-tokenizer": EvaluateTokenizerConfig(
            folder="data/imagenet/val",  # section 4.1's benchmark; the folder, names and templates are the user's
            zero_shot=(IMAGENET,),
            threads=8,
        ),
    },
    compute={
        **dict.fromkeys((*IMPORTS, *DATA, "register-model"), POD),
        "train-tokenizer": gpus(64),  # ours: 512 pairs a GPU of the paper's 32,768
        "train-detokenizer": gpus(64),  # ours
        "tokenize-images": replace(ONE_GPU, ranks=64),  # ours: units are independent, a pod each
        "train-model-pretrain": gpus(200),  # Table 1
        "train-model-continue": gpus(160),  # Table 1
        "train-model-finetune": gpus(80),  # Table 1
        "train-policy-t2i": gpus(8),  # Table 2
        "train-policy-edit": gpus(40),  # Table 2
        "train-policy-joint": gpus(40),  # Table 2
        "evaluate-model": ONE_GPU,
        "evaluate-tokenizer": ONE_GPU,
    },
    mixtures={
        "paper": PRETRAIN,
        "even": replace(PRETRAIN, mixture=EVEN_MIXTURE),
    },
    models={"language_model": QWEN_7B, "encoder": SIGLIP2_SO400M, "backbone": FLUX_DEV},
    datasets=DATASETS,
    crawl=CRAWL,
    gpu="b200",  # ours: the paper names none; edits of 1,024 pixels in RL, as built, need more than 141 GB
)
