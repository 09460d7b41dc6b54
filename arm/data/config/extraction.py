"""Config of extract-pairs."""

from dataclasses import dataclass

from arm.config import operational
from arm.data.config.shared import SparkConfig
from arm.errors import UserError
from arm.storage.http import Politeness


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """extract-pairs: which crawl files to read and what to take from a page."""

    paths: tuple[str, ...] = ()
    """WARC and WAT files: files, folders or globs, local or under s3://, and files under http(s)://; inside the input
    `crawl` when that is given. A name that ends in .paths or .paths.gz is a listing, one file a line."""
    listing_base: str = ""
    """What the lines of a listing are relative to: https://data.commoncrawl.org/, s3://commoncrawl/ or a folder."""
    max_record_bytes: int = 20_000_000
    """A longer page is skipped and counted as `skipped/too_long`."""
    max_url_characters: int = 2_000
    """A longer address is dropped."""
    max_caption_characters: int = 10_000
    """Captions are cut here, before any filter sees them."""
    max_images_per_page: int = 1_000
    """Images beyond this many on one page are dropped as `many_images`."""
    surrounding_characters: int = 200
    """Characters of the page's text kept from before an image, and as many from after it; whole words."""
    min_document_words: int = 10
    """Documents with fewer words are dropped (OBELICS)."""
    max_document_words: int = 2_000
    """Documents with more words are dropped (OBELICS)."""
    max_document_images: int = 30
    """Documents with more images are dropped (OBELICS)."""
    min_document_side: int = 150
    """Images that declare a smaller width or height are left out of documents (OBELICS)."""
    max_broken_share: float = 0.05
    """The job fails when a larger share of the records cannot be parsed."""
    politeness: Politeness = operational(Politeness())
    """How files are fetched from http(s)://."""
    spark: SparkConfig = operational(SparkConfig())
    """How Spark runs."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise UserError("ExtractConfig.paths is empty; name at least one WARC or WAT file.")
        if not 0 <= self.max_broken_share <= 1:
            raise UserError(f"ExtractConfig.max_broken_share is {self.max_broken_share}; give a share from 0 to 1.")
        for name in ("max_record_bytes", "max_url_characters", "max_caption_characters", "max_images_per_page"):
            if getattr(self, name) < 1:
                raise UserError(f"ExtractConfig.{name} is {getattr(self, name)}; give at least 1.")
        if self.surrounding_characters < 0:
            raise UserError(f"ExtractConfig.surrounding_characters is {self.surrounding_characters}; give 0 or more.")

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return self.paths
