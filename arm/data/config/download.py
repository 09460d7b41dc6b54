"""Config of download-images."""

from dataclasses import dataclass
from typing import Literal

from arm.config import operational
from arm.data.config.shared import SparkConfig
from arm.errors import UserError


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
    unit_rows_per_host: int = 1_000
    """URLs of one host in a unit: a host that is slow or busy holds no unit for long."""
    user_agent: str = "arm-platform/0.1 (+https://github.com/arm-platform; research crawler)"
    """Sent with each request: honest, with a contact. Real runs put their own contact here."""
    robots: bool = True
    """Obey robots.txt (RFC 9309) and X-Robots-Tag noai, noimageai, noindex, noimageindex."""
    max_bytes: int = 20_000_000
    """Longest body that is read."""
    max_pixels: int = 40_000_000
    """Largest image that is decoded, by its header: a worker stays under 1 GiB with it, whatever the image is."""
    max_redirects: int = 3
    """Redirects followed, each one checked like the first address."""
    timeout_seconds: float = 20.0
    """Deadline of one URL in all, redirects included."""
    requests_per_second_per_host: float = operational(4.0)
    """Rate of one host over all worker processes of a machine."""
    max_host_failures: int = 50
    """After so many connection failures in a row a host is left alone for five minutes (`host_down`)."""
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
        if self.unit_rows < 1 or self.unit_rows_per_host < 1 or self.threads < 1:
            raise UserError("DownloadConfig.unit_rows, unit_rows_per_host and threads must be at least 1.")
        if not self.requests_per_second_per_host > 0:
            raise UserError(
                f"DownloadConfig.requests_per_second_per_host is {self.requests_per_second_per_host}; give more than 0."
            )
