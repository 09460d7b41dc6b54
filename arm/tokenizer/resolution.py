"""The size an image is brought to before it is encoded: its own aspect, within (min short side, max long side).

1000 x 500 with (256, 512) and patch 16  ->  512 x 256
 300 x 300                               ->  304 x 304     inside both bounds: only rounded to the patch
 100 x 100                               ->  256 x 256
2000 x 200                               ->  512 x  48     the long side's bound wins
"""

from arm.tokenizer.config import ResolutionConfig

Size = tuple[int, int]
"""(height, width) in pixels."""


def target_size(height: int, width: int, resolution: ResolutionConfig, patch: int) -> Size:
    """(height, width) in multiples of `patch`, rounded to the nearest and at least one patch.

    The rule is that of Table 1's recipe (BAGEL, arXiv 2505.14683): shrink to the long side, enlarge to the short side,
    and where the two disagree keep the long side.
    """
    long, short = max(height, width), min(height, width)
    scale = min(resolution.max_long_side / long, 1.0)
    scale = max(scale, resolution.min_short_side / short)
    scale = min(scale, resolution.max_long_side / long)
    largest = max(resolution.max_long_side // patch, 1)
    rows, columns = (min(max(int(side * scale / patch + 0.5), 1), largest) for side in (height, width))
    return rows * patch, columns * patch
