"""`tiny`: the toy recipe cut down to the plumbing, for tests: a minute or two, nothing is learned. Every number is ours."""

from dataclasses import replace
from typing import Any

from arm.data.config import SparkConfig
from arm.recipes.ablation import ALL_FOUR, CHECKED, Ablation
from arm.recipes.toy import (
    CONTINUE,
    CURATE,
    DETOKENIZER,
    DOWNLOAD,
    EDIT,
    EVALUATE,
    EVALUATE_TOKENIZER,
    EVEN_MIXTURE,
    EXTRACT,
    FILTER,
    FINETUNE,
    JOINT,
    PRETRAIN,
    REWARD,
    T2I,
    TOKENIZER,
    TOY,
)
from arm.recipes.toy_facts import datasets
from arm.tokenizer.config import LinearProbeConfig
from arm.toy.config import (
    AutoencoderTeacherConfig,
    LanguageTeacherConfig,
    SiglipTeacherConfig,
    TeacherConfig,
    WorldConfig,
)
from arm.tracking.config import Gate, RegisterConfig

ONE_CORE = SparkConfig(master="local[1]", driver_memory="512m", shuffle_partitions=1)
WORLD = WorldConfig(
    num_pages=24,
    num_images=120,
    num_captions=400,
    num_questions=160,
    num_edits=240,
    num_documents=60,
    num_videos=60,
    num_texts=120,
    num_prompts=48,
    num_edit_prompts=24,
    evaluation_prompts_per_category=4,
    evaluation_questions=16,
    evaluation_edits=16,
    evaluation_captions=48,
    samples_per_shard=200,
)
TEACHERS = TeacherConfig(
    num_scenes=1_000,
    siglip=SiglipTeacherConfig(
        width=32, num_vision_layers=2, num_text_layers=1, num_heads=2, num_steps=10, batch_size=32
    ),
    language_model=LanguageTeacherConfig(
        width=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_width=64,
        vocabulary_size=400,
        num_steps=10,
        batch_size=8,
    ),
    autoencoder=AutoencoderTeacherConfig(widths=(8, 8), latent_channels=4, num_steps=10),
)
SHORT: dict[str, Any] = {"batch_size": 16, "num_steps": 6, "log_every": 2, "save_every": 2}
STAGE: dict[str, Any] = {
    "steps": 6,
    "rows_per_step": 4,
    "rows_per_micro_batch": 2,
    "warmup_steps": 2,
    "validate_every": 100,
    "validation_documents": 8,
    "log_every": 2,
    "checkpoint_every_steps": 2,
}
POLICY: dict[str, Any] = {
    # an untrained model draws no object: only a part that differs between any two images gives it something to learn
    "reward": replace(
        REWARD,
        text_to_image={"strict": 0.4, "score": 0.4, "quality": 0.2},
        edit={"strict": 0.4, "score": 0.2, "preservation": 0.2, "quality": 0.2},
    ),
    "steps": 2,
    "prompts_per_step": 4,
    "group_size": 4,
    "rollout_batch": 16,
    "learn_batch": 16,
    "render_steps": 2,
    "checkpoint_every": 1,
    "samples_every": 1,
}
SMALL_TOKENIZER = replace(
    TOKENIZER,
    quantizer=replace(TOKENIZER.quantizer, levels=(2,) * 6, num_blocks=1, width=32, num_heads=2),
    pixel=replace(TOKENIZER.pixel, width=32, num_blocks=1, num_heads=2),
    caption_fraction=1.0,
    num_held_out=16,
    **SHORT,
)
SMALL_DETOKENIZER = replace(
    DETOKENIZER,
    flow=replace(DETOKENIZER.flow, width=32, num_blocks=1, num_heads=2),
    sampling_steps=2,
    max_images=200,
    **SHORT,
)
FEW = replace(
    EVALUATE,
    prompts_per_category=4,
    max_questions=12,
    max_edits=10,
    max_images=24,
    render_steps=2,
    items_per_file=16,
    batch_size=64,
    num_bootstraps=200,
    num_threads=1,
)
FEW_CLASSES = replace(
    EVALUATE_TOKENIZER,
    zero_shot=(EVALUATE_TOKENIZER.zero_shot[0], replace(EVALUATE_TOKENIZER.zero_shot[1], num_classes=20)),
    linear_probe=LinearProbeConfig(task="kinds", num_images=64),
    threads=1,
)

TINY = TOY.derive(
    "tiny",
    "Tests of the plumbing: the whole road in a minute or two on two cores; nothing is learned.",
    configs={
        "make-world": WORLD,
        "train-teachers": TEACHERS,
        "extract-pairs": replace(EXTRACT, spark=ONE_CORE),
        "filter-pairs": replace(FILTER, spark=ONE_CORE),
        "download-images": replace(DOWNLOAD, unit_rows=200, threads=8, spark=ONE_CORE),
        "curate-images": replace(
            CURATE,
            rules=(replace(CURATE.rules[0], min_similarity=None), *CURATE.rules[1:]),  # its scorer has learned nothing
            samples_per_shard=200,
            workers=1,
        ),
        "train-tokenizer": SMALL_TOKENIZER,
        "train-detokenizer": SMALL_DETOKENIZER,
        "train-model-pretrain": replace(PRETRAIN, **STAGE),
        "train-model-continue": replace(CONTINUE, **STAGE),
        "train-model-finetune": replace(FINETUNE, **STAGE),
        "train-policy-t2i": replace(T2I, **POLICY),
        "train-policy-edit": replace(EDIT, **POLICY),
        "train-policy-joint": replace(JOINT, **POLICY),
        "evaluate-model": FEW,
        "register-model": RegisterConfig(
            name="arm-tiny", gates=(Gate(stage="reference", metric="real_images/strict", minimum=0.9),)
        ),
        "evaluate-tokenizer": FEW_CLASSES,
    },
    mixtures={
        "paper": replace(PRETRAIN, **STAGE),
        "even": replace(PRETRAIN, mixture=EVEN_MIXTURE, **STAGE),
    },
    datasets=datasets(WORLD),
    ablation=Ablation(
        tokenizer=replace(SMALL_TOKENIZER, threads=1),
        detokenizer=replace(SMALL_DETOKENIZER, threads=1),
        evaluate_tokenizer=FEW_CLASSES,
        evaluate_model=replace(FEW, benchmarks=CHECKED),
        rows=("caption + pixel", ALL_FOUR),
        seeds=(0, 1),
        parallelism=2,
    ),
)
