"""Engines agree with plain PyTorch at every ZeRO stage, and their state fits any number of ranks, stage and engine."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import engine_runs
import pytest
import torch

from arm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "tests/engine_runs.py")
STEPS = 20
HALF = STEPS // 2
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"engine": "torch"},
    **{f"zero-{stage}": {"zero_stage": stage} for stage in (0, 1, 2, 3)},
}
FLOAT32_SUMS: dict[str, dict[str, Any]] = {
    name: {**config, "dtype": "bfloat16", "gradient_dtype": "float32"}
    for name, config in ENGINES.items()
    if name != "zero-0"
}
"""Engines that add up gradients of bfloat16 in float32."""
CUT = ("zero-1", "zero-3")
"""Engines that run on two ranks in the quick tests; the others in the slow one."""
ROWS: dict[str, dict[str, Any]] = {
    "a row a rank": {},
    "rows shared": {"sequence_parallel": 2},
    "rows shared, zero-3": {"sequence_parallel": 2, "zero_stage": 3, "recompute": True},
}
"""A language model on two ranks."""
MUON = {"optimizer": "muon"}
LONE = """
import os
import torch
from arm.training.engine import Engine
from arm.training.engine_config import EngineConfig
before = set(os.environ)
engine = Engine(torch.nn.Linear(2, 1), EngineConfig(dtype="float32"))
engine.mark(last=True)
weight = engine.module.weight.detach().clone()
engine.backward(engine(torch.ones(1, 2)).sum())
engine.step(0.1)
assert not torch.equal(engine.module.weight, weight)
print("LEFT", {"MASTER_PORT", "MASTER_ADDR", "RANK", "WORLD_SIZE"} & (set(os.environ) - before))
"""


def environment(**changes: str) -> dict[str, str]:
    """This one without what a launcher sets."""
    unset = ("MASTER_PORT", "MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


def two_ranks(folder: Path, plan: list[tuple[str, dict[str, Any], str, tuple[int, int]]]) -> None:
    """Run a plan of (name, config, source of its state, steps) in two processes."""
    torch.save(plan, folder / "plan.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(folder)],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **shared),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in processes:
        error = process.communicate(timeout=900)[1]
        assert process.returncode == 0, error.decode()[-3000:]


@pytest.fixture(scope="module")
def reference() -> list[float]:
    """Losses of plain PyTorch on one rank."""
    return engine_runs.train(engine_runs.engine(**ENGINES["torch"]), range(STEPS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every engine on two ranks; runs saved in the middle; runs that go on from one rank's state."""
    path = tmp_path_factory.mktemp("runs")
    for name in ("torch", "zero-2"):
        one = engine_runs.engine(**ENGINES[name], ema_decay=0.9)
        engine_runs.train(one, range(HALF))
        torch.save(one.state_dict(), path / f"one-{name}-0.pt")
    whole = [(name, ENGINES[name], "", (0, STEPS)) for name in CUT]
    halves = [(f"half-{name}", {**ENGINES[name], "ema_decay": 0.9}, "", (0, HALF)) for name in CUT]
    resumed = [
        ("again-zero-1", ENGINES["zero-1"] | {"ema_decay": 0.9}, "half-zero-1", (HALF, STEPS)),
        ("straight-zero-1", ENGINES["zero-1"] | {"ema_decay": 0.9}, "", (0, STEPS)),
        ("onward-zero-3", ENGINES["zero-3"] | {"ema_decay": 0.9}, "one-torch", (HALF, STEPS)),
        ("onward-zero-1", ENGINES["zero-1"] | {"ema_decay": 0.9}, "one-zero-2", (HALF, STEPS)),
    ]
    rows = [(name, run, "language model", (0, 4)) for name, run in ROWS.items()]
    sums = [(f"sum-{name}", config, "slopes", (0, 1)) for name, config in FLOAT32_SUMS.items()]
    two_ranks(path, [*whole, *halves, *resumed, *rows, *sums])
    return path


def test_a_lone_process_trains_without_a_port_and_leaves_none_behind() -> None:
    done = subprocess.run([sys.executable, "-c", LONE], env=environment(), capture_output=True, text=True, timeout=900)
    assert "LEFT set()" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize("name", list(ENGINES))
def test_one_rank_has_the_losses_of_plain_pytorch(name: str, reference: list[float]) -> None:
    losses = engine_runs.train(engine_runs.engine(**ENGINES[name]), range(STEPS))
    assert losses[-1] < losses[0] / 3
    assert losses == pytest.approx(reference, abs=2e-6)


@pytest.mark.parametrize("name", list(ENGINES))
def test_small_gradients_vanish_beside_large_ones_in_bfloat16(name: str) -> None:
    """Eight bits are significant: 256 and 258 are neighbours, and 256 + 1, halfway, is rounded to 256."""
    assert engine_runs.gradient([256, 1, 1, 1], **ENGINES[name]) == 256


