"""How a judge is asked."""

from dataclasses import dataclass
from typing import Literal

from arm.config import added, operational
from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How a judge behind an OpenAI-compatible endpoint is asked. Address and key come from the environment."""

    model: str = ""
    """Name of the model, with its date where it has one: gpt-4o-2024-05-13. Empty: nobody is asked."""
    temperature: float = 0.0
    """Of the judge's sampling."""
    max_tokens: int = 1024
    """Longest reply."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = added("max_tokens")
    """Name of that in a request: OpenAI's reasoning models (o3) take max_completion_tokens alone, and temperature 1."""
    mode: Literal["record", "replay"] = operational("record")
    """record: ask what the ledger does not hold; replay: never ask."""
    max_dollars: float = operational(0.0)
    """Budget over all runs that share the ledger, 0 sets none; what is left is failed. Calls under way are not cut off."""
    dollars_per_million_input: float = operational(0.0)
    """Price of a million tokens that the judge reads."""
    dollars_per_million_output: float = operational(0.0)
    """Price of a million tokens that the judge writes."""
    calls_per_minute: float = operational(0.0)
    """Most calls of all threads together; 0 sets no limit."""
    num_workers: int = operational(8)
    """Questions asked at once."""
    max_attempts: int = operational(6)
    """Calls for one question before it is failed."""
    first_wait_seconds: float = operational(1.0)
    """Longest wait after the first failed call; it doubles from call to call."""
    longest_wait_seconds: float = operational(60.0)
    """Longest wait between two calls."""
    timeout_seconds: float = operational(120.0)
    """Longest wait for an answer."""

    def __post_init__(self) -> None:
        for name in ("num_workers", "max_attempts", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"JudgeConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.max_dollars and not (self.dollars_per_million_input or self.dollars_per_million_output):
            raise UserError(
                f"JudgeConfig.max_dollars is {self.max_dollars:g}, but no price is given; "
                "set dollars_per_million_input and dollars_per_million_output, or the budget has no effect."
            )
