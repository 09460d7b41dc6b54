"""Lineage: which artifact was made from which, down to the file, in one SQL store.

    artifacts   digest, kind, job, url           an artifact is its content: the digest of its manifest
    executions  key, digest, job, version, config
    inputs      key, digest, name, role, source   what an execution read, and as what: data, init, judge, config, code
    outputs     key, digest, name, role           what it made, and as what: the kind of the artifact
    members     artifact, path, sha256, bytes     the files of an artifact
    edges       source, target, role              data, init and judge, indexed both ways: what recursion walks

Sqlite beside MLflow's (`<store>/lineage.db`), or ARM_LINEAGE_URL. A job first notes a document in the store's tracking
folder, then settles all documents whose artifact is complete; a database that is away leaves them there for the next
job, and never fails one; a note that cannot be read is told of and passed over.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arm import manifest as manifests
from arm.errors import ServiceError, UserError, without_userinfo
from arm.manifest import Manifest
from arm.storage import open_folder, sha256_of
from arm.storage.disk import is_full
from arm.tracking.run import Run
from arm.tracking.spool import database_folder, store_of, tracking_folder

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

MAX_LISTED = 10
"""Artifacts that an ambiguous question is answered with."""


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact in an answer."""

    digest: str
    kind: str
    job: str
    url: str


def note(run: Run, manifest: Manifest) -> None:
    """Write down what is to be recorded once the manifest is published; a problem is told, not raised."""
    folder = tracking_folder(store_of(run.output)) / "lineage"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{run.key}"
        with temporary.open("w") as stream:
            stream.write(json.dumps(_document(run, manifest)))
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut may leave the name without the words
        temporary.replace(folder / f"{run.key}.json")
    except OSError as error:
        _tell(f"Lineage of {run.job.name} was not noted: {error}.", error, run.output)


def settle(store: str) -> None:
    """Record every noted document whose artifact is complete; a problem is told, not raised."""
    try:
        waiting = sorted((tracking_folder(store) / "lineage").glob("*.json"))
        if waiting and (failed := _settle_all(_engine(store), waiting)):
            path, error = next(iter(failed.items()))
            _tell(f"Lineage: {len(failed)} notes cannot be recorded, the first {path} ({error}).", error, store)
    except Exception as error:  # whatever the database does, the job has its result
        _tell(f"Lineage is behind and will be written by a later job: {error}", error, store)


def _tell(sentence: str, error: Exception, place: str) -> None:
    """Print a line, but not on a full disk: of that the job itself says all there is to say."""
    if not is_full(error, place):
        print(without_userinfo(sentence), file=sys.stderr)


def upstream(store: str, artifact: str) -> list[Node]:
    """Everything that an artifact was made from, itself left out."""
    return _answer(store, artifact, forward=False, roles=())


def downstream(store: str, artifact: str) -> list[Node]:
    """Everything that was made from an artifact or from an artifact that holds the file."""
    return _answer(store, artifact, forward=True, roles=())


def impact(store: str, artifact: str) -> list[Node]:
    """What an artifact or a file has gone into: downstream over data and initial weights, not over judges."""
    return _answer(store, artifact, forward=True, roles=("data", "init"))


def tables() -> dict[str, "Table"]:
    """The schema, by table name."""
    from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

    def key(name: str) -> "Column[str]":
        return Column(name, String(64), primary_key=True)

    schema = MetaData()
    Table(
        "artifacts", schema, key("digest"), Column("kind", String(64)), Column("job", String(64)), Column("url", Text)
    )
    Table(
        "executions", schema, key("key"), key("digest"),
        Column("job", String(64)), Column("version", Integer), Column("config", Text),
    )  # fmt: skip
    Table(
        "inputs", schema, key("key"), key("digest"), key("name"),
        Column("role", String(16)), Column("source", String(64)),
    )  # fmt: skip
    Table("outputs", schema, key("key"), key("digest"), Column("name", String(64)), Column("role", String(64)))
    Table(
        "members", schema, key("artifact"), Column("path", String(512), primary_key=True),
        Column("sha256", String(64)), Column("bytes", BigInteger),
        Index("members_by_sha256", "sha256"), Index("members_by_path", "path"),
    )  # fmt: skip
    Table("edges", schema, key("source"), key("target"), key("role"), Index("edges_by_target", "target", "source"))
    return dict(schema.tables)


