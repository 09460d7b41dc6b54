"""`small`: the road with real weights on one machine of eight GPUs, with Qwen2.5-0.5B.

What is not named here is the paper's (`arm_7b`); what is named is ours.
"""

from dataclasses import replace
from typing import Any

from arm.data.config import ImportModelConfig
from arm.recipes.arm_7b import ARM_7B, CONTINUE, DATA, FINETUNE, ONE_GPU, POD, POLICIES, PRETRAIN, gpus
from arm.recipes.toy import EVEN_MIXTURE
from arm.tokenizer.config import DetokenizerConfig, EncodeConfig, TokenizerConfig
from arm.tracking.config import RegisterConfig

ONE_MACHINE: dict[str, Any] = {
    "rows_per_step": 32,
    "rows_per_micro_batch": 1,
    "sequence_length": 16_384,
    "variants": (),
}
STAGES = {
    "train-model-pretrain": replace(PRETRAIN, steps=20_000, **ONE_MACHINE),
    "train-model-continue": replace(CONTINUE, steps=20_000, **ONE_MACHINE),
    "train-model-finetune": replace(FINETUNE, steps=8_000, **ONE_MACHINE),
}

SMALL = ARM_7B.derive(
    "small",
    "One machine of eight GPUs: the paper's road with Qwen2.5-0.5B at 512 pixels.",
    configs={
        "import-model-language-model": ImportModelConfig(
            path="weights/Qwen2.5-0.5B", role="language_model", licence="Apache-2.0", name="Qwen/Qwen2.5-0.5B"
        ),
        "download-images": replace(DATA["download-images"], image_size=512),
        "train-tokenizer": TokenizerConfig(batch_size=2_048, micro_batch=64, num_steps=50_000),
        "tokenize-images": EncodeConfig(threads=8, decode_threads=12),
        "train-detokenizer": DetokenizerConfig(
            batch_size=256,
            micro_batch=4,
            encode_batch=16,
            activation_checkpointing=True,
            num_steps=50_000,
            precision="bfloat16_weights",
        ),
        **STAGES,
        **{step: replace(policy, image_size=512, prompts_per_step=16) for step, policy in POLICIES.items()},
        "evaluate-model": replace(ARM_7B.configs["evaluate-model"], image_size=512),
        "register-model": RegisterConfig(name="arm-small", refused_licences=("FLUX.1-dev-non-commercial",)),
    },
    compute={
        **ARM_7B.compute,
        **dict.fromkeys(DATA, POD),
        "tokenize-images": replace(ONE_GPU, ranks=8),
        **{step: gpus(8) for step in (*STAGES, *POLICIES, "train-tokenizer", "train-detokenizer")},
    },
    mixtures={
        "paper": STAGES["train-model-pretrain"],
        "even": replace(STAGES["train-model-pretrain"], mixture=EVEN_MIXTURE),
    },
)
