"""GPUs and rates that a plan assumes, each with its source; every assumption is printed with the plan.

seconds of a step = FLOPs / (ranks x peak x MFU)      MFU: what others reach, not what a datasheet promises
"""

import re
from dataclasses import dataclass

from arm.config import suggest
from arm.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One accelerator: dense bfloat16 peak, memory and its bandwidth, from the maker's datasheet."""

    name: str
    peak_flops: float
    memory: float
    bandwidth: float


GPUS = {
    "a100": Gpu(name="A100 80 GB", peak_flops=312e12, memory=80e9, bandwidth=2.0e12),
    "h100": Gpu(name="H100 80 GB", peak_flops=989e12, memory=80e9, bandwidth=3.35e12),
    "h200": Gpu(name="H200 141 GB", peak_flops=989e12, memory=141e9, bandwidth=4.8e12),
    "b200": Gpu(name="B200 180 GB", peak_flops=2_250e12, memory=180e9, bandwidth=7.7e12),
}
USABLE_MEMORY = 0.92
"""Share of a GPU's memory that a plan may fill: context, NCCL and fragmentation take the rest (ours)."""
TRAIN_MFU = 0.30
"""Training at 1B parameters and more (ours: torchtitan's 8B runs eager at about 32%, llm-foundry's 7B at 28.6% at 64K)."""
SMALL_TRAIN_MFU = 0.20
"""Training below 1B parameters (ours: small matrices; nobody publishes better for so large a head)."""
FORWARD_MFU = 0.35
"""Encoding and rendering: forward passes alone (ours)."""
BANDWIDTH_SHARE = 0.6
"""Share of the memory bandwidth that decoding one token at a time reaches (ours)."""
LAUNCH_SECONDS_PER_LAYER = 4e-4
"""Least time of a layer in decoding: some 40 kernels of 10 microseconds, eager (ours)."""
PRICE_PER_GPU_HOUR = 2.5
"""Dollars (ours; say yours with --price-per-gpu-hour)."""
COST_PER_JUDGEMENT = 0.01
"""Dollars for one image (ours; say yours with --cost-per-judgement)."""
JUDGE_SECONDS = 4.0
"""Median time of a judge's answer (ours; say yours with --judge-seconds)."""
IMAGES_PER_CORE_SECOND = 59.0
"""Downloads of one vCPU: published by img2dataset for ten machines."""
CURATED_PER_CORE_SECOND = 20.0
"""Images that a core decodes, hashes and writes in curate-images (ours)."""
CORE_FLOPS = 1e11
"""A core in float32 (ours): what scoring images with SigLIP2 on CPUs takes."""
LONGEST_SECONDS = 365 * 86_400
"""A job that would take longer is refused (ours)."""

PUBLISHED = (
    ("llm-foundry 7B, 2K tokens, 512 H100", 9_670, 0.42),
    ("llm-foundry 7B, 64K tokens, H100", 1_956, 0.286),
    ("torchtitan 8B, 8K tokens, H100, eager", 5_762, 0.318),
    ("torchtitan 8B, 8K tokens, H100, compiled", 6_667, 0.368),
)
"""(Who, tokens a second and GPU, MFU by 6·N·T + 6·L·d·Σlen²); the last two MFUs are worked out here."""


@dataclass(frozen=True, slots=True)
class CpuRate:
    """What two CPU cores did at toy geometry: seconds to start, then units a second."""

    startup: float
    per_second: float
    unit: str
    measured: str


LOG = "docs/log.md, 2026-11-22, two EPYC cores"
CPU_RATES = {
    "make-world": CpuRate(3, 4_000, "samples", f"{LOG}: 47,000 samples in 15 s"),
    "train-teachers": CpuRate(8, 370, "samples", f"{LOG}: 30,400 samples of three teachers in 91 s"),
    "import-samples": CpuRate(1, 16_000, "samples", f"{LOG}: 47,000 samples in 6 s"),
    "extract-pairs": CpuRate(8, 4_000, "images", f"{LOG}: 4,200 images in 9 s"),
    "filter-pairs": CpuRate(9, 2_000, "images", f"{LOG}: 4,200 images in 11 s"),
    "download-images": CpuRate(8, 380, "images", f"{LOG}: 4,200 images in 19 s"),
    "curate-images": CpuRate(8, 5_000, "images", f"{LOG}: 60,990 images in 20 s"),
    "train-tokenizer": CpuRate(10, 390, "images", f"{LOG}: 51,200 images in 141 s"),
    "tokenize-images": CpuRate(8, 3_800, "images", f"{LOG}: 60,990 images in 24 s"),
    "train-detokenizer": CpuRate(10, 570, "images", f"{LOG}: 38,400 images in 77 s"),
    "train-model": CpuRate(8, 12_000, "tokens", f"{LOG}: 1.80M tokens in 156 s"),
    "train-policy": CpuRate(8, 120, "rollouts", f"{LOG}: 14 steps of 256 rollouts in 38 s"),
    "evaluate-model": CpuRate(8, 190, "items", f"{LOG}: 64 s for 1,800 items at six stages"),
}
"""Job -> its rate on the toy recipe; at another geometry it is an order of magnitude, no more."""
STARTED_SECONDS = 8.0
"""A small job on two cores: imports, and Spark's start (the same log)."""


def find_gpu(name: str) -> Gpu:
    """The GPU of that name; an unknown one is a UserError."""
    if name not in GPUS:
        raise UserError(f"There is no GPU {name!r} in the plan's table; {suggest(name, list(GPUS))}")
    return GPUS[name]


def cpu_count(text: str) -> float:
    """A pod's CPUs, in Kubernetes units: '1500m' -> 1.5."""
    if not re.fullmatch(r"\d+(\.\d+)?|\d+m", text):
        raise UserError(f"Resources.cpu is {text!r}; give a number of CPUs, such as 4, 2.5 or 500m.")
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def memory_bytes(text: str) -> float:
    """A pod's memory in bytes: '8Gi' -> 8,589,934,592."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 1e6, "G": 1e9, "T": 1e12}
    for unit, scale in units.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * scale
    return float(text)
