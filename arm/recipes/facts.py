"""What no config of a job says and a plan must know: sizes of models, data sets and a crawl, with their sources.

    LanguageGeometry(layers=28, width=3_584, …)     from a checkpoint's config.json
    DataSet(id="TIGER-Lab/OmniEdit-Filtered-1.2M", licence="MIT", num_samples=1_200_000, …)

Nothing here enters a job: `arm plan` alone reads it. Figures that are not of the named source are ours.
"""

from dataclasses import dataclass

Sizes = tuple[tuple[int, int, float], ...]
"""(height, width, share) of images as they are found."""
WEB_SIZES: Sizes = (
    (1_024, 1_024, 0.3),
    (768, 1_024, 0.25),
    (1_024, 768, 0.2),
    (576, 1_024, 0.15),
    (512, 683, 0.1),
)
"""Images of the open web after a filter of 512 pixels; ours, and only the aspect ratios matter much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageGeometry:
    """A Qwen2-class language model."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int
    """Rows of the embedding, spare rows included."""
    tied: bool = False
    """Whether head and embedding are one matrix; training here unties them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionGeometry:
    """A SigLIP-class image encoder, with its text tower."""

    layers: int
    width: int
    mlp_width: int
    patch: int
    text_parameters: int = 0
    """The text tower, which the sigmoid loss needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionGeometry:
    """A latent transformer that renders codes, with its autoencoder."""

    parameters: int
    blocks: int
    width: int
    pixels_per_token: int
    """Side of the square of pixels that one token covers."""
    codes_as_tokens: bool = True
    """Whether the codes stand beside the latents in the same sequence (FLUX), or are only attended to (Sana)."""
    autoencoder_parameters: int = 84_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set as it is found: who publishes it, how much there is, and what a sample holds on average."""

    id: str = ""
    """Where it is published; empty: your own."""
    licence: str = "check the licence"
    num_samples: int | None = None
    """None: yours to say; the plan then says how many a stage reads."""
    gigabytes: float | None = None
    """To download, as published; None: not stated."""
    note: str = ""
    """What has to be done before it can be imported."""
    text_tokens: float = 100.0
    """Text tokens of a sample (ours unless its card says)."""
    images: float = 1
    """Images of a sample (ours unless its card says)."""
    answers: float = 1
    """Answers of a sample with questions."""
    sizes: Sizes = WEB_SIZES


@dataclass(frozen=True, slots=True, kw_only=True)
class Crawl:
    """A crawl to extract pairs from."""

    num_files: int
    """WAT files."""
    seconds_per_file: float = 50.0
    """Of one core; cc2dataset's figure, ours is not slower."""
    gigabytes_per_file: float = 0.35
    """Compressed, as Common Crawl serves it (ours, rounded)."""
    pairs_per_file: int = 40_000
    """Images with a caption (ours: about 20 MB of pairs a file, 500 bytes each)."""
    kept_by_filter: float = 0.2
    """Share of pairs that the rules keep (ours)."""
    downloaded: float = 0.6
    """Share of addresses that still give an image (ours)."""
    kept_by_curation: float = 0.3
    """Share of images that curation keeps (DataComp keeps the best 30%)."""


QWEN_7B = LanguageGeometry(layers=28, width=3_584, heads=28, kv_heads=4, mlp_width=18_944, vocabulary=152_064)
"""Qwen/Qwen2.5-7B, its config.json."""
QWEN_05B = LanguageGeometry(layers=24, width=896, heads=14, kv_heads=2, mlp_width=4_864, vocabulary=151_936, tied=True)
"""Qwen/Qwen2.5-0.5B, its config.json."""
SIGLIP2_SO400M = VisionGeometry(layers=27, width=1_152, mlp_width=4_304, patch=16, text_parameters=708_000_000)
"""google/siglip2-so400m-patch16-512, its config.json; the text tower has a vocabulary of 256,000."""
FLUX_DEV = DiffusionGeometry(parameters=11_900_000_000, blocks=57, width=3_072, pixels_per_token=16)
"""black-forest-labs/FLUX.1-dev: 19 + 38 blocks."""
SANA_16B = DiffusionGeometry(
    parameters=1_600_000_000, blocks=20, width=2_240, pixels_per_token=32, codes_as_tokens=False,
    autoencoder_parameters=312_000_000,
)  # fmt: skip
"""Sana1.5-1.6B on AutoencoderDC: one token covers 32 x 32 pixels."""
