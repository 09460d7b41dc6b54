"""Lineage answers by content: what was made from what, down to the file."""

import dataclasses
import hashlib
import json
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


def test_a_file_is_named_by_checksum_or_full_path(chain: list[Manifest], tmp_path: Path) -> None:
    """The bytes of units/003.json of `second` (6 + 3·3 = 15.0) lie in second alone."""
    _, second, third, _ = chain
    entry = second.files[-1]
    assert entry.path == "units/003.json"
    by_checksum = lineage.impact(str(tmp_path), entry.sha256)
    assert digests(by_checksum) == {second.digest, third.digest}
    assert lineage.impact(str(tmp_path), f"{second.folder.url}/{entry.path}") == by_checksum


def test_a_path_that_several_artifacts_hold_is_refused_and_they_are_listed(
    chain: list[Manifest], tmp_path: Path
) -> None:
    """units/003.json lies in second (4 units), third (5) and judged (6), each time with other bytes."""
    _, *holders = chain
    with pytest.raises(UserError, match="can be different things; say which") as caught:
        lineage.impact(str(tmp_path), "units/003.json")
    lines = str(caught.value).splitlines()[1:]
    assert {line.split()[0] for line in lines} == {made.digest[:12] for made in holders}
    assert {line.split()[-1] for line in lines} == {made.folder.url for made in holders}


def test_a_path_that_one_artifact_holds_needs_no_folder(chain: list[Manifest], tmp_path: Path) -> None:
    judged = chain[-1]
    assert digests(lineage.impact(str(tmp_path), "units/005.json")) == {judged.digest}


def test_config_and_code_are_recorded_but_contamination_does_not_walk_them(
    chain: list[Manifest], tmp_path: Path
) -> None:
    from sqlalchemy import create_engine, select

    first, second, *_ = chain
    assert first.digest not in digests(lineage.impact(str(tmp_path), second.digest))
    tables = lineage.tables()
    inputs, outputs, edges = tables["inputs"], tables["outputs"], tables["edges"]
    with create_engine(f"sqlite:///{tmp_path}/lineage.db").connect() as connection:
        read = {
            row.role: row.source for row in connection.execute(select(inputs).where(inputs.c.digest == second.digest))
        }
        made = connection.execute(select(outputs.c.role).where(outputs.c.digest == second.digest)).scalars().all()
        roles = set(connection.execute(select(edges.c.role)).scalars())
    config = hashlib.sha256(json.dumps(second.config, sort_keys=True).encode()).hexdigest()
    assert read == {"data": first.digest, "config": config, "code": lineage.code_digest()}
    assert made == ["numbers"]
    assert roles == {"data", "judge"}


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


def test_a_database_that_is_away_is_told_of_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(store: str) -> None:
        raise ConnectionError("no answer from postgresql://arm:secret@db.test/lineage")

    monkeypatch.setattr(lineage, "_engine", refuse)
    jobs.run("count", output=str(tmp_path / "first"))
    assert "a later job: no answer from postgresql://…@db.test/lineage" in capsys.readouterr().err


def test_a_note_that_cannot_be_read_holds_up_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / ".tracking" / "lineage"
    notes.mkdir(parents=True)
    for name in ("0", "1"):
        (notes / f"{name}.json").touch()
    first = jobs.run("count", output=str(tmp_path / "first"))
    second = jobs.run("count", output=str(tmp_path / "second"), inputs={"source": first.url})
    capsys.readouterr()
    assert digests(lineage.upstream(str(tmp_path), second.digest)) == {first.digest}
    assert sorted(path.name for path in notes.glob("*")) == ["0.json", "1.json"]
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"Lineage: 2 notes cannot be recorded, the first {notes}/0.json (")


def test_a_note_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, synced = jobs.run("count", output=str(tmp_path / "first")), list[list[str]]()
    notes = tmp_path / ".tracking" / "lineage"

    def sync(handle: int) -> None:
        synced.append([path.suffix for path in notes.glob("*")])

    monkeypatch.setattr(lineage.os, "fsync", sync)
    plan = jobs.plan("count", output=str(tmp_path / "first"), inputs={})
    lineage.note(plan, made)
    assert synced == [[""]]
    assert json.loads((notes / f"{plan.key}.json").read_text())["url"] == made.folder.url


def test_files_that_no_job_made_are_artifacts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc").write_text("WARC/1.0")
    config = f'{{"paths": ["{tmp_path}/crawl.warc"]}}'
    made = jobs.run("count", output=str(tmp_path / "first"), config=config)
    (outside,) = lineage.upstream(str(tmp_path), made.digest)
    assert (outside.kind, outside.url) == ("outside", f"{tmp_path}/crawl.warc")
    for name in (outside.digest, outside.url):
        assert digests(lineage.impact(str(tmp_path), name)) == {made.digest}
    with pytest.raises(UserError, match="knows no artifact or file 'http"):
        lineage.impact(str(tmp_path), "http://garden.test/x")


def test_what_was_never_published_is_not_recorded(tmp_path: Path) -> None:
    made = jobs.run("count", output=str(tmp_path / "first"))
    plan = jobs.plan("count", output=str(tmp_path / "never"), config='{"factor": 9}', inputs={"source": made.url})
    lineage.note(plan, dataclasses.replace(made, folder=plan.folder, key=plan.key))
    assert lineage.downstream(str(tmp_path), made.digest) == []
