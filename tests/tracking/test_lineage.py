"""Lineage answers by content: what was made from what, down to the file."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_jobs import MADE_UP

from arm import jobs
from arm.errors import UserError
from arm.jobs import Input
from arm.manifest import Manifest
from arm.tracking import lineage


@pytest.fixture(autouse=True)
def made_up_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    judged = dataclasses.replace(MADE_UP[0], name="judge", makes="verdict", inputs=(Input("source", "judge"),))
    monkeypatch.setattr(jobs, "JOBS", (*MADE_UP, judged))
    monkeypatch.delenv("ARM_LINEAGE_URL", raising=False)
    return


@pytest.fixture
def chain(tmp_path: Path) -> list[Manifest]:
    """first -> second -> third, and a judge over second: files differ by their sums."""
    made: list[Manifest] = []
    for name, job, source in (
        ("first", "count", None),
        ("second", "count", 0),
        ("third", "count", 1),
        ("judged", "judge", 1),
    ):
        inputs = {} if source is None else {"source": made[source].url}
        config = f'{{"num_units": {3 + len(made)}, "factor": {2 + len(made)}}}'
        made.append(jobs.run(job, output=str(tmp_path / name), config=config, inputs=inputs))
    return made


def digests(nodes: list[lineage.Node]) -> set[str]:
    return {node.digest for node in nodes}


def test_upstream_is_everything_before(chain: list[Manifest], tmp_path: Path) -> None:
    first, second, third, _ = chain
    assert digests(lineage.upstream(str(tmp_path), third.digest)) == {first.digest, second.digest}
    assert lineage.upstream(str(tmp_path), first.digest) == []


def test_downstream_is_everything_after(chain: list[Manifest], tmp_path: Path) -> None:
    first, second, third, judged = chain
    assert digests(lineage.downstream(str(tmp_path), first.digest)) == {second.digest, third.digest, judged.digest}


def test_impact_does_not_walk_over_judges(chain: list[Manifest], tmp_path: Path) -> None:
    first, second, third, _ = chain
    assert digests(lineage.impact(str(tmp_path), first.digest)) == {second.digest, third.digest}


def test_an_artifact_is_named_by_digest_folder_or_family(chain: list[Manifest], tmp_path: Path) -> None:
    first, second, third, _ = chain
    for name in (second.digest[:10], second.folder.url, str(tmp_path / "second"), second.url):
        assert digests(lineage.upstream(str(tmp_path), name)) == {first.digest}, name
        assert third.digest in digests(lineage.downstream(str(tmp_path), name)), name
        assert second.digest not in digests(lineage.downstream(str(tmp_path), name)), name


def test_a_file_is_named_by_path_or_checksum(chain: list[Manifest], tmp_path: Path) -> None:
    """units/003.json of `second` (6 + 3·3 = 15.0) lies in second, third and judged; its bytes in second alone."""
    _, second, third, judged = chain
    entry = second.files[-1]
    assert entry.path == "units/003.json"
    assert digests(lineage.impact(str(tmp_path), entry.path)) == {second.digest, third.digest, judged.digest}
    by_checksum = lineage.impact(str(tmp_path), entry.sha256)
    assert digests(by_checksum) == {second.digest, third.digest}
    on_disk = lineage.impact(str(tmp_path), f"{second.folder.url}/{entry.path}")
    assert on_disk == by_checksum


def test_the_unknown_is_one_sentence(chain: list[Manifest], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Lineage knows no artifact or file 'nothing'"):
        lineage.upstream(str(tmp_path), "nothing")


def test_recording_twice_changes_nothing(chain: list[Manifest], tmp_path: Path) -> None:
    before = lineage.downstream(str(tmp_path), chain[0].digest)
    plan = jobs.plan("count", output=str(tmp_path / "first"), config='{"num_units": 3, "factor": 2}', inputs={})
    lineage.note(plan, chain[0])
    lineage.settle(str(tmp_path))
    assert lineage.downstream(str(tmp_path), chain[0].digest) == before


def test_a_database_that_is_away_delays_lineage_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_LINEAGE_URL", f"sqlite:///{tmp_path}/no/such/folder/lineage.db")
    first = jobs.run("count", output=str(tmp_path / "first"))
    second = jobs.run("count", output=str(tmp_path / "second"), inputs={"source": first.url})
    assert len(list((tmp_path / ".tracking" / "lineage").glob("*.json"))) == 2
    monkeypatch.delenv("ARM_LINEAGE_URL")
    assert digests(lineage.upstream(str(tmp_path), second.digest)) == {first.digest}
    assert not list((tmp_path / ".tracking" / "lineage").glob("*.json"))


def test_files_that_no_job_made_are_artifacts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc").write_text("WARC/1.0")
    config = f'{{"paths": ["{tmp_path}/crawl.warc"]}}'
    made = jobs.run("count", output=str(tmp_path / "first"), config=config)
    (outside,) = lineage.upstream(str(tmp_path), made.digest)
    assert (outside.kind, outside.url) == ("outside", f"{tmp_path}/crawl.warc")
    assert digests(lineage.impact(str(tmp_path), outside.digest)) == {made.digest}


def test_what_was_never_published_is_not_recorded(tmp_path: Path) -> None:
    made = jobs.run("count", output=str(tmp_path / "first"))
    plan = jobs.plan("count", output=str(tmp_path / "never"), config='{"factor": 9}', inputs={"source": made.url})
    lineage.note(plan, dataclasses.replace(made, folder=plan.folder, key=plan.key))
    assert lineage.downstream(str(tmp_path), made.digest) == []
