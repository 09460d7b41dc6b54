"""What is planned of one step: ranks, time, memory, disk, the numbers behind them, and why it cannot run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from arm.preflight import memory
from arm.preflight.hardware import CPU_RATES, STARTED_SECONDS, USABLE_MEMORY, Gpu, cpu_count, memory_bytes
from arm.preflight.memory import Part
from arm.recipes import Compute, Recipe, job_of


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of a step, written out, and how it comes about."""

    name: str
    value: str
    how: str = ""


@dataclass(slots=True, kw_only=True)
class StepPlan:
    """One step of the road."""

    step: str
    where: str
    """What it computes on, in words."""
    ranks: int = 1
    gpus: int = 0
    """GPUs over all ranks."""
    work: str = ""
    """What it does, in one line."""
    seconds: float = 0.0
    core_hours: float = 0.0
    """Of CPUs, where no GPU works."""
    memory: list[Part] = field(default_factory=list)
    """Of one rank, at its fullest."""
    memory_limit: float = 0.0
    """What a plan may fill; 0: not planned."""
    disk: float = 0.0
    extra_cost: float = 0.0
    """Dollars beside the GPUs: judgements."""
    facts: list[Fact] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def gpu_hours(self) -> float:
        """GPUs times hours."""
        return self.gpus * self.seconds / 3_600

    def fact(self, name: str, value: str, how: str = "") -> None:
        """Add a number."""
        self.facts.append(Fact(name, value, how))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The recipe, and what it is planned for."""

    recipe: Recipe
    gpu: Gpu
    world: int | None = None
    """GPUs there are; None: as many as the recipe says."""
    mfu: float | None = None
    price_per_gpu_hour: float = 0.0
    cost_per_judgement: float = 0.0
    judge_seconds: float = 0.0

    def compute(self, step: str) -> Compute:
        """What the recipe says of a step."""
        return self.recipe.computes_on(step)

    def on_gpu(self, step: str) -> bool:
        """Whether the step computes on GPUs; without, the measured rates of two CPU cores are all there is."""
        return self.compute(step).gpus > 0

    def ranks(self, step: str, units: int, *, each: int = 1) -> int:
        """Ranks of a step whose `units` must divide among them, `each` ranks sharing one.

        320 rows on a world of 200 -> 160: with a world a step takes as many ranks as divide its rows.
        """
        if self.world is None or not self.on_gpu(step):
            return self.compute(step).ranks
        groups = max(self.world // (each * self.compute(step).gpus), 1)
        return max(number for number in range(1, groups + 1) if units % number == 0) * each

    def start(self, step: str, ranks: int | None = None) -> StepPlan:
        """An empty plan of a step with its place."""
        compute = self.compute(step)
        number = compute.ranks if ranks is None else ranks
        gpus = number * compute.gpus
        cpus = f"{number} x {compute.cpu} CPUs" if number > 1 else f"{compute.cpu} CPUs"
        plan = StepPlan(
            step=step, where=f"{gpus} x {self.gpu.name.split()[0]}" if gpus else cpus, ranks=number, gpus=gpus
        )
        plan.memory_limit = self.gpu.memory * USABLE_MEMORY if gpus else memory_bytes(compute.memory)
        return plan

    def take_cpu_rate(self, plan: StepPlan, units: float) -> None:
        """The time of a step on two CPU cores, from the rate measured on the toy recipe."""
        rate = CPU_RATES.get(job_of(plan.step))
        plan.seconds = rate.startup + units / rate.per_second if rate else STARTED_SECONDS
        if rate:
            plan.fact("rate", f"{rate.per_second:,.0f} {rate.unit}/s", f"assumed from {rate.measured}")
        plan.core_hours = plan.ranks * cpu_count(self.compute(plan.step).cpu) * plan.seconds / 3_600


def refuse_memory(setting: Setting, plan: StepPlan) -> None:
    """Refuse a step whose rank needs more memory than there is, naming the largest part."""
    device = f"one {setting.gpu.name}" if plan.gpus else f"a pod of {setting.compute(plan.step).memory}"
    needed = memory.total(plan.memory)
    if plan.memory_limit and needed > plan.memory_limit:
        largest = max(plan.memory, key=lambda part: part.size)
        plan.refusals.append(
            f"{plan.step} needs {needed / 1e9:.0f} GB on each rank, {largest.size / 1e9:.0f} GB of them {largest.name}, "
            f"but {device} leaves {plan.memory_limit / 1e9:.0f} GB; {_remedy(largest.name)}."
        )


def _remedy(part: str) -> str:
    remedies = {
        "gradients": "raise zero_stage, or take more memory",
        "moments": "take more ranks or a higher zero_stage",
        "float32 masters": "take more ranks or a higher zero_stage",
        "parameters": "take a smaller model, or GPUs with more memory",
        "activations": "set activation_checkpointing where the job has it, make the micro-batch smaller, or take GPUs with "
        "more memory",
        "logits": "lower the chunk of the loss",
        "rendering": "lower the images that are rendered at once, or take GPUs with more memory",
    }
    default = "make the micro-batch or the sequence smaller, or take GPUs with more memory"
    return remedies.get(part, default)


def human(value: float) -> str:
    """Counts and tokens: 3_276_800_000_000 -> '3.28T', 81_920 -> '81,920'."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def gigabytes(size: float) -> str:
    """Bytes: '16.2 GB', '4.1 TB', '2 MB'."""
    for unit, scale in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def days(seconds: float) -> str:
    """'28.5 days', '3.2 hours', '12 min', '40 s'."""
    for unit, scale in (("days", 86_400), ("hours", 3_600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds:.0f} s"


def joined(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
