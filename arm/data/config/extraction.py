"""Config of extract-pairs."""

from dataclasses import dataclass

from arm.config import operational
from arm.data.config.shared import SparkConfig
from arm.errors import UserError


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
