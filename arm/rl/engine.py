"""The engine of policy training: the trainer's, set as a stage of GRPO asks."""

from arm.device import computing_dtype
from arm.rl.config import PolicyConfig
from arm.training.engine_config import EngineConfig


def engine_config(config: PolicyConfig) -> EngineConfig:
    """The engine of a stage; its learning rate comes with each step."""
    return EngineConfig(
        betas=config.betas,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        dtype=computing_dtype(config.dtype),
    )
