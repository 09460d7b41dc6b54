"""The config of tokenize-images."""

from dataclasses import dataclass, field

from arm.config import operational
from arm.errors import UserError
from arm.records import TASKS
from arm.tokenizer.config.shared import ResolutionConfig


@dataclass(frozen=True, kw_only=True)
class VariantConfig:
    """One set of token shards out of the same decoded images: which tasks it takes, at which resolution."""

    name: str = "default"
    """Folder of its shards, and what `StageConfig.variants` chooses it by."""
    resolution: ResolutionConfig = field(default_factory=ResolutionConfig)
    """The sizes that images are brought to. Default: text-to-image of Table 1's pretraining."""
    tasks: tuple[str, ...] = ()
    """Tasks whose samples it holds; none: all."""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise UserError(
                f"VariantConfig.name is {self.name!r}; give letters, digits, '-' and '_': it names a folder."
            )
        for task in self.tasks:
            if task not in TASKS:
                raise UserError(f"The variant {self.name} names the task {task!r}; known: {', '.join(TASKS)}.")

    def takes(self, task: str) -> bool:
        """Whether it holds samples of that task."""
        return not self.tasks or task in self.tasks


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """tokenize-images."""

    variants: tuple[VariantConfig, ...] = (VariantConfig(),)
    """Each sample goes into every variant that takes its task; an image of the same size in two is encoded once."""
    shards_per_unit: int = 6
    """Consecutive image shards of one source in one file: 6 x 10,000 images of 512 to 1,024 pixels are 256 to 512 MB."""
    batch_size: int = 256
    """Images of one shape encoded at a time: part of the identity, because rounding depends on it."""
    jpeg_draft: bool = False
    """Let the JPEG decoder shrink large images by 2, 4 or 8 in its own domain: faster, but other pixels (off: exact)."""
    check_samples: int = 16
    """Images of a unit whose codes are read back and compared and, given a detokenizer, rendered for their PSNR."""
    min_psnr: float | None = None
    """The job fails when the mean PSNR (dB) of the rendered checks is lower; it needs the input `detokenizer`."""
    max_drift: float = 0.5
    """A unit whose histogram of codes lies farther from all others' (Jensen-Shannon distance, 0 to 1) is named (ours);
    units with less than twice as many codes as are in use are passed over."""
    fail_on_drift: bool = False
    """Whether such a unit fails the job; otherwise it is a warning and a count."""
    max_dropped_share: float = 0.01
    """The job fails when more than this share of the samples holds an unreadable image."""
    threads: int = 2
    """Threads of torch: part of the identity."""
    decode_threads: int = operational(1)
    """Threads that decode and resize ahead of the encoder."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.shards_per_unit, self.decode_threads, self.threads) < 1:
            raise UserError("EncodeConfig needs batch_size, shards_per_unit, threads and decode_threads of at least 1.")
        if not 0 <= self.max_dropped_share < 1 or not 0 <= self.max_drift <= 1 or self.check_samples < 0:
            raise UserError("EncodeConfig needs max_dropped_share in [0, 1), max_drift in [0, 1], check_samples >= 0.")
        if self.min_psnr is not None and self.check_samples == 0:
            raise UserError("EncodeConfig.min_psnr is checked on check_samples images; give at least 1.")
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise UserError(f"EncodeConfig.variants are named {names}; give at least one, each with its own name.")
        for task in TASKS:
            if not any(variant.takes(task) for variant in self.variants):
                raise UserError(f"No variant takes the task {task!r}; its samples would be lost: add it to one.")
