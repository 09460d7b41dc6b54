"""`small`: the road with real weights and open data on one machine of eight GPUs, with Qwen2.5-0.5B.

What is not named here is the paper's (`arm_7b`); what is named is ours. Sizes and licences of the data sets are those of
their cards as read in November 2026: read a licence before you train on it. `docs/08-small.md` says how to get them and
what to expect after a day, three days and a week.
"""

from dataclasses import replace
from typing import Any

from arm.data.config import ImportModelConfig, ImportSamplesConfig, ImportSource
from arm.recipes.arm_7b import ARM_7B, CONTINUE, DATA, FINETUNE, ONE_GPU, POD, POLICIES, PRETRAIN, gpus
from arm.recipes.facts import QWEN_05B, SANA_16B, SIGLIP2_SO400M, Crawl, DataSet
from arm.recipes.toy import EVEN_MIXTURE
from arm.tokenizer.config import DetokenizerConfig, EncodeConfig, TokenizerConfig, VariantConfig
from arm.tracking.config import RegisterConfig

SANA_LICENCE = "NVIDIA-NSCL-v2-custom"
"""Of Sana1.5's weights by their card: non-commercial, like FLUX.1-dev's."""
SOURCES = ImportSamplesConfig(
    sources=(
        ImportSource(
            name="captions",
            path="data/blip3o-long-caption/*.tar",
            format="webdataset",
            task="text_to_image",
            licence="unknown",  # check the licence: the card's, and those of the images
            num_samples=20_000_000,
        ),
        ImportSource(
            name="questions",
            path="data/llava-next/data/train-*.parquet",
            format="table",
            task="question",
            licence="Apache-2.0",
        ),
        ImportSource(
            name="edits",
            path="data/omniedit/data/train-*.parquet",
            format="table",
            task="edit",
            licence="MIT",
            columns={
                "id": "omni_edit_id",
                "source_image": "src_img",
                "instruction": "edited_prompt_list",
                "target_image": "edited_img",
            },
        ),
        ImportSource(name="pages", path="data/obelics", format="table", task="interleaved_web", licence="CC-BY-4.0"),
        ImportSource(
            name="videos",
            path="data/openvid",
            format="table",
            task="interleaved_video",
            licence="CC-BY-4.0",
            columns={"text": "caption"},
        ),
        ImportSource(
            name="texts",
            path="data/fineweb-edu/sample/10BT/*.parquet",
            format="table",
            task="text",
            licence="ODC-By-1.0",
        ),
    ),
    workers=64,
)
DATASETS = {
    "captions": DataSet(
        id="BLIP3o/BLIP3o-Pretrain-Long-Caption", num_samples=27_200_000, text_tokens=120,
        note="WebDataset tars of jpg and txt; nothing to do",
    ),
    "questions": DataSet(
        id="lmms-lab/LLaVA-NeXT-Data", licence="Apache-2.0", num_samples=779_289, gigabytes=92, text_tokens=200,
        answers=3, note="Parquet with its images; nothing to do",
    ),
    "edits": DataSet(
        id="TIGER-Lab/OmniEdit-Filtered-1.2M", licence="MIT", num_samples=1_200_000, gigabytes=2_978, images=2, text_tokens=20,
        note="Parquet with its images; nothing to do",
    ),
    "pages": DataSet(
        id="HuggingFaceM4/OBELICS", licence="CC-BY-4.0", num_samples=1_000_000, gigabytes=377, images=2.5,
        text_tokens=816, note="addresses only: let img2dataset fetch the images of 1M of its 141,047,697 pages into tars beside them",
    ),
    "videos": DataSet(
        id="nkp37/OpenVid-1M", licence="CC-BY-4.0", num_samples=1_019_957, gigabytes=7_000, images=6, text_tokens=60,
        sizes=((360, 640, 0.7), (720, 1_280, 0.3)), note="unpack its zips beside OpenVid-1M.csv",
    ),
    "texts": DataSet(
        id="HuggingFaceFW/fineweb-edu, sample-10BT", licence="ODC-By-1.0", num_samples=9_670_000, gigabytes=28, images=0,
        text_tokens=1_030, note="Parquet; nothing to do",
    ),
}  # fmt: skip
"""Tokens and images of a sample: OBELICS' from its card (353M images and 115B tokens on 141M pages); others ours."""

