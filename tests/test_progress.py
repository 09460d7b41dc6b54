"""Progress: a line with count, rate and time left; JSON lines where a runner listens; silence otherwise."""

import json
from pathlib import Path

import pytest

from arm import progress
from arm.progress import Progress, render, tell, track


def test_a_line_says_how_much_how_fast_and_how_long() -> None:
    # 750 of 1,000 at 50 a second: 250 / 50 = 5 s left
    assert render("train", 750, 1000, 50.0, "loss 2.1") == "train: 750 of 1,000 (50.0/s, 5 s left) loss 2.1"
    assert render("read", 12345, None, 10.0, "") == "read: 12,345 (10.0/s) "


def test_a_runner_gets_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv("ARM_PROGRESS_FILE", str(path))
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)
    assert list(track(range(3), "count", total=3)) == [0, 1, 2]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["name"], line["done"], line["total"]) for line in lines] == [("count", n, 3) for n in (1, 2, 3)]


def test_a_resumed_count_starts_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_PROGRESS_FILE", str(tmp_path / "p"))
    counter = Progress("train", total=10, done=7)
    counter.advance(3, note="loss 1")
    assert json.loads((tmp_path / "p").read_text().splitlines()[-1])["done"] == 10


def test_other_ranks_and_pipes_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ARM_PROGRESS_FILE", raising=False)
    assert not tell(name="x")
    Progress("train", total=1).advance()
    monkeypatch.setenv("ARM_PROGRESS_FILE", str(tmp_path / "p"))
    monkeypatch.setenv("RANK", "1")
    Progress("train", total=1).advance()
    assert not (tmp_path / "p").exists()
    assert capsys.readouterr() == ("", "")
