"""The toy judge speaks the reward protocol: asked by the real client, as the child process that a run starts."""

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from arm.data.images import encode_image
from arm.rl.config import RewardConfig
from arm.rl.judging import judge_address
from arm.rl.rewards import Judgeable, JudgeClient, Reward
from arm.toy.judge import quality, verdict_of
from arm.toy.language import describe, edit
from arm.toy.rendering import render
from arm.toy.scene import draw_distinct_scene, draw_scene

CONFIG = RewardConfig(
    judge="toy-verifier",
    module="arm.toy.judge",
    text_to_image={"strict": 0.5, "score": 0.5},
    edit={"strict": 0.5, "score": 0.3, "preservation": 0.2},
    num_retries=0,
)


def png(pixels: np.ndarray) -> bytes:
    return encode_image(pixels).data


@pytest.fixture(scope="module")
def client() -> Iterator[JudgeClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ARM_JUDGE_ADDRESS", raising=False)
        with judge_address(CONFIG) as address:
            found = JudgeClient(address, CONFIG)
            yield found
            found.close()


def edits(count: int, operation: str | None = None) -> Iterator[tuple[str, dict, np.ndarray, np.ndarray]]:
    rng = random.Random("judge")
    for number in range(count):
        scene = draw_distinct_scene(rng, min_objects=2)
        instruction, target, meta = edit(scene, rng, operation=operation)
        source, wanted = render([scene, target], [number, number])
        yield instruction, meta, source, wanted


def test_a_right_image_is_worth_one_and_an_empty_one_nothing(client: JudgeClient) -> None:
    rng = random.Random(3)
    scene = draw_scene(rng, category="color_attr")
    prompt, meta = describe(scene, "color_attr", rng)
    right, empty = render([scene], [0])[0], np.full((36, 36, 3), 220, np.uint8)
    rewards = [
        client.submit(Judgeable(task="text_to_image", prompt=prompt, meta=meta, image=png(image))).result()
        for image in (right, empty)
    ]
    assert [reward.value for reward in rewards] == [1.0, 0.0]


def test_one_of_two_objects_is_worth_a_share(client: JudgeClient) -> None:
    rng = random.Random(4)
    scene = draw_scene(rng, category="color_attr")
    prompt, meta = describe(scene, "color_attr", rng)
    half = render([scene.without(scene.objects[0])], [0])[0]
    reward = client.submit(Judgeable(task="text_to_image", prompt=prompt, meta=meta, image=png(half))).result()
    # score .5 (one of two requirements), not strict: .5 · 0 + .5 · .5
    assert reward.value == pytest.approx(0.25)


def test_an_edit_is_judged_by_instruction_and_by_what_should_stay(client: JudgeClient) -> None:
    rewards: dict[str, list[Reward]] = {"target": [], "source": [], "empty": []}
    for instruction, meta, source, target in edits(10, "recolour"):
        empty = np.full_like(source, 220)
        for name, image in (("target", target), ("source", source), ("empty", empty)):
            item = Judgeable(task="edit", prompt=instruction, meta=meta, image=png(image), source=png(source))
            rewards[name].append(client.submit(item).result())
    assert np.mean([reward.value for reward in rewards["target"]]) > 0.9
    # an untouched source keeps what should stay (.2) and follows nothing
    assert np.mean([reward.value for reward in rewards["source"]]) == pytest.approx(0.2, abs=0.03)
    assert [reward.value for reward in rewards["empty"]] == [0.0] * 10


def test_quality_falls_with_noise() -> None:
    flat = np.full((36, 36, 3), 200, np.uint8)
    checkers = np.indices((36, 36)).sum(0)[..., None].repeat(3, 2) % 2 * 16
    assert quality(flat) == 1.0
    # each pixel lies 16 levels from its four neighbours: 1 − 16/32
    assert quality(checkers.astype(np.uint8)) == 0.5
    assert quality((checkers * 8).astype(np.uint8)) == 0.0


def test_an_image_that_cannot_be_read_is_unscorable_not_zero(client: JudgeClient) -> None:
    item = Judgeable(task="text_to_image", prompt="a circle", meta={"include": []}, image=b"no png")
    reward = client.submit(item).result()
    assert reward.value is None
    assert reward.reason.startswith("unscorable")


@pytest.mark.parametrize("request_", [{}, {"task": "dance"}, {"task": "edit", "image": 3, "meta": None}])
def test_a_request_that_makes_no_sense_is_unscorable(request_: dict) -> None:
    assert verdict_of(request_)["outcome"] == "unscorable"


def test_the_judge_dies_with_the_run_that_started_it(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal, sys, time
        from arm.rl.config import RewardConfig
        from arm.rl.judging import judge_address
        with judge_address(RewardConfig(judge="t", module="arm.toy.judge")) as address:
            print(address, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60)
    address = killed.stdout.strip()
    assert killed.returncode == -9
    deadline = time.monotonic() + 5
    client = JudgeClient(address, CONFIG)
    item = Judgeable(task="text_to_image", prompt="a", meta={"include": []}, image=b"")
    while "no answer" not in client.submit(item).result().reason and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "no answer" in client.submit(item).result().reason
