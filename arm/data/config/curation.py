"""Config of curate-images."""

import re
from dataclasses import dataclass
from typing import Literal

from arm.config import operational
from arm.data.config.shared import SparkConfig
from arm.errors import UserError

HashKind = Literal["md5", "sha256", "pdq", "url"]
"""What the lines of a hash list are."""


@dataclass(frozen=True, kw_only=True)
class HashList:
    """A list of hashes of images that nobody may have: one a line, hexadecimal; what follows a comma or space is ignored."""

    kind: HashKind
    """md5 or sha256 of the file, as it was found or as it is stored; PDQ of the pixels; `url`: an address, or its sha256."""
    path: str
    """A file, a folder or a glob, local or under s3://; `.gz` is unpacked."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Layers on the scorer's image embedding that give one number: aesthetic, NSFW, watermark."""

    name: str
    """Name of the score, and of the reason when a bound on it is broken."""
    path: str
    """A safetensors file: `<layer>.weight` and `<layer>.bias` in the order of the layers, the last with one output."""
    activation: Literal["none", "relu", "gelu"] = "none"
    """Between the layers; LAION's aesthetic predictor has none."""
    sigmoid: bool = False
    """Whether the output becomes a probability."""
    normalise: bool = True
    """Whether the embedding is brought to length 1 first, as LAION's heads want it."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UserError(f"HeadConfig.name is {self.name!r}; use lower-case letters, digits and _.")


@dataclass(frozen=True, kw_only=True)
class ScoreBound:
    """Bounds of one head's score; whoever lies outside is dropped under the score's name."""

    score: str
    """Name of a head."""
    minimum: float | None = None
    """Smallest value that is kept."""
    maximum: float | None = None
    """Largest value that is kept."""


@dataclass(frozen=True, kw_only=True)
class SourceRule:
    """Bounds of one source (or `*` for all others) in curate-images; None switches a bound off."""

    source: str = "*"
    """Name of the source, as in Sample.source."""
    min_side: int | None = None
    """Shortest side of the image as it was found, pixels: 200 for understanding, 512 for generation."""
    max_aspect: float | None = 3.0
    """Longest side over shortest."""
    min_entropy: float | None = None
    """Entropy of the grey values, bits: blank images have 0."""
    min_sharpness: float | None = None
    """Variance of the Laplacian of the grey values: blurred images have little."""
    max_text_area: float | None = None
    """Share of the image that looks like lines of text, 0 to 1."""
    min_similarity: float | None = None
    """Cosine of SigLIP's image and caption embeddings; needs the input `scorer`."""
    scores: tuple[ScoreBound, ...] = ()
    """Bounds of the heads' scores; need the input `scorer`."""
    near_duplicates: bool = True
    """Drop all but the best of images that look alike; otherwise only exact copies."""


