"""The engine of policy training: as many backward passes in a step as the step's useful groups need."""

from arm.rl.config import PolicyConfig
from arm.training.engine import Engine, EngineConfig


class PolicyEngine(Engine):
    """The training engine, told which pass is a step's last instead of counting them."""

    def mark(self, *, last: bool) -> None:
        """Say before a forward pass whether its backward is the last of this step."""
        self._engine.set_gradient_accumulation_boundary(last)


def engine_config(config: PolicyConfig) -> EngineConfig:
    """The engine of a stage; its learning rate comes with each step."""
    return EngineConfig(
        betas=config.betas,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        dtype=config.dtype,
    )
