"""Configs of policy training. Numbers of the paper: arXiv 2606.11188, section 3.3 and Table 2."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from arm.config import added, operational, suggest
from arm.errors import UserError
from arm.evaluation.judge_config import JudgeConfig
from arm.tokenizer.config import ResolutionConfig

TASKS = ("text_to_image", "edit")


@dataclass(frozen=True, kw_only=True)
class AskedRubric:
    """One rubric that is asked about every image: one call."""

    rubric: str
    """Name in `arm/evaluation/rubrics`, or the path of a file of yours that ends in .json."""
    version: int
    """Of its wording, which enters the content key; a rubric of another version is refused."""
    weights: Mapping[str, float]
    """Weights of its marks, each mapped from the range that the rubric declares to 0..1."""


@dataclass(frozen=True, kw_only=True)
class RubricConfig:
    """What a judge behind an OpenAI-compatible endpoint is asked about each image of a task."""

    judge: JudgeConfig
    """The model and its sampling, which enter the content key. Address and key come from the environment. `num_workers` is
    per rank; `calls_per_minute` and `max_dollars` hold for all ranks together."""
    asked: tuple[AskedRubric, ...]
    """The weights of all their marks sum to 1."""

    def __post_init__(self) -> None:
        if not self.judge.model:
            raise UserError("A judge of reward.rubrics has no model; give judge.model, with its date where it has one.")
        names = [asked.rubric for asked in self.asked]
        if len(set(names)) < len(names):
            raise UserError(f"reward.rubrics asks {names}; name each rubric once, with all its weights.")
        weights = [weight for asked in self.asked for weight in asked.weights.values()]
        _check_weights(weights, f"reward.rubrics {names} weighs its marks {weights}")


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Who judges a rendered image, how its verdict becomes one number, and how patient the client is."""

    judge: str = ""
    """Name and rubric version of the judge service: it enters the content key, its address never does."""
    module: str = ""
    """Module that serves this judge, started here as `python -m MODULE` on a free port when no address is given."""
    address_variable: str = operational("ARM_JUDGE_ADDRESS")
    """Environment variable that holds the address of a running judge, such as http://judge:8000."""
    text_to_image: Mapping[str, float] = field(default_factory=lambda: {"score": 1.0})
    """Weights of the parts of a verdict on a generated image; they sum to 1."""
    edit: Mapping[str, float] = field(default_factory=lambda: {"score": 1.0})
    """Weights of the parts of a verdict on an edited image; they sum to 1."""
    timeout_seconds: float = operational(60.0)
    """How long one call may take."""
    num_retries: int = operational(4)
    """How often a call is repeated after a 429, a 5xx, a timeout or a broken connection."""
    retry_seconds: float = operational(0.5)
    """Wait before the first repetition; it doubles each time and is jittered by half."""
    concurrency: int = operational(8)
    """Calls in flight at once, per rank."""
    rubrics: Mapping[str, RubricConfig] = added(factory=dict)
    """Task -> the rubrics that reward it, asked of a model at ARM_JUDGE_URL; the judge service rewards the other tasks."""
    ledger: str = operational("")
    """SQLite file of the rubrics' replies and what they cost, which runs may share and `judge.mode` replay reads; empty:
    one in the run's working folder, which goes when the run is complete."""
    benchmarks: Mapping[str, tuple[str, ...]] = added(factory=dict)
    """Task -> the benchmarks whose rule its judge applies, for the report: they are no independent tests of this model any
    more. Those of a rubric of ours are known."""

    def __post_init__(self) -> None:
        for task in TASKS:
            weights = getattr(self, task)
            _check_weights(weights.values(), f"reward.{task} is {dict(weights)}")
            if task in self.rubrics and weights != {"score": 1.0}:
                raise UserError(
                    f"reward.{task} weighs a verdict of the judge service, but reward.rubrics rewards that task."
                )
        for name in ("rubrics", "benchmarks"):
            if unknown := getattr(self, name).keys() - set(TASKS):
                raise UserError(f"reward.{name} has no task {min(unknown)!r}; {suggest(min(unknown), list(TASKS))}")
        if self.concurrency < 1 or self.num_retries < 0 or self.timeout_seconds <= 0:
            raise UserError("reward needs concurrency >= 1, num_retries >= 0 and timeout_seconds > 0.")

    @property
    def names(self) -> str:
        """The judges, for people: the service, then the models that are asked rubrics."""
        models = [self.rubrics[task].judge.model for task in sorted(self.rubrics)]
        return ", ".join(dict.fromkeys(filter(None, [self.judge, *models])))