def _document(run: Run, manifest: Manifest) -> dict[str, Any]:
    roles = {item.name: item.role for item in run.job.inputs}
    sources = [
        {"name": n, "role": roles[n], "digest": m.digest, "kind": m.kind, "job": m.job, "url": m.folder.url}
        for n, m in run.inputs.items()
    ]
    # where an input holds the config's paths, the edge to that artifact says more
    held = any(item.holds_paths and item.name in run.inputs for item in run.job.inputs)
    paths = run.config.outside_paths() if "outside/0" in run.digests and not held else ()
    outside = [
        {
            "name": f"outside/{i}",
            "role": "data",
            "digest": run.digests[f"outside/{i}"],
            "kind": "outside",
            "job": "",
            "url": path,
        }
        for i, path in enumerate(paths)
    ]
    return {
        "url": manifest.folder.url,
        "manifest": json.loads(manifest.to_json()),
        "sources": sources + outside,
        "config": hashlib.sha256(json.dumps(manifest.config, sort_keys=True).encode()).hexdigest(),
        "code": code_digest(),
    }


@functools.cache
def code_digest() -> str:
    """A digest of this package's sources: which code an execution ran."""
    root = Path(manifests.__file__).parent
    lines = [f"{path.relative_to(root).as_posix()} {sha256_of(path)}" for path in sorted(root.rglob("*.py"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _settle_all(engine: "Engine", waiting: list[Path]) -> dict[Path, Exception]:
    """Record what can be recorded; returns the other notes with the reason. A database or store that is away raises, for
    it would keep every note waiting."""
    from sqlalchemy.exc import OperationalError

    failed = dict[Path, Exception]()
    for path in waiting:
        try:
            _settle_one(engine, path)
        except (OperationalError, ServiceError):
            raise
        except Exception as error:  # an empty or foreign note: those behind it have nothing to do with it
            failed[path] = error
    return failed


def _settle_one(engine: "Engine", path: Path) -> None:
    document = json.loads(path.read_text())
    if not open_folder(document["url"]).exists(manifests.NAME):
        return
    with engine.begin() as connection:
        for table, rows in _rows(document):
            _insert_new(connection, table, rows)
    path.unlink(missing_ok=True)


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of one execution, table by table."""
    made = manifests.from_values(dict(document["manifest"]), open_folder(document["url"]))
    sources = document["sources"]
    yield (
        "artifacts",
        [
            {"digest": made.digest, "kind": made.kind, "job": made.job, "url": document["url"]},
            *({name: source[name] for name in ("digest", "kind", "job", "url")} for source in sources),
        ],
    )
    config = json.dumps(made.config, sort_keys=True)
    yield (
        "executions",
        [{"key": made.key, "digest": made.digest, "job": made.job, "version": made.version, "config": config}],
    )
    read = [(source["name"], source["role"], source["digest"]) for source in sources]
    read += [(role, role, document[role]) for role in ("config", "code")]
    yield (
        "inputs",
        [{"key": made.key, "digest": made.digest, "name": n, "role": r, "source": s} for n, r, s in read],
    )
    yield "outputs", [{"key": made.key, "digest": made.digest, "name": "output", "role": made.kind}]
    yield (
        "members",
        [{"artifact": made.digest, "path": f.path, "sha256": f.sha256, "bytes": f.bytes} for f in made.files],
    )
    yield "edges", [{"source": s["digest"], "target": made.digest, "role": s["role"]} for s in sources]


def _insert_new(connection: "Connection", table: str, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that are not there yet: recording twice changes nothing."""
    from sqlalchemy.dialects import postgresql, sqlite

    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(tables()[table]).on_conflict_do_nothing(), rows)


def _engine(store: str) -> "Engine":
    from sqlalchemy import create_engine

    address = os.environ.get("ARM_LINEAGE_URL")
    options: dict[str, Any] = {}
    if not address:
        database_folder(store).mkdir(parents=True, exist_ok=True)
        address, options = f"sqlite:///{database_folder(store) / 'lineage.db'}", {"connect_args": {"timeout": 30}}
    engine = create_engine(address, **options)
    next(iter(tables().values())).metadata.create_all(engine)
    return engine


def _answer(store: str, artifact: str, *, forward: bool, roles: tuple[str, ...]) -> list[Node]:
    settle(store)
    with _engine(store).connect() as connection:
        starts = _find(connection, artifact)
        holders = [node for node in starts if not _is_artifact(artifact, node)] if forward else []
        found = _walk(connection, [node.digest for node in starts], forward, roles)
        return holders + [node for node in found if node not in holders]


def _is_artifact(text: str, node: Node) -> bool:
    """Whether the question named the artifact itself, not one of its files."""
    return (
        text == node.url
        or node.digest.startswith(text)
        or text.rstrip("/").endswith(node.digest)
        or _digest_of_folder(text) == node.digest
    )


def _digest_of_folder(text: str) -> str:
    try:
        return manifests.load(text).digest
    except (UserError, OSError, ValueError, KeyError):
        return ""


def _find(connection: "Connection", text: str) -> list[Node]:
    """The artifact that a digest's start, folder or address names, else those that hold the file of a path or checksum."""
    from sqlalchemy import or_, select

    artifacts = tables()["artifacts"]
    digest = _digest_of_folder(text)
    named = or_(
        artifacts.c.digest.startswith(digest or text, autoescape=True), artifacts.c.url == ("" if digest else text)
    )
    rows = connection.execute(select(artifacts).where(named)).all()
    found = [Node(*row) for row in rows]
    if len(found) > 1:
        raise _ambiguous(text, found)
    found = found or _holders(connection, text)
    if not found:
        raise UserError(
            f"Lineage knows no artifact or file {text!r}; give a digest's start, a folder, or a file's path."
        )
    return found


def _holders(connection: "Connection", text: str) -> list[Node]:
    """The artifacts that hold a file; several only when the file has the same bytes in each of them."""
    from sqlalchemy import or_, select

    artifacts, members = tables()["artifacts"], tables()["members"]
    name = _checksum_of_file(text) or text
    held = or_(members.c.path == name, members.c.sha256.startswith(name, autoescape=True))
    query = select(artifacts, members.c.sha256).join(members, members.c.artifact == artifacts.c.digest).where(held)
    rows = connection.execute(query.distinct().order_by(artifacts.c.url)).all()
    found = list(dict.fromkeys(Node(*row[:-1]) for row in rows))
    if len({row[-1] for row in rows}) > 1:
        raise _ambiguous(text, found)
    return found


def _ambiguous(text: str, found: list[Node]) -> UserError:
    listed = "".join(f"\n  {node.digest[:12]}  {node.job}  {node.url}" for node in found[:MAX_LISTED])
    more = f"\n  and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return UserError(
        f"{text!r} can be different things; say which, by the folder in front of the path or by more of the digest:"
        f"{listed}{more}"
    )


def _checksum_of_file(text: str) -> str:
    """The checksum of a file, from the manifest of the artifact that it lies in; empty for any other text."""
    if "://" in text and not text.startswith("s3://"):
        return ""
    place = text if "://" in text else str(Path(text).absolute())
    parent, _, name = place.rpartition("/")
    while name and parent.strip("/") and not parent.endswith(":/"):
        if open_folder(parent).exists(manifests.NAME):
            entries = [entry for entry in manifests.load(parent).files if entry.path == name]
            return entries[0].sha256 if entries else ""
        parent, _, above = parent.rpartition("/")
        name = f"{above}/{name}"
    return ""


def _walk(connection: "Connection", starts: list[str], forward: bool, roles: tuple[str, ...]) -> list[Node]:
    """Follow the edges in SQL; every artifact once, the starts left out."""
    from sqlalchemy import select

    artifacts, edges = tables()["artifacts"], tables()["edges"]
    here, there = (edges.c.source, edges.c.target) if forward else (edges.c.target, edges.c.source)
    allowed = edges.c.role.in_(roles) if roles else edges.c.role == edges.c.role
    reached = select(there.label("digest")).where(here.in_(starts), allowed).cte("reached", recursive=True)
    reached = reached.union(select(there).join(reached, here == reached.c.digest).where(allowed))
    query = select(artifacts).join(reached, reached.c.digest == artifacts.c.digest).order_by(artifacts.c.url)
    return [node for row in connection.execute(query) if (node := Node(*row)).digest not in starts]
