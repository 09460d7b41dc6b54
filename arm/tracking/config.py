"""What `register-model` may be told."""

from dataclasses import dataclass

from arm.errors import UserError

CHAMPION = "champion"
"""What a gate's `not_below` names to mean the release that holds the alias now."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A score that must hold before the alias moves: `metric` of `stage` against a number, another stage or release, or
    both."""

    metric: str
    """Name in the evaluation's scores, e.g. `text_to_image/mean`."""
    stage: str = "joint_policy"
    """Training stage whose score counts."""
    minimum: float | None = None
    """The score must be at least this."""
    not_below: str | None = None
    """The score must not be lower than this stage's, or with `champion` than that of the release that holds the alias
    now: for a benchmark's headline the paired bootstrap decides."""
    tolerance: float = 0.0
    """How far below the other still counts as not lower: where the bootstrap compares, its interval must reach so far."""

    def __post_init__(self) -> None:
        if self.minimum is None and self.not_below is None:
            raise UserError(f"The gate on {self.metric!r} checks nothing; set `minimum` or `not_below`.")
        if self.tolerance < 0:
            raise UserError(f"Gate.tolerance is {self.tolerance}; it must be 0 or more.")
        if self.tolerance and self.not_below is None:
            raise UserError(
                f"The gate on {self.metric!r} has a tolerance without effect; set `not_below` or leave it out."
            )


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """What a release must reach, and what it is called."""

    name: str = "arm"
    """Name of the registered model."""
    alias: str = "champion"
    """Alias that moves to the new version when every gate holds."""
    gates: tuple[Gate, ...] = ()
    """Scores that must hold; without gates the alias always moves."""
    refused_licences: tuple[str, ...] = ()
    """The alias stays when any part of the release carries one of these, e.g. `FLUX.1-dev-non-commercial`."""
    contamination: str = ""
    """Report of `arm check-contamination` (contamination.json) on the shards that the release was trained on."""
    max_contaminated_share: float | None = None
    """The alias stays when training has seen more than this share of any evaluation set in the report, 0 to 1."""

    def __post_init__(self) -> None:
        for text in (self.name, self.alias):
            if not text.replace("-", "").replace("_", "").isalnum():
                raise UserError(f"{text!r} cannot name a model or alias; use letters, digits, - and _.")
        if (self.max_contaminated_share is None) == bool(self.contamination):
            raise UserError(
                "RegisterConfig.contamination and max_contaminated_share go together; give both or neither."
            )
        if self.max_contaminated_share is not None and not 0 <= self.max_contaminated_share <= 1:
            raise UserError(
                f"RegisterConfig.max_contaminated_share is {self.max_contaminated_share}; it must lie in [0, 1]."
            )

    def outside_paths(self) -> tuple[str, ...]:
        """Files that no job made: their digests go into the content key."""
        return (self.contamination,) if self.contamination else ()
