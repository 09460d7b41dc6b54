"""One rank of an update under DeepSpeed: makes rollouts with its share of the prompts, learns, writes the weights.

python one_update.py OUT.pt        RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT from the environment
"""

import sys

import torch
from tiny_policy import VOCABULARY, build_rig, tiny_config, tiny_model, tiny_policy  # type: ignore[import-not-found]

from arm.rl.engine import engine_config
from arm.rl.learner import Learner
from arm.rl.loop import State, collect
from arm.rl.rewards import Judgeable, Reward
from arm.training.engine import Engine, num_ranks, rank


def by_first_byte(item: Judgeable) -> Reward:
    return Reward(value=(sum(item.image) % 101) / 101)


def main(path: str) -> None:
    config = tiny_config(dtype="float32", prompts_per_step=5, learn_batch=3, updates_per_step=2)
    model = tiny_model()
    rig = build_rig(by_first_byte, config, model)
    engine = Engine(tiny_policy(model), engine_config(config))
    learner = Learner(engine, tiny_policy(tiny_model()), rig.learner._prompt_ids, config, rank(), num_ranks())
    collected = collect(rig.maker, rig.stream, State(), config, rank(), num_ranks(), 0)
    metrics = learner.update(*collected.lessons())
    codes = [rollout.codes.tolist() for rollout in collected.rollouts]
    if rank() == 0:
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        torch.save({"weights": weights, "metrics": metrics, "codes": codes}, path)


assert VOCABULARY.num_codes
main(sys.argv[1])
