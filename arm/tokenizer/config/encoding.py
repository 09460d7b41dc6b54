"""The config of tokenize-images."""

from dataclasses import dataclass

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """tokenize-images."""

    height: int = 512
    """Pixels of the bucket."""
    width: int = 512
    """Pixels of the bucket."""
    batch_size: int = 256
    """Images encoded at a time: part of the identity, because rounding depends on it."""
    max_dropped_share: float = 0.01
    """The job fails when more than this share of the samples holds an unreadable image."""
    threads: int = 2
    """Threads of torch: part of the identity."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.max_dropped_share < 1:
            raise UserError("EncodeConfig needs batch_size >= 1 and max_dropped_share in [0, 1).")