@pytest.mark.parametrize("name", list(FLOAT32_SUMS))
def test_float32_sums_lose_no_gradient_of_a_micro_batch_or_rank(name: str, folder: Path) -> None:
    assert engine_runs.gradient([256, 1, 1, 1], **FLOAT32_SUMS[name]) == 259
    assert torch.load(folder / f"sum-{name}-losses.pt", weights_only=True) == [258]


@pytest.mark.parametrize("name", ["zero-1", "zero-2", "zero-3"])
def test_float32_sums_make_engines_in_bfloat16_agree(name: str) -> None:
    plain, losses = (
        engine_runs.train(engine_runs.engine(**FLOAT32_SUMS[which]), range(STEPS)) for which in ("torch", name)
    )
    assert losses == pytest.approx(plain, abs=2e-6)


@pytest.mark.parametrize("name", CUT)
def test_two_ranks_have_the_losses_of_one(name: str, reference: list[float], folder: Path) -> None:
    losses = torch.load(folder / f"{name}-losses.pt", weights_only=True)
    assert losses == pytest.approx(reference, abs=5e-6)


def test_the_digest_does_not_depend_on_how_the_numbers_are_cut(folder: Path) -> None:
    """Saved by two ranks that each hold half of everything, read by one rank that holds all, parameter by parameter."""
    saved = engine_runs.parts(folder, "zero-1")
    for name in ("torch", "zero-3"):
        made = engine_runs.engine(**ENGINES[name])
        made.load_state_dict(saved)
        assert made.state_dict()["digest"] == saved[0]["digest"] == saved[1]["digest"]


def test_parts_hold_every_number_once(folder: Path) -> None:
    """12 x 7 + 7 + 7 + 7 x 5 + 5 + 1 = 139 weights learn; the frozen scale is not saved, the buffer is."""
    for name in CUT:
        saved = engine_runs.parts(folder, name)
        sizes = [sum(len(one["weights"]) for one in part["fragments"]) for part in saved]
        assert sum(sizes) == 139
        assert min(sizes) > 50
        assert saved[0]["buffers"]["seen"].tolist() == [2 * STEPS]


def test_two_ranks_go_on_from_their_own_parts_with_the_same_bits(folder: Path) -> None:
    again, straight = engine_runs.parts(folder, "again-zero-1"), engine_runs.parts(folder, "straight-zero-1")
    assert again[0]["digest"] == straight[0]["digest"]
    for mine, theirs in zip(again, straight, strict=True):
        for a, b in zip(mine["fragments"], theirs["fragments"], strict=True):
            assert torch.equal(a["weights"], b["weights"])
            assert all(
                torch.equal(a["moments"][key], b["moments"][key]) for key in ("exp_avg", "exp_avg_sq", "average")
            )


@pytest.mark.parametrize(
    ("source", "name"), [("half-zero-1", "zero-3"), ("half-zero-3", "torch"), ("half-zero-3", "zero-0")]
)
def test_one_rank_goes_on_from_two(source: str, name: str, folder: Path, reference: list[float]) -> None:
    made = engine_runs.engine(**ENGINES[name], ema_decay=0.9)
    made.load_state_dict(engine_runs.parts(folder, source))
    assert engine_runs.train(made, range(HALF, STEPS)) == pytest.approx(reference[HALF:], abs=5e-6)


@pytest.mark.parametrize("name", ["onward-zero-3", "onward-zero-1"])
def test_two_ranks_go_on_from_one(name: str, folder: Path, reference: list[float]) -> None:
    losses = torch.load(folder / f"{name}-losses.pt", weights_only=True)
    assert losses == pytest.approx(reference[HALF:], abs=5e-6)


@pytest.mark.parametrize("name", list(ROWS))
def test_packed_rows_dealt_to_ranks_or_split_among_them_have_the_losses_of_one_rank(name: str, folder: Path) -> None:
    alone = engine_runs.language_model(engine="torch")
    losses = torch.load(folder / f"{name}-losses.pt", weights_only=True)
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(alone, abs=2e-5)


def test_what_does_not_belong_together_is_refused(folder: Path) -> None:
    first, second = engine_runs.parts(folder, "half-zero-1")
    with pytest.raises(UserError, match=r"holds 20 of 35 numbers of lm_head\.weight; give the parts of all its ranks"):
        engine_runs.engine(ema_decay=0.9).load_state_dict([first])
    with pytest.raises(UserError, match="several digests"):
        engine_runs.engine().load_state_dict([first, engine_runs.parts(folder, "zero-1")[1]])
    with pytest.raises(UserError, match="differ in ema_decay"):
        engine_runs.engine().load_state_dict([first, second])
    with pytest.raises(UserError, match="run in float32, this one computes in bfloat16"):
        engine_runs.engine(dtype="bfloat16", ema_decay=0.9).load_state_dict([first, second])
    with pytest.raises(UserError, match="not of format 2"):
        engine_runs.engine().load_state_dict([{"masters": []}])


