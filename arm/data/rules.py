"""Rules: each looks at one pair and keeps it (None) or names the reason to drop it.

    RULES["short_caption"](pair, config)  ->  "short_caption" or None

The first rule that objects decides, so `kept + sum of reasons = read`. To add a rule: write the function, add a line to RULES.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from arm.data.config import FilterConfig
from arm.data.normalisation import is_private_host


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An image address with a caption, both normalised."""

    url: str
    caption: str
    language: str = "und"
    """ISO 639-1, or `und`."""
    blocked: str = ""
    """Category of the blocklist that holds its image or its page."""


Rule = Callable[[Pair, FilterConfig], str | None]

_FILE_NAME = re.compile(r"\S+\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|html?)", re.IGNORECASE)
_CAMERA_NAME = re.compile(r"(?:img|dsc|dscn|dcim|image|photo|picture|screenshot)[\s_-]*\d+", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_VECTOR = re.compile(r"\.(?:svgz?|ico|cur|eps|pdf)$", re.IGNORECASE)
_TRACKING = re.compile(
    r"(?:[a-z]+[_-])?(?:pixel|tracker|tracking|beacon|spacer|blank|transparent|clear|1x1)(?:[_-]?\d+)?(?:\.\w+)?",
    re.IGNORECASE,
)


def blocklist(pair: Pair, config: FilterConfig) -> str | None:
    """The image or the page is on a list of the operator's; the reason carries the category."""
    return f"blocklist_{pair.blocked}" if pair.blocked else None


def short_caption(pair: Pair, config: FilterConfig) -> str | None:
    """Too few characters."""
    return "short_caption" if len(pair.caption) < config.min_caption_characters else None


def long_caption(pair: Pair, config: FilterConfig) -> str | None:
    """Too many characters."""
    return "long_caption" if len(pair.caption) > config.max_caption_characters else None


def file_name_caption(pair: Pair, config: FilterConfig) -> str | None:
    """The caption is a file name or what a camera or an editor wrote."""
    names = (_FILE_NAME, _CAMERA_NAME)
    return "file_name_caption" if any(name.fullmatch(pair.caption) for name in names) else None


def address_caption(pair: Pair, config: FilterConfig) -> str | None:
    """The caption is a web address."""
    return "address_caption" if _ADDRESS.fullmatch(pair.caption) else None


def few_words(pair: Pair, config: FilterConfig) -> str | None:
    """Too few words; scripts without spaces count two characters as a word."""
    return "few_words" if _num_words(pair.caption) < config.min_caption_words else None


def many_words(pair: Pair, config: FilterConfig) -> str | None:
    """Too many words."""
    return "many_words" if len(pair.caption.split()) > config.max_caption_words else None


def few_letters(pair: Pair, config: FilterConfig) -> str | None:
    """Less than half of the caption is letters and spaces: codes, prices, smileys."""
    letters = sum(character.isalpha() or character == " " for character in pair.caption)
    return "few_letters" if 2 * letters < len(pair.caption) else None


def language(pair: Pair, config: FilterConfig) -> str | None:
    """A language that is told with confidence and not wanted."""
    unwanted = config.languages and pair.language not in (*config.languages, "und")
    return "language" if unwanted else None


def private_host(pair: Pair, config: FilterConfig) -> str | None:
    """IP literals, local names, and addresses with a user name."""
    host = urlsplit(pair.url).netloc
    if host in config.private_hosts or host.partition(":")[0] in config.private_hosts:
        return None
    return "private_host" if "@" in host or is_private_host(host) else None


def vector_image(pair: Pair, config: FilterConfig) -> str | None:
    """Formats that hold no photograph and that the download refuses."""
    return "vector_image" if _VECTOR.search(urlsplit(pair.url).path) else None


def tracking_pixel(pair: Pair, config: FilterConfig) -> str | None:
    """Counters and spacers, by the name of the file."""
    name = urlsplit(pair.url).path.rpartition("/")[2]
    return "tracking_pixel" if _TRACKING.fullmatch(name) else None


RULES: Mapping[str, Rule] = {
    "blocklist": blocklist,
    "short_caption": short_caption,
    "long_caption": long_caption,
    "file_name_caption": file_name_caption,
    "address_caption": address_caption,
    "few_words": few_words,
    "many_words": many_words,
    "few_letters": few_letters,
    "private_host": private_host,
    "vector_image": vector_image,
    "tracking_pixel": tracking_pixel,
    "language": language,
}
"""In the order in which they are asked, the cheapest first."""


def judge(pair: Pair, config: FilterConfig) -> str | None:
    """The first rule's reason to drop the pair, or None."""
    for rule in RULES.values():
        reason = rule(pair, config)
        if reason is not None:
            return reason
    return None


def _num_words(caption: str) -> int:
    return sum(max(1, len(word) // 2) if not word.isascii() and _is_cjk(word[0]) else 1 for word in caption.split())


def _is_cjk(character: str) -> bool:
    """Chinese, Japanese, Thai and neighbours: scripts that write no spaces."""
    return "\u0e00" <= character <= "\u0eff" or "\u3040" <= character <= "\u9fff"
