"""Configs of the data jobs. Defaults are those of published sets where one is named, ours otherwise."""

import re
from dataclasses import dataclass, field
from typing import Literal

from arm.config import operational
from arm.errors import UserError
from arm.records import TASKS

ImportFormat = Literal["samples", "webdataset", "llava", "edit_parquet", "image_text_folder", "jsonl_text"]
"""Keys of arm.data.formats.FORMATS."""


@dataclass(frozen=True, kw_only=True)
class SparkConfig:
    """How Spark runs; nothing here can change the bytes of an output."""

    master: str = "local[2]"
    """`local[N]`: N cores of this machine; empty: whatever spark-submit was told (a cluster)."""
    driver_memory: str = "1g"
    """Heap of the driver's JVM; under `local[N]` the executors live in it."""
    shuffle_partitions: int = 4
    """Partitions after a shuffle: two per core suffice on one machine."""
    java_options: str = (
        "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
    )
    """Options of the JVM; these start fast, a long job wants an empty string."""

    def __post_init__(self) -> None:
        if self.shuffle_partitions < 1:
            raise UserError(f"SparkConfig.shuffle_partitions is {self.shuffle_partitions}; give at least 1.")


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """extract-pairs: which crawl files to read and what to take from a page."""

    paths: tuple[str, ...] = ()
    """WARC and WAT files: files, folders or globs, local or under s3://; inside the input `crawl` when that is given."""
    max_record_bytes: int = 20_000_000
    """A longer page is skipped and counted as `skipped/too_long`."""
    max_url_characters: int = 2_000
    """A longer address is dropped."""
    max_caption_characters: int = 10_000
    """Captions are cut here, before any filter sees them."""
    max_images_per_page: int = 1_000
    """Images beyond this many on one page are ignored."""
    max_broken_share: float = 0.05
    """The job fails when a larger share of the records cannot be parsed."""
    spark: SparkConfig = operational(SparkConfig())
    """How Spark runs."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise UserError("ExtractConfig.paths is empty; name at least one WARC or WAT file.")
        if not 0 <= self.max_broken_share <= 1:
            raise UserError(f"ExtractConfig.max_broken_share is {self.max_broken_share}; give a share from 0 to 1.")

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return self.paths


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """filter-pairs: bounds of the rules, in the order in which they are asked."""

    min_caption_characters: int = 5
    """COYO: 5."""
    max_caption_characters: int = 1_000
    """COYO: 1,000."""
    min_caption_words: int = 3
    """COYO: 3."""
    max_caption_words: int = 256
    """COYO: 256."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes to keep; empty keeps every language. The language is a column either way."""
    candidate_languages: tuple[str, ...] = (
        "en", "zh", "es", "de", "fr", "ja", "ru", "pt", "it", "nl", "pl", "tr", "ko", "ar", "sv", "cs", "vi", "id", "fa", "uk",
    )  # fmt: skip
    """Languages that the detector tells apart, ISO 639-1; 20 take 300 MB a process. Fewer err less on short captions."""
    min_language_distance: float = 0.3
    """By how much the likeliest language must lead the second, in confidence; else it is `und`, which is always kept:
    short captions cannot be told. Ours."""
    private_hosts: tuple[str, ...] = ()
    """`host` or `host:port` exempt from the rule against private hosts: test sites only."""
    max_caption_repeats: int = 10
    """A caption found with more different images than this is dropped from all of them. COYO: 10."""
    captions_per_url: int = 1
    """How many captions of one image address are kept: alt before figcaption before title."""
    rows_per_part: int = 100_000
    """Rows of one Parquet part of the output."""
    spark: SparkConfig = operational(SparkConfig())
    """How Spark runs."""

    def __post_init__(self) -> None:
        if self.min_caption_characters > self.max_caption_characters:
            raise UserError(
                "FilterConfig.min_caption_characters is above max_caption_characters; no caption would pass."
            )
        if self.min_caption_words > self.max_caption_words:
            raise UserError("FilterConfig.min_caption_words is above max_caption_words; no caption would pass.")
        if not set(self.languages) <= set(self.candidate_languages) or len(self.candidate_languages) < 2:
            raise UserError("FilterConfig.languages must be among candidate_languages, of which there are at least 2.")
        if not 0 <= self.min_language_distance <= 0.99:
            raise UserError(f"FilterConfig.min_language_distance is {self.min_language_distance}; give 0 to 0.99.")
        if self.captions_per_url < 1 or self.rows_per_part < 1:
            raise UserError("FilterConfig.captions_per_url and rows_per_part must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class HostException:
    """A host that the guard reaches at a fixed address, public or not. Empty in every real recipe."""

    host: str
    """Host name, or `host:port` as it stands in the URL."""
    address: str = operational()
    """IP address to connect to."""
    port: int = operational()
    """Port to connect to."""


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """download-images: what img2dataset makes of an image, and what the guard allows."""

    source: str = "crawl"
    """Name of the shards and of the samples' source."""
    task: Literal["text_to_image", "caption"] = "text_to_image"
    """What the samples are for: drawing the caption, or writing it."""
    licence: str = "unknown"
    """Licence recorded with every sample."""
    image_size: int = 512
    """Target of the resize, pixels."""
    resize_mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"] = "keep_ratio"
    """img2dataset's: `keep_ratio` makes the short side `image_size`."""
    resize_only_if_bigger: bool = True
    """Never enlarge."""
    encode_format: Literal["png", "jpg", "webp"] = "jpg"
    """Encoding of what is stored."""
    encode_quality: int = 95
    """Quality of JPEG and WebP; compression 0-9 of PNG."""
    min_image_side: int = 0
    """Images with a shorter side are refused (`too_small`), pixels."""
    unit_rows: int = 10_000
    """URLs of one unit of work: one shard, one failures table; what a kill can cost at most."""
    user_agent: str = "arm-platform/0.1 (+https://github.com/arm-platform; research crawler)"
    """Sent with each request: honest, with a contact. Real runs put their own contact here."""
    robots: bool = True
    """Obey robots.txt (RFC 9309) and X-Robots-Tag noai, noimageai, noindex, noimageindex."""
    max_bytes: int = 20_000_000
    """Longest body that is read."""
    max_pixels: int = 100_000_000
    """Largest image that is decoded, by its header."""
    max_redirects: int = 3
    """Redirects followed, each one checked like the first address."""
    timeout_seconds: float = 20.0
    """Deadline of one URL in all, redirects included."""
    requests_per_second_per_host: float = operational(4.0)
    """Rate of one host in each worker process."""
    max_host_failures: int = 50
    """After so many connection failures in a row a host is given up (`host_down`)."""
    max_unresolved_share: float = 0.5
    """The job fails when a larger share of the URLs gave no answer at all (time-outs, connections)."""
    exceptions: tuple[HostException, ...] = ()
    """Hosts at fixed addresses: tests and the toy only; printed when used. Their names are part of the identity."""
    threads: int = operational(32)
    """Threads of each worker process."""
    spark: SparkConfig = operational(SparkConfig())
    """How Spark runs."""

    def __post_init__(self) -> None:
        if self.encode_format == "png" and not 0 <= self.encode_quality <= 9:
            raise UserError(f"DownloadConfig.encode_quality is {self.encode_quality}; PNG takes 0 to 9.")
        if self.unit_rows < 1 or self.threads < 1:
            raise UserError("DownloadConfig.unit_rows and threads must be at least 1.")


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
    min_similarity: float | None = None
    """Cosine of SigLIP's image and caption embeddings; needs the input `scorer`."""
    near_duplicates: bool = True
    """Drop all but the best of images that look alike; otherwise only exact copies."""


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """curate-images: scores, duplicates, contamination, final shards."""

    rules: tuple[SourceRule, ...] = (SourceRule(),)
    """The first rule whose source fits decides."""
    near_distance: int = 4
    """Perceptual hashes (64 bits) that differ in at most so many bits count as the same image; 0 to 7."""
    verify_difference: float = 24.0
    """Images with near hashes are verified: the largest difference between their 12 × 12 thumbnails, levels 0-255. Ours."""
    evaluation_distance: int = 4
    """The same for images of the evaluation set; 0: the same hash."""
    scorer_path: str = "model"
    """Folder of the SigLIP checkpoint inside the input `scorer`."""
    scorer_batch: int = 256
    """Images scored at once: part of the identity, because rounding depends on it."""
    samples_per_shard: int = 10_000
    """Samples of one final shard."""
    workers: int = operational(2)
    """Processes that decode and score."""

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= 7 or not 0 <= self.evaluation_distance <= 7:
            raise UserError("CurateConfig.near_distance and evaluation_distance must lie between 0 and 7 bits.")
        if self.samples_per_shard < 1 or self.workers < 1:
            raise UserError("CurateConfig.samples_per_shard and workers must be at least 1.")
        if self.rules and self.rules[-1].source != "*":
            raise UserError("CurateConfig.rules must end with a rule for the source '*', which takes all others.")


@dataclass(frozen=True, kw_only=True)
class ImportSource:
    """One data set to import: where it lies, in which format, what it is good for."""

    name: str
    """Name of its shards and of the samples' source."""
    path: str
    """A file, a folder or a glob, local or under s3://; inside the input `source` when that is given."""
    format: ImportFormat
    """How it is read: see arm.data.formats."""
    task: str = ""
    """One of records.TASKS; the format `samples` needs none, its samples say theirs."""
    licence: str = "unknown"
    """For samples that do not say theirs."""
    num_samples: int | None = None
    """Take at most so many; None takes all."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise UserError(f"ImportSource.name is {self.name!r}; use lower-case letters, digits, - and _.")
        if self.format != "samples" and self.task not in TASKS:
            raise UserError(f"ImportSource.task of {self.name} is {self.task!r}; give one of {', '.join(TASKS)}.")


@dataclass(frozen=True, kw_only=True)
class ImportSamplesConfig:
    """import-samples: which data sets to bring in."""

    sources: tuple[ImportSource, ...] = ()
    """The data sets."""
    samples_per_shard: int = 10_000
    """Samples of one shard."""
    max_text_characters: int = 100_000
    """A longer text part drops its sample."""
    max_dropped_share: float = 0.05
    """The job fails when a larger share of a source is unreadable."""

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise UserError("ImportSamplesConfig.sources is empty; declare at least one data set.")
        if len(set(names)) != len(names):
            raise UserError(f"ImportSamplesConfig.sources names a data set twice: {', '.join(names)}.")

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return tuple(source.path for source in self.sources)


@dataclass(frozen=True, kw_only=True)
class ImportModelConfig:
    """import-model: which Hugging Face checkpoint to bring in."""

    path: str
    """Its folder, local or under s3://; inside the input `source` when that is given."""
    role: Literal["encoder", "language_model", "autoencoder", "backbone", "image_tokenizer"]
    """What the model is for; the class of its config.json must fit."""
    licence: str = "unknown"
    """Recorded; a release is gated by it."""
    name: str = field(default="")
    """Public name, e.g. `google/siglip2-so400m-patch16-512`."""

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return (self.path,)
