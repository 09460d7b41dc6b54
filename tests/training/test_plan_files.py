"""The plan in files: segments with cursors, any row of them, digests, and writers that are killed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_index import CountedIndex, mixture_of

from arm.errors import IntegrityError
from arm.storage import LocalFolder
from arm.training.config import EpochLimit, MixtureConfig
from arm.training.plan import files
from arm.training.plan.files import PlanFiles, PlanWriter, num_segments, plan_identity, recomputed_digest
from arm.training.plan.planner import Planner, StageShape
from arm.training.plan.rows import COLUMNS, Rows

INDEX = CountedIndex({"text": [3, 9, 20], "text_to_image": [11, 14]}, num_shards=30)
MIXTURE = mixture_of({"text_only": 0.5, "text_to_image": 0.5}, window_rows=8, shuffle_shards=4)
STAGE = StageShape(steps=50, rows_per_step=3, sequence_length=40, segment_steps=16)
NAMES = [INDEX.name(number) for number in range(INDEX.num_shards)]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP_ROWS", 15)


def write(folder: Path, mixture: MixtureConfig = MIXTURE, segments: range | None = None) -> PlanFiles | None:
    """Write segments as one process would; the plan, where it is whole."""
    identity = plan_identity(INDEX, mixture, STAGE, seed=0)
    planner, output = Planner(INDEX, mixture, STAGE, seed=0), LocalFolder(folder)
    writer = PlanWriter(planner, STAGE, identity=identity, names=NAMES, folder=output)
    for number in segments or range(num_segments(STAGE)):
        writer.write(number)
    return None if segments else PlanFiles(output, STAGE, NAMES, identity=identity)


def written(folder: Path, **changes: Any) -> PlanFiles:
    plan = write(folder, **changes)
    assert plan is not None
    return plan


def test_any_rows_are_those_that_the_planner_makes(tmp_path: Path) -> None:
    plan, whole = written(tmp_path), Planner(INDEX, MIXTURE, STAGE, seed=0).take(STAGE.num_rows)
    assert plan.num_rows == len(whole) == 150
    for first, last in ((0, 3), (147, 150), (45, 51), (10, 100)):  # 48 begins the second segment
        read, wanted = plan.rows(first, last), whole.part(first, last)
        assert read.digest() == wanted.digest()
        assert all(getattr(read, name).dtype == np.dtype(kind) for name, kind in COLUMNS.items())


@pytest.mark.parametrize("missing", ["cursor-00002.json", "totals-00001.json"])
def test_a_killed_writer_goes_on_and_the_files_are_the_same(tmp_path: Path, missing: str) -> None:
    """A segment's rows are written first, then its totals, then the cursor of the next."""
    whole = written(tmp_path / "whole")
    write(tmp_path / "killed", segments=range(2))
    (tmp_path / "killed" / "plan" / missing).unlink()
    assert written(tmp_path / "killed").digest == whole.digest
    names = sorted(path.name for path in (tmp_path / "whole" / "plan").iterdir())
    assert len(names) == 4 + 4 + 4
    for name in names:
        assert (tmp_path / "whole" / "plan" / name).read_bytes() == (tmp_path / "killed" / "plan" / name).read_bytes()


def test_a_writer_killed_after_a_kind_has_ended_goes_on_with_all_that_was_counted(tmp_path: Path) -> None:
    """Texts end in the first segment, one of each shard too long; the writer is killed twice after that."""
    index = CountedIndex({"text": [10] * 9 + [99], "text_to_image": [12] * 40}, num_shards=4)
    limits = {"text": EpochLimit(max_epochs=1, at_end="renormalise")}
    mixture = mixture_of({"text_only": 0.5, "text_to_image": 0.5}, limits=limits)
    stage = StageShape(steps=40, rows_per_step=4, sequence_length=60, segment_steps=5)

    def go_on(folder: Path, until: int) -> None:
        made = Planner(index, mixture, stage, seed=0)
        writer = PlanWriter(made, stage, identity="x", names=NAMES, folder=LocalFolder(folder))
        for number in range(until):
            writer.write(number)

    go_on(tmp_path / "whole", 8)
    for until in (3, 6, 8):
        go_on(tmp_path / "killed", until)
    names = sorted(path.name for path in (tmp_path / "whole" / "plan").iterdir())
    for name in names:
        assert (tmp_path / "whole" / "plan" / name).read_bytes() == (tmp_path / "killed" / "plan" / name).read_bytes()
    assert json.loads((tmp_path / "killed/plan/totals-00007.json").read_text())["too_long"] == {"text": 4}


