"""Config of filter-pairs."""

import re
from dataclasses import dataclass
from typing import Literal

from arm.config import operational
from arm.data.config.shared import SparkConfig
from arm.errors import UserError

PersonalData = Literal["email", "phone", "ip", "card", "iban"]
"""Keys of arm.data.privacy.FINDERS."""


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """filter-pairs: bounds of the rules, in the order in which they are asked."""

    mask_personal_data: tuple[PersonalData, ...] = ()
    """What is replaced in captions and page titles before anything else looks at them, e.g. `<email>`; the uid is made
    of the masked caption, because a hash of the other would let a phone number be guessed."""
    blocklists: str = ""
    """A folder of blocklists as the University of Toulouse publishes them (`adult/domains`, `adult/urls`, also .gz),
    local or under s3://. Image and page are both looked up, domains with all below them."""
    blocklist_categories: tuple[str, ...] = ()
    """Which of its folders drop a pair; the first that holds it names the reason, `blocklist_adult`."""

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
    """A caption found with more different images than this, earlier runs included, is dropped. COYO: 10."""
    captions_per_url: int = 1
    """How many captions of one image address are kept: alt before figcaption before title."""
    rows_per_part: int = 100_000
    """Rows of one Parquet part of the output."""
    max_reported_sites: int = 1_000
    """Sites with a line of their own in the drop report; the others are summed up."""
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
        if min(self.captions_per_url, self.rows_per_part, self.max_reported_sites) < 1:
            raise UserError("FilterConfig.captions_per_url, rows_per_part and max_reported_sites must be at least 1.")
        self._check_blocklists()

    def _check_blocklists(self) -> None:
        if bool(self.blocklists) != bool(self.blocklist_categories):
            raise UserError("FilterConfig.blocklists and blocklist_categories go together; give both or neither.")
        for name in self.blocklist_categories:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise UserError(
                    f"FilterConfig.blocklist_categories holds {name!r}; give names of folders, like 'adult'."
                )
        if len(set(self.blocklist_categories)) != len(self.blocklist_categories):
            raise UserError(
                f"FilterConfig.blocklist_categories names one twice: {', '.join(self.blocklist_categories)}."
            )

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return tuple(f"{self.blocklists.rstrip('/')}/{category}" for category in self.blocklist_categories)
