"""img2dataset's workers: what they keep from shard to shard."""

import os
from pathlib import Path

import pytest

from arm.data import downloader
from arm.data.guard import Policy


def test_a_worker_has_one_guard_and_opens_no_file_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloader, "_guards", {})
    policy = Policy(user_agent="arm-platform/0.1 (test)", hosts=str(tmp_path / "hosts"))
    first, before = downloader.guard_of(policy), len(os.listdir("/proc/self/fd"))
    others = [downloader.guard_of(policy) for _ in range(3)]
    assert all(guard is first for guard in others)
    assert len(os.listdir("/proc/self/fd")) == before