ONE_MACHINE: dict[str, Any] = {
    "rows_per_step": 32,
    "rows_per_micro_batch": 1,
    "sequence_length": 16_384,
    "variants": (),
    "loss_chunk": 8_192,
    "zero_stage": 1,
}
STAGES = {
    "train-model-pretrain": replace(PRETRAIN, steps=120_000, **ONE_MACHINE),
    "train-model-continue": replace(CONTINUE, steps=40_000, **ONE_MACHINE),
    "train-model-finetune": replace(FINETUNE, steps=10_000, **ONE_MACHINE),
}
SIZES = VariantConfig().resolution
"""What every image is tokenized at (EncodeConfig's own variant), so policies and evaluation read at it, too."""

SMALL = ARM_7B.derive(
    "small",
    "One machine of eight GPUs, a week: the paper's road with Qwen2.5-0.5B and open data at 512 pixels.",
    configs={
        "import-model-language-model": ImportModelConfig(
            path="weights/Qwen2.5-0.5B", role="language_model", licence="Apache-2.0", name="Qwen/Qwen2.5-0.5B"
        ),
        "import-model-autoencoder": ImportModelConfig(
            path="weights/SANA1.5_1.6B_1024px_diffusers/vae",
            role="autoencoder",
            licence=SANA_LICENCE,
            name="Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        ),
        "import-model-backbone": ImportModelConfig(  # FLUX.1-dev's 12B parameters do not fit eight GPUs of 80 GB
            path="weights/SANA1.5_1.6B_1024px_diffusers/transformer",
            role="backbone",
            licence=SANA_LICENCE,
            name="Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        ),
        "import-samples-training": SOURCES,
        "download-images": replace(DATA["download-images"], image_size=512),
        "curate-images": replace(DATA["curate-images"], workers=64),
        "train-tokenizer": TokenizerConfig(batch_size=2_048, micro_batch=8, num_steps=20_000),
        "tokenize-images": EncodeConfig(threads=8, decode_threads=12),
        "train-detokenizer": DetokenizerConfig(
            backbone="sana",
            batch_size=256,
            micro_batch=8,
            encode_batch=16,
            activation_checkpointing=True,
            num_steps=50_000,
            precision="bfloat16_weights",
        ),
        **STAGES,
        **{
            step: replace(
                policy,
                image_size=512,
                edit_resolution=policy.edit_resolution and SIZES,
                prompts_per_step=16,
                rollout_batch=16,
            )
            for step, policy in POLICIES.items()
        },
        "evaluate-model": replace(
            ARM_7B.configs["evaluate-model"], image_size=512, read_resolution=SIZES, edit_resolution=SIZES
        ),
        "register-model": RegisterConfig(name="arm-small", refused_licences=(SANA_LICENCE,)),
    },
    compute={
        **ARM_7B.compute,
        **dict.fromkeys(DATA, replace(POD, cpu="64", memory="256Gi")),
        "tokenize-images": replace(ONE_GPU, ranks=8),
        **{step: gpus(8) for step in (*STAGES, *POLICIES, "train-tokenizer", "train-detokenizer")},
    },
    mixtures={
        "paper": STAGES["train-model-pretrain"],
        "even": replace(STAGES["train-model-pretrain"], mixture=EVEN_MIXTURE),
    },
    models={"language_model": QWEN_05B, "encoder": SIGLIP2_SO400M, "backbone": SANA_16B},
    datasets=DATASETS,
    crawl=Crawl(num_files=100),
    gpu="h100",
)
