"""Where the benchmarks' data lie, and who judges. Standard library only."""

from dataclasses import dataclass, field

from arm.config import operational
from arm.errors import UserError
from arm.evaluation.benchmarks.config import Mode
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.config import ModelConfig

OFFICIAL = (
    "geneval", "dpg", "wise", "wise_verified", "gedit_en", "gedit_cn", "imgedit", "pope", "mmbench", "mme", "mmmu", "gqa",
    "seed", "vqav2", "imagenet",
)  # fmt: skip
"""The benchmarks of `suites.SUITES`, by name: what a config may ask for is known without importing them."""
FOLDER = "benchmarks"
"""Where they lie in an artifact: benchmarks/<subject>/<benchmark>/."""


@dataclass(frozen=True, kw_only=True)
class QuestionerConfig(ModelConfig):
    """A model that answers questions about images. A setting that its kind has no use for is refused."""

    kind: str = "huggingface"
    """Name in `arm/evaluation/models/kinds.py:KINDS`, of one that answers: huggingface, openai, autoregressive, ours."""


@dataclass(frozen=True, kw_only=True)
class OfficialConfig:
    """How the benchmarks of other authors are run."""

    data: str = ""
    """Folder or s3:// prefix with one folder a benchmark, `pope/coco_pope_random.json`, in the layout of its authors."""
    mode: Mode = "official"
    """official: the authors' program, faults included; corrected: without them, where a benchmark has such a mode."""
    seeds: int | None = None
    """Images a prompt; empty takes what the benchmark asks for (GenEval and DPG: 4)."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """Who looks for objects: GenEval."""
    questioner: QuestionerConfig = field(default_factory=QuestionerConfig)
    """Who answers questions about drawn images: DPG (its authors: mPLUG)."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """Who gives marks: WISE, GEdit, ImgEdit."""
    judge_date: str = ""
    """Day of the judgements, for the protocol: judges drift."""
    ledger: str = operational("")
    """SQLite file of the judge's replies, which runs may share; empty: one of this run's own."""
    publish_failed: bool = operational(False)
    """Publish although items failed for good; their headline stays refused."""

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise UserError(f"OfficialConfig.seeds is {self.seeds}; give at least 1 image a prompt.")
