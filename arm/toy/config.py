"""Configs of the toy world and its teachers."""

from dataclasses import dataclass

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How a scene is drawn."""

    aligned: bool = True
    """Objects sit in the cells of a 3x3 grid; False: anywhere without touching, the harder world."""
    max_objects: int = 4
    """Between 1 and this many objects, at most 4."""
    jitter_pixels: float = 0.8
    """How far an object may lie from its cell's centre, per axis."""
    noise: float = 3.0
    """Standard deviation of the pixel noise, in grey levels of 255."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_objects <= 4:
            raise UserError(f"SceneConfig.max_objects is {self.max_objects}; give 1 to 4.")
        if not 0 <= self.jitter_pixels <= 1:
            raise UserError(
                f"SceneConfig.jitter_pixels is {self.jitter_pixels}; give 0 to 1, or objects leave their cell."
            )


DEFAULT = SceneConfig()
