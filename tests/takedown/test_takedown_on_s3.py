"""A takedown in object storage: the same report, the same new versions."""

import json
from pathlib import Path
from typing import Any

import pytest
from takedown_store import UIDS, make_store
from test_storage import moto_address, new_bucket, use_s3

from arm import cli
from arm.data.refusing import refusing
from arm.manifest import load
from arm.storage import open_folder

__all__ = ["moto_address"]


@pytest.mark.slow
def test_a_store_in_object_storage_is_taken_down_like_one_on_disk(
    moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use_s3(moto_address, "key", "secret", tmp_path / "s3", monkeypatch)
    remote, local = new_bucket("takedown"), str(tmp_path / "store")
    make_store(tmp_path / "store")
    for name in open_folder(local).list():
        open_folder(remote).write(name, open_folder(local).read(name))
    found = []
    for store in (remote, local):
        cli.main(["takedown", "--domain", "bad.test", "--compact", "--store", store])
        found.append(_without_places(json.loads(open_folder(store).read("tombstones/reports/00001/impact.json"))))
        assert refusing(load(f"{store}/14-tokenize-images/{'3' * 16}")).tombstones == {UIDS[2], UIDS[7]}
    assert found[0] == found[1]
    for step in ("10-filter-pairs", "11-download-images", "14-tokenize-images"):
        assert load(f"{remote}/{step}").digest == load(f"{local}/{step}").digest


def _without_places(values: Any) -> Any:
    if isinstance(values, dict):
        return {
            name: _without_places(value) for name, value in values.items() if name != "url" or isinstance(value, list)
        }
    return [_without_places(value) for value in values] if isinstance(values, list) else values