@dataclass(frozen=True, kw_only=True)
class RecaptionConfig:
    """New captions from an OpenAI-compatible endpoint, which ARM_CAPTION_ENDPOINT and ARM_CAPTION_KEY name."""

    model: str
    """Name of the model, as the endpoint knows it."""
    sources: tuple[str, ...]
    """Sources whose captioned images get new captions."""
    prompt: str = "Describe the image in one or two factual sentences."
    """What is asked; `{caption}` stands for the old caption."""
    max_tokens: int = 256
    """Longest reply; one that is cut off is a failure."""
    min_characters: int = 5
    """A shorter reply is a failure."""
    max_characters: int = 1_000
    """A longer one, too."""
    max_failed_share: float = 0.1
    """The job fails when more of the images than this got no caption; the answers stay in the cache."""
    cache: str = operational("")
    """A SQLite file on this machine with the replies so far; empty: one that lives as long as the run is unfinished."""
    attempts: int = operational(5)
    """Times that one image is asked for, when the endpoint is busy or silent."""
    concurrency: int = operational(8)
    """Images asked for at once."""
    timeout_seconds: float = operational(120.0)
    """Longest wait for a reply."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("RecaptionConfig.sources is empty; name the sources whose images get new captions.")
        if self.attempts < 1 or self.concurrency < 1:
            raise UserError("RecaptionConfig.attempts and concurrency must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """SemDeDup (Abbas et al., 2023, arXiv 2303.09540): of images that mean the same only the best is kept."""

    epsilon: float = 0.05
    """Images of one cluster whose embeddings have a cosine of 1 - epsilon or more mean the same. Ours: it depends on the
    scorer and on how much is to go; the paper sets it by the share that is kept."""
    images_per_cluster: int = 10_000
    """Images of a cluster, on average: k-means makes one cluster for so many. The paper: 440 million in 50,000."""
    fit_images: int = 262_144
    """Images that the centres are found on, at most, drawn by uid and seed; their embeddings are in memory."""
    rounds: int = 20
    """Rounds of k-means, at most."""
    seed: int = 0
    """Which images the centres start from."""

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1:
            raise UserError(f"SemanticConfig.epsilon is {self.epsilon}; give more than 0 and less than 1.")
        if min(self.images_per_cluster, self.fit_images, self.rounds) < 1:
            raise UserError("SemanticConfig.images_per_cluster, fit_images and rounds must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """curate-images: scores, duplicates, hash lists, contamination, final shards."""

    rules: tuple[SourceRule, ...] = (SourceRule(),)
    """The first rule whose source fits decides."""
    hash_lists: tuple[HashList, ...] = ()
    """Whoever is on one is dropped (`hash_list`) before anything else is asked, and written down under quarantine/."""
    hash_list_distance: int = 31
    """Bits of 256 in which a PDQ hash may differ from a listed one; 0 to 31, none within it is missed. Meta: 31."""
    heads: tuple[HeadConfig, ...] = ()
    """Scores by plug-in weights; need the input `scorer`."""
    near_distance: int = 31
    """PDQ hashes (256 bits) that differ in at most so many bits count as the same image. Meta: 31."""
    verify_difference: float = 24.0
    """Images with near hashes are verified: the largest difference between their 12 × 12 thumbnails, levels 0-255. Ours."""
    max_bucket: int = 10_000
    """More images than this that share 32 bits of their hashes, in one place, are `popular_hash`: logos, placeholders."""
    semantic: SemanticConfig | None = None
    """Also drop images that mean the same as a better one of this run; needs the input `scorer`. None: off."""
    evaluation_distance: int = 4
    """64-bit hashes that differ from an evaluation image's in at most so many bits contaminate; 0: the same hash."""
    recaption: RecaptionConfig | None = None
    """New captions for what is kept; None keeps the captions."""
    scorer_path: str = "model"
    """Folder of the SigLIP or CLIP checkpoint inside the input `scorer`."""
    scorer_batch: int = 256
    """Images scored at once: part of the identity, because rounding depends on it."""
    samples_per_shard: int = 10_000
    """Samples of one final shard, at most."""
    shard_bytes: int = 1 << 29
    """A final shard is closed when it holds so many bytes of images and texts: 512 MiB."""
    workers: int = operational(2)
    """Processes that decode and score."""
    spark_above: int = operational(5_000_000)
    """More images than this are compared on Spark, fewer in memory (0.4 KB each): the result is the same."""
    spark: SparkConfig = operational(SparkConfig(driver_memory="4g", shuffle_partitions=32))
    """How Spark runs."""

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= 64:
            raise UserError(f"CurateConfig.near_distance is {self.near_distance}; give 0 to 64 bits of PDQ's 256.")
        if not 0 <= self.evaluation_distance <= 7:
            raise UserError(f"CurateConfig.evaluation_distance is {self.evaluation_distance}; give 0 to 7 bits of 64.")
        if not 0 <= self.hash_list_distance <= 31:
            raise UserError(f"CurateConfig.hash_list_distance is {self.hash_list_distance}; give 0 to 31 bits.")
        if min(self.samples_per_shard, self.shard_bytes, self.workers, self.max_bucket) < 1:
            raise UserError("CurateConfig.samples_per_shard, shard_bytes, max_bucket and workers must be at least 1.")
        if not self.rules or self.rules[-1].source != "*":
            raise UserError("CurateConfig.rules must end with a rule for the source '*', which takes all others.")
        names = {head.name for head in self.heads}
        if len(names) < len(self.heads):
            raise UserError("CurateConfig.heads names a score twice; give each head its own name.")
        for bound in (bound for rule in self.rules for bound in rule.scores):
            if bound.score not in names:
                known = ", ".join(sorted(names)) or "none"
                raise UserError(f"CurateConfig.rules bounds the score {bound.score!r}, which no head gives ({known}).")

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return (*(item.path for item in self.hash_lists), *(head.path for head in self.heads))
