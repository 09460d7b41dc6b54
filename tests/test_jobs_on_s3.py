"""The same jobs with their store in object storage: the same digests, resumed from another machine's cache."""

import json
from pathlib import Path

import pytest
from made_up_jobs import MADE_UP
from test_storage import moto_address, new_bucket, swift_address, use_s3

from arm import jobs, manifest
from arm.errors import IntegrityError
from arm.storage import open_folder
from arm.tracking import lineage

__all__ = ["moto_address", "swift_address"]


@pytest.fixture(params=["moto", pytest.param("swift", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store in a bucket; everything local goes below the test's own folder."""
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = request.getfixturevalue(f"{request.param}_address")
    key, secret = ("key", "secret") if request.param == "moto" else ("test:tester", "testing")
    use_s3(address, key, secret, tmp_path / "s3", monkeypatch)
    return new_bucket(f"jobs-{abs(hash(str(tmp_path))):x}")


def test_a_chain_in_object_storage_has_the_digests_of_one_on_disk(store: str, tmp_path: Path) -> None:
    for place in (store, str(tmp_path / "local")):
        first = jobs.run("count", output=f"{place}/01-count")
        jobs.run("count", output=f"{place}/02-count", inputs={"source": first.url})
    remote, local = (manifest.load(f"{place}/02-count") for place in (store, str(tmp_path / "local")))
    assert remote.digest == local.digest
    assert remote.local("units/002.json").read_bytes() == local.local("units/002.json").read_bytes()


def test_what_another_machine_made_is_read_and_not_made_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs.run("count", output=f"{store}/01-count")
    monkeypatch.setenv("ARM_CACHE_DIR", str(tmp_path / "another-machine"))
    again = jobs.run("count", output=f"{store}/01-count")
    assert again == made
    assert again.local_folder("units").is_relative_to(tmp_path / "another-machine")


def test_a_killed_runs_units_are_kept(store: str) -> None:
    plan = jobs.plan("count", output=f"{store}/01-count", inputs={})
    plan.folder.write("units/001.json", b"41")
    assert jobs.execute(plan).local("units/001.json").read_text() == "41"


def test_an_altered_object_is_named(store: str) -> None:
    made = jobs.run("count", output=f"{store}/01-count")
    open_folder(made.folder.url).write("units/001.json", b"9.9")
    with pytest.raises(IntegrityError, match=rf"{made.folder.url}/units/001.json is altered"):
        made.local("units/001.json")


def test_lineage_of_a_remote_store_lies_in_the_cache(store: str) -> None:
    first = jobs.run("count", output=f"{store}/01-count")
    second = jobs.run("count", output=f"{store}/02-count", inputs={"source": first.url})
    assert [node.url for node in lineage.upstream(store, second.digest)] == [first.folder.url]


def test_the_pointer_is_an_object_beside_the_outputs(store: str) -> None:
    made = jobs.run("count", output=f"{store}/01-count")
    pointer = json.loads(open_folder(f"{store}/01-count").read("current.json"))
    assert pointer["digest"] == made.digest