def test_one_changed_bit_is_noticed(folder: Path) -> None:
    saved = engine_runs.parts(folder, "zero-1")
    moment = saved[1]["fragments"][0]["moments"]["exp_avg"].clone()
    moment[3:4].view(torch.int32).bitwise_xor_(1)
    saved[1]["fragments"][0]["moments"]["exp_avg"] = moment
    with pytest.raises(UserError, match="damaged or of several runs"):
        engine_runs.engine().load_state_dict(saved)


@pytest.mark.parametrize(
    "config", [*(ENGINES[name] for name in ("torch", "zero-0", "zero-1", "zero-3")), *FLOAT32_SUMS.values()]
)
def test_a_gradient_that_is_not_finite_leaves_the_step_out(config: dict[str, Any]) -> None:
    made = engine_runs.engine(**config, ema_decay=0.9)
    engine_runs.train(made, range(2))
    before = made.state_dict()
    made.mark(last=True)
    made.backward(made(*engine_runs.data(2)) * float("inf"))
    made.step(0.01)
    after = made.state_dict()
    assert (made.skipped_steps, after["average_updates"]) == (1, 2)
    assert after["digest"] == before["digest"]


@pytest.mark.parametrize(
    "config",
    [{"engine": "torch"}, {"zero_stage": 1, "dtype": "bfloat16"}, FLOAT32_SUMS["zero-1"], {"zero_stage": 3}],
)
def test_the_average_follows_the_float32_weights_and_can_take_their_place(config: dict[str, Any]) -> None:
    """Decay .9 grows from (1 + n) / (10 + n): the first two steps count with .9 and 9/11."""
    made = engine_runs.engine(**config, ema_decay=0.9)
    steps = [engine_runs.engine(**config), *[made] * 2]
    start = weights(steps[0].state_dict())
    expected = start
    for number, decay in ((0, 1 / 10), (1, 2 / 11)):
        engine_runs.train(made, range(number, number + 1))
        now = weights(made.state_dict())
        expected = {name: decay * old + (1 - decay) * now[name] for name, old in expected.items()}
    made.use_average()
    found = weights(made.state_dict())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    with made.whole_module() as module:
        assert torch.equal(module.first.weight.flatten().float(), found["first.weight"].to(module.first.weight.dtype))


def weights(part: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of one rank's part by name."""
    return {one["name"]: one["weights"] for one in part["fragments"]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["zero-0", "zero-1", "zero-2"])
def test_muon_has_the_losses_of_plain_pytorch(name: str, dtype: str) -> None:
    config = {"dtype": dtype, **MUON}
    plain = engine_runs.train(engine_runs.engine(engine="torch", **config), range(5))
    losses = engine_runs.train(engine_runs.engine(**ENGINES[name], **config), range(5))
    assert losses == pytest.approx(plain, rel=1e-2)


def test_muon_under_zero_3_is_refused() -> None:
    with pytest.raises(UserError, match="Muon needs whole matrices and ZeRO stage 3 cuts each"):
        engine_runs.engine(zero_stage=3, **MUON)


@pytest.mark.slow
def test_every_engine_dtype_and_optimizer_on_two_ranks(tmp_path: Path) -> None:
    """Losses within what the type resolves, and a state of two ranks that one reads to the bit."""
    runs = {f"{name}-fp32": ENGINES[name] for name in ("torch", "zero-0", "zero-2")}
    runs |= {f"{name}-bf16": {**config, "dtype": "bfloat16"} for name, config in ENGINES.items()}
    runs |= {f"{name}-bf16-float32-sums": config for name, config in FLOAT32_SUMS.items()}
    runs |= {f"{name}-float32-sums-muon": {**FLOAT32_SUMS[name], **MUON} for name in ("torch", "zero-1", "zero-2")}
    runs |= {f"{name}-muon": {**ENGINES[name], **MUON} for name in ("torch", "zero-0", "zero-1", "zero-2")}
    two_ranks(tmp_path, [(name, config, "", (0, STEPS)) for name, config in runs.items()])
    for name, config in runs.items():
        plain = engine_runs.train(engine_runs.engine(**{**config, "engine": "torch"}), range(STEPS))
        losses = torch.load(tmp_path / f"{name}-losses.pt", weights_only=True)
        margin = {"abs": 5e-6} if name.endswith("fp32") else {"rel": 5e-2, "abs": 2e-2}
        assert losses == pytest.approx(plain, **margin), name
        saved = engine_runs.parts(tmp_path, name)
        made = engine_runs.engine(**{**config, "engine": "torch"})
        made.load_state_dict(saved)
        assert made.state_dict()["digest"] == saved[0]["digest"]
