"""What the scorers may be told."""

from dataclasses import dataclass
from typing import Literal

from arm.errors import UserError

Mode = Literal["official", "corrected"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How results in an official layout are scored."""

    mode: Mode = "official"
    """official: the authors' program, faults included; corrected: without the faults that the benchmark's page names."""
    revision: str = ""
    """Revision of the data set (a commit, a date), for the protocol."""
    judge: str = ""
    """Id of the model that judged, for the protocol: gpt-4o-2024-05-13."""
    judge_date: str = ""
    """Day of the judgements, for the protocol: judges drift."""
    prompt: str = ""
    """The prompt that the model or the judge was given; the protocol holds its sha256."""
    images_a_prompt: int = 0
    """Images that were to be drawn of each prompt, for GenEval; 0 for as many as the highest number of a sample tells."""
    num_bootstraps: int = 1000
    """Resamples behind each 95% interval."""
    seed: int = 0
    """Seed of the resampling."""

    def __post_init__(self) -> None:
        if self.num_bootstraps < 100:
            raise UserError(f"ScoreConfig.num_bootstraps is {self.num_bootstraps}; an interval needs at least 100.")
