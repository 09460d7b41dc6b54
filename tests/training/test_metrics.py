"""What is measured: losses by kind and modality, sizes of logits, shares of tokens, whatever the ranks and kills."""

import pytest
import torch

from arm.model.documents import KINDS
from arm.training.config import KindWeights, MixtureConfig, StageConfig
from arm.training.loss import MODALITIES, SUMMED, target_weights
from arm.training.metrics import KindCounts, Meter, logit_sizes, mean_losses, mean_share, target_shares

EDIT, DRAWN, CAPTION = (KINDS.index(kind) for kind in ("edit", "text_to_image", "caption"))
CONFIG = StageConfig(steps=10, rows_per_step=2, sequence_length=50, kind_weights=KindWeights(edit=3.0))


def table(**columns: dict[tuple[int, int], float]) -> torch.Tensor:
    """Sums (D, K, C) with these entries."""
    made = torch.zeros(len(MODALITIES), len(KINDS), len(SUMMED), dtype=torch.float64)
    for name, entries in columns.items():
        for place, value in entries.items():
            made[place][SUMMED.index(name)] = value
    return made


SUMS = table(
    targets={(0, EDIT): 2, (0, DRAWN): 2, (1, CAPTION): 1},
    loss={(0, EDIT): 6, (0, DRAWN): 4, (1, CAPTION): 5},
    log_normaliser={(0, EDIT): 8, (0, DRAWN): 4, (1, CAPTION): 2},
    squared_log_normaliser={(0, EDIT): 32, (0, DRAWN): 8, (1, CAPTION): 4},
    measured={(0, EDIT): 1},
    squared_logits={(0, EDIT): 9},
)


def test_mean_losses_by_modality_and_kind() -> None:
    assert mean_losses(SUMS, prefix="held_out") == {
        "held_out/codes": 2.5, "held_out/edit/codes": 3.0, "held_out/text_to_image/codes": 2.0,
        "held_out/text": 5.0, "held_out/caption/text": 5.0,
    }  # fmt: skip


def test_the_whole_loss_is_a_mean_under_the_weights() -> None:
    """Edits weigh 3: (3·6 + 4 + 5) / (3·2 + 2 + 1) = 3."""
    assert mean_losses(SUMS, target_weights(CONFIG).double())["loss"] == 3.0


def test_sizes_of_logits_by_modality() -> None:
    """z: 12 over 4 targets; z²: 40 over 4; a mean square of 9 over one measured target is a norm of 3."""
    assert logit_sizes(SUMS) == {
        "log_normaliser/codes": 3.0, "z_loss/codes": 10.0, "logit_norm/codes": 3.0, "log_normaliser/text": 2.0, "z_loss/text": 4.0,
    }  # fmt: skip


def test_the_mean_of_a_share_is_its_integral() -> None:
    falling = ((0.0, 0.7), (1.0, 0.5))
    assert mean_share(falling, 0.0) == 0.7
    assert mean_share(falling, 0.5) == pytest.approx(0.65)
    assert mean_share(falling, 1.0) == pytest.approx(0.6)
    bent = ((0.0, 0.2), (0.5, 0.4))  # rises to the middle, then stays: (.5·.3 + .5·.4)
    assert mean_share(bent, 1.0) == pytest.approx(0.35)


def test_targets_of_kinds_add_up_to_one() -> None:
    found = target_shares(MixtureConfig(), 0.3)
    assert tuple(found) == KINDS
    assert sum(found.values()) == pytest.approx(1.0)
    assert (found["question"], found["edit"]) == pytest.approx((0.07, 0.04))


def test_counts_survive_their_way_through_plain_numbers() -> None:
    counts = KindCounts(torch.arange(14).view(2, 7), torch.arange(7) * 10)
    again = KindCounts.from_list(counts.to_list())
    assert torch.equal(again.targets_DK, counts.targets_DK)
    assert torch.equal(again.tokens_K, counts.tokens_K)


def counts(**tokens: int) -> KindCounts:
    """Tokens by kind, each with one code target."""
    found = torch.tensor([tokens.get(kind, 0) for kind in KINDS])
    return KindCounts(torch.stack([(found > 0).long(), torch.zeros_like(found)]), found)


def test_shares_are_of_all_that_was_read_and_losses_of_the_last_window(alone: None) -> None:
    """Two rows of 50 a step. Step 1 reads 60 + 40 of 100 places, step 2 reads 80: shares 60 and 120 of 180, fill .9."""
    meter = Meter(CONFIG)
    assert meter.count(counts(edit=60, caption=40)) == 3 + 1  # the weights of one target each
    meter.add(SUMS)
    first = meter.entry(1)
    assert (first["share/edit"], first["fill"], first["loss"]) == (0.6, 1.0, 3.0)
    meter.count(counts(caption=80))
    meter.add(2 * table(targets={(1, CAPTION): 2}, loss={(1, CAPTION): 8}))
    second = meter.entry(2)
    assert second["share/edit"] == pytest.approx(60 / 180)
    assert (second["fill"], second["loss"], second["loss/caption/text"]) == (0.9, 4.0, 4.0)
    assert "loss/codes" not in second


def test_a_meter_goes_on_where_it_was_saved(alone: None) -> None:
    entries = []
    for killed in (False, True):
        meter = Meter(CONFIG)
        meter.count(counts(edit=60))
        meter.add(SUMS)
        if killed:
            state, meter = meter.state_dict(), Meter(CONFIG)
            meter.load_state_dict(state)
        meter.count(counts(caption=10))
        meter.add(SUMS)
        entries.append(meter.entry(2))
    assert entries[0] == entries[1]


def test_another_rank_takes_the_windows_of_those_it_replaces(alone: None) -> None:
    """One rank goes on for two: its first entry is the mean over both windows, not over one."""
    states = []
    for sums in (
        table(targets={(0, EDIT): 1}, loss={(0, EDIT): 2}),
        table(targets={(0, EDIT): 3}, loss={(0, EDIT): 2}),
    ):
        meter = Meter(CONFIG)
        meter.count(counts(edit=60))
        meter.add(sums)
        states.append(meter.state_dict())
    meter = Meter(CONFIG)
    meter.load_state_dict(states[0], states)
    assert meter.entry(1)["loss"] == 1.0
    meter.load_state_dict(states[0], [])  # a rank that takes nobody's place
    assert "loss" not in meter.entry(1)
