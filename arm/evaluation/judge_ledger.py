"""What judges said and what it cost, in one SQLite file: a cache by content and a ledger of calls.

    replies(key, outcome, value, reason)                                    one for each question that was answered
    calls(key, model, rubric, outcome, attempts, input_tokens, output_tokens, dollars)

A killed run finds its replies again. Several threads, and several processes of one machine, may share one ledger: of two
replies to one question the first stays, so that all see the same.
"""

import json
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arm.evaluation.items import Outcome

TABLES = """
create table if not exists replies (key text primary key, outcome text, value text, reason text);
create table if not exists calls (
    key text, model text, rubric text, outcome text, attempts integer,
    input_tokens integer, output_tokens integer, dollars real
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """A judge's answer to one question."""

    outcome: Outcome
    """ok; unscorable: the judge answered, but gave no score; failed: nobody answered."""
    value: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    cached: bool = False


class JudgeLedger:
    """The cache and the ledger."""

    def __init__(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=60)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.executescript(TABLES)
        self._last_call, self._dollars = 0, 0.0

    def find(self, key: str) -> JudgeReply | None:
        """The reply that was recorded for a question."""
        with self._lock:
            row = self._connection.execute(
                "select outcome, value, reason from replies where key = ?", (key,)
            ).fetchone()
        return row and JudgeReply(outcome=row[0], value=json.loads(row[1]), reason=row[2], cached=True)

    def record(
        self, key: str, reply: JudgeReply, *, model: str, rubric: str, attempts: int, tokens: tuple[int, int],
        dollars: float,
    ) -> JudgeReply:  # fmt: skip
        """Enter a call; returns the reply that is kept. Where nobody answered none is: the next run asks again."""
        with self._lock, self._connection:
            self._connection.execute(
                "insert into calls values (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, model, rubric, reply.outcome, attempts, *tokens, dollars),
            )
            if reply.outcome == "failed":
                return reply
            entry = (key, reply.outcome, json.dumps(reply.value, sort_keys=True), reply.reason)
            is_first = self._connection.execute("insert or ignore into replies values (?, ?, ?, ?)", entry).rowcount
        return reply if is_first else self.find(key) or reply

    def dollars(self) -> float:
        """Spent so far by all who share the file; only the calls since it was last asked are read."""
        with self._lock:
            last, spent = self._connection.execute(
                "select max(rowid), sum(dollars) from calls where rowid > ?", (self._last_call,)
            ).fetchone()
            if last is not None:
                self._last_call, self._dollars = last, self._dollars + spent
            return self._dollars

    def totals(self) -> dict[str, float]:
        """Calls, attempts, tokens and dollars so far, over all runs that shared the file."""
        query = "select count(*), sum(attempts), sum(input_tokens), sum(output_tokens), sum(dollars) from calls"
        with self._lock:
            row = self._connection.execute(query).fetchone()
        names = ("calls", "attempts", "input_tokens", "output_tokens", "dollars")
        return {name: float(value or 0) for name, value in zip(names, row, strict=True)}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