def _check_weights(weights: Collection[float], what: str) -> None:
    if not weights or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise UserError(f"{what}; give weights of at least 0 that sum to 1.")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """One stage of GRPO. The defaults are those of the paper's T2I stage."""

    stage: Literal["t2i", "edit", "joint"]
    """Which prompts teach: text-to-image, edits, or both."""
    reward: RewardConfig
    """The judge."""
    edit_share: float | None = None
    """Share of edits among the prompts of the joint stage (unstated by the paper); None in the other stages."""
    seed: int = 0
    """Fixes the order of the prompts and, with the prompt and the sample, all sampling noise."""
    steps: int = 280
    """Optimizer batches. Table 2."""
    prompts_per_step: int = 64
    """Groups that one step learns from. Table 2."""
    group_size: int = 16
    """Rollouts per prompt. Table 2."""
    image_size: int = 1024
    """Side in pixels of images drawn from a text, which are square. Section 4.1."""
    edit_resolution: ResolutionConfig | None = added(None)
    """Sizes of the sources of edits, and of what is drawn from them: those at which edits were trained
    (EncodeConfig.variants). Empty: the longer side is image_size."""
    temperature: float = 0.7
    """Of the rollouts and of every log-probability. Table 2."""
    top_k: int = 1000
    """Of the rollouts alone; 0 is off. Table 2."""
    top_p: float = 1.0
    """Of the rollouts alone. Table 2."""
    learning_rate: float = 3e-5
    """Constant. Table 2."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW. Table 2."""
    epsilon: float = 1e-8
    """AdamW's; ours."""
    weight_decay: float = 0.01
    """Table 2."""
    gradient_clip: float = 1.0
    """Norm; ours."""
    clip: float = 0.2
    """Ratios beyond 1 ± clip bring no gradient. Equation 7."""
    kl_coefficient: float = 0.01
    """Weight of the k3 estimate of KL(policy, reference). Equation 7; the estimator is ours."""
    ratio: Literal["token", "sequence"] = "token"
    """Per code, or one geometric mean per image; ours."""
    std_floor: float = 0.05
    """Least standard deviation that a group's advantages are divided by; ours."""
    updates_per_step: int = 1
    """Optimizer updates on one batch of rollouts; ours."""
    importance_cap: float = 0.0
    """Cap of the truncated importance weight that corrects the sampler's gap; 0 is off; ours."""
    max_gap: float = 0.5
    """The run stops when the mean |gap| between sampler and learner exceeds this; nats a code; ours."""
    max_skipped: int = operational(10)
    """Updates in a row that may be skipped as their gradient is not finite before the run stops."""
    refill_rounds: int = 1
    """How often a step draws further prompts in place of groups whose rewards are all equal; ours."""
    max_missing_share: float = 0.1
    """The run pauses at a checkpoint when a larger share of a step's rewards is missing; ours."""
    render_steps: int | None = 14
    """Euler steps of the detokenizer; None is its own default. Half of section 4.1's 28: ours, for rollouts."""
    render_guidance: float | None = 1.0
    """Guidance of the detokenizer: 1 is none, as Fig. 4 allows for rollouts; None is its own default."""
    rollout_batch: int = 64
    """Images generated and rendered at once, per rank."""
    learn_batch: int = 1
    """Images in one forward and backward pass, per rank."""
    dtype: Literal["auto", "bfloat16", "float32"] = "bfloat16"
    """Type of weights and activations, in rollouts and learning alike; the optimizer keeps float32 masters. auto: bfloat16
    where hardware multiplies it, else float32."""
    logits_chunk: int = 1024
    """Code positions whose logits exist at once in a forward pass."""
    checkpoint_every: int = operational(20)
    """Steps between checkpoints."""
    samples_every: int = 20
    """Steps between the pictures of rollouts; the first and the last step are always shown."""

    def __post_init__(self) -> None:
        if (self.stage == "joint") != (self.edit_share is not None):
            raise UserError(f"edit_share is {self.edit_share} in stage {self.stage!r}; only the joint stage has one.")
        if self.edit_share is not None and not 0 < self.edit_share < 1:
            raise UserError(f"edit_share is {self.edit_share}; give a number between 0 and 1.")
        if self.edit_resolution and self.stage == "t2i":
            raise UserError("edit_resolution has no effect in stage 't2i', which reads no images: leave it out.")
        self._check_judges()
        counts = ("steps", "prompts_per_step", "updates_per_step", "rollout_batch", "learn_batch", "image_size")
        for name in (*counts, "logits_chunk", "checkpoint_every", "samples_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give at least 1.")
        if self.group_size < 2:
            raise UserError(f"group_size is {self.group_size}; an advantage needs at least 2 rollouts of a prompt.")
        if not self.temperature > 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise UserError("Sampling needs temperature > 0, 0 < top_p <= 1 and top_k >= 0.")
        if not 0 < self.clip < 1 or self.kl_coefficient < 0 or self.std_floor <= 0:
            raise UserError("GRPO needs 0 < clip < 1, kl_coefficient >= 0 and std_floor > 0.")
        if not 0 <= self.max_missing_share < 1 or self.refill_rounds < 0 or self.importance_cap < 0:
            raise UserError("Give 0 <= max_missing_share < 1, refill_rounds >= 0 and importance_cap >= 0.")
        if self.max_skipped < 0:
            raise UserError(f"max_skipped is {self.max_skipped}; give at least 0.")

    def _check_judges(self) -> None:
        """Every task of the stage has one judge, and no judge is without a task."""
        reward, served = self.reward, self.served_tasks
        if served and not reward.judge:
            raise UserError(
                f"Nobody judges {served[0]} in stage {self.stage!r}; give reward.judge or reward.rubrics for it."
            )
        if not served and (reward.judge or reward.module):
            raise UserError(f"Rubrics reward all of stage {self.stage!r}; leave reward.judge and reward.module out.")
        if idle := sorted(reward.rubrics.keys() - set(self.tasks)):
            raise UserError(f"reward.rubrics has {idle[0]}, which stage {self.stage!r} does not draw; leave it out.")

    def outside_paths(self) -> tuple[str, ...]:
        """The user's own rubrics."""
        asked = [asked.rubric for task in sorted(self.reward.rubrics) for asked in self.reward.rubrics[task].asked]
        return tuple(path for path in asked if path.endswith(".json"))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is drawn in this stage."""
        return {"t2i": TASKS[:1], "edit": TASKS[1:]}.get(self.stage, TASKS)

    @property
    def editing(self) -> ResolutionConfig:
        """Sizes of the sources of edits."""
        return self.edit_resolution or ResolutionConfig.within(self.image_size)

    @property
    def served_tasks(self) -> tuple[str, ...]:
        """Those that the judge service rewards."""
        return tuple(task for task in self.tasks if task not in self.reward.rubrics)

    @property
    def share_of_edits(self) -> float:
        """The share of edits among the prompts of this stage."""
        return {"t2i": 0.0, "edit": 1.0}.get(self.stage, self.edit_share or 0.0)