def test_a_group_of_over_a_million_documents_is_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet's writer begins another row group after 1,048,576 rows unless told otherwise: short documents in long rows."""
    monkeypatch.setattr(files, "GROUP_ROWS", 8)
    row, stage = 150_000, StageShape(steps=10, rows_per_step=1, sequence_length=150_000)

    class Short:
        """A planner whose documents are all one token long."""

        stopped, at, too_long = False, 0, {}

        def state(self) -> dict[str, Any]:
            return {}

        def take(self, num_rows: int) -> Rows:
            count, first = num_rows * row, self.at * row
            self.at += num_rows
            columns = {name: np.zeros(count, kind) for name, kind in COLUMNS.items()}
            columns |= {"rows": np.arange(first, first + count, dtype=np.int32), "lengths": np.ones(count, np.int32)}
            return Rows(**columns, selected=np.full(count, -1), starts=np.arange(num_rows + 1) * row)

    PlanWriter(Short(), stage, identity="x", names=NAMES, folder=LocalFolder(tmp_path)).write(0)  # type: ignore[arg-type]
    plan = PlanFiles(LocalFolder(tmp_path), stage, NAMES, identity="x")
    for step in (0, 6, 7, 8, 9):
        assert plan.rows(step, step + 1).rows.tolist() == list(range(step * row, (step + 1) * row))


def test_rows_of_another_plan_are_not_taken_for_those_of_the_totals_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another plan's writer is killed after its first rows: the totals that lay there vouch for nothing any more."""
    wanted, keep = written(tmp_path).rows(0, 3).digest(), LocalFolder.write
    other = mixture_of({"text_only": 0.4, "text_to_image": 0.6}, window_rows=8, shuffle_shards=4)

    def killed(folder: LocalFolder, name: str, data: bytes) -> None:
        if "totals" in name:
            raise KeyboardInterrupt
        keep(folder, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, mixture=other)
    assert written(tmp_path).rows(0, 3).digest() == wanted


def test_opening_a_plan_reads_its_totals_and_no_rows(tmp_path: Path) -> None:
    digest = written(tmp_path).digest
    for path in (tmp_path / "plan").glob("rows-*"):
        path.write_bytes(b"")
    assert (
        PlanFiles(LocalFolder(tmp_path), STAGE, NAMES, identity=plan_identity(INDEX, MIXTURE, STAGE, seed=0)).digest
        == digest
    )


def test_a_segment_can_be_made_again_from_its_cursor_alone(tmp_path: Path) -> None:
    plan = written(tmp_path)
    for number, values in enumerate(plan.segments):
        planner = Planner(INDEX, MIXTURE, STAGE, seed=0)
        assert recomputed_digest(LocalFolder(tmp_path), number, planner, STAGE) == values["digest"]
    other = Planner(INDEX, MIXTURE, STAGE, seed=1)
    assert recomputed_digest(LocalFolder(tmp_path), 1, other, STAGE) != plan.segments[1]["digest"]


def test_a_plan_of_another_mixture_is_written_over_and_never_read(tmp_path: Path) -> None:
    other = mixture_of({"text_only": 0.4, "text_to_image": 0.6}, window_rows=8, shuffle_shards=4)
    before = written(tmp_path, mixture=other)
    with pytest.raises(IntegrityError, match="holds no plan of this stage"):
        PlanFiles(LocalFolder(tmp_path), STAGE, NAMES, identity=plan_identity(INDEX, MIXTURE, STAGE, seed=0))
    assert written(tmp_path).digest != before.digest


def test_a_stage_that_a_source_stops_has_whole_steps_only(tmp_path: Path) -> None:
    """30 shards with texts of 3 + 9 + 20 tokens are 960 tokens, half of all: 1,920 tokens are 48 full rows of 40."""
    limits = {"text": EpochLimit(max_epochs=1, at_end="stop")}
    mixture = mixture_of({"text_only": 0.5, "text_to_image": 0.5}, window_rows=8, limits=limits)
    plan = written(tmp_path, mixture=mixture)
    assert plan.num_rows % 3 == 0
    assert 45 <= plan.num_rows <= 57
    assert plan.segments[0]["tokens"]["text"] <= 960
    assert written(tmp_path, mixture=mixture).digest == plan.digest
