"""A JSONL file made row by row: a killed run loses what it was making, and no more.

    answers.jsonl            all rows in order, written when the run ends
    answers.jsonl.partial    rows as they come; a torn last line is cut off

Every row has a `uid`. A row with `failed` is no result: it is made again by the next run.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.evaluation.jsonl import to_lines
from arm.storage import open_folder

Row = dict[str, Any]


class Journal:
    """The rows of one output file that are there, and those to come."""

    def __init__(self, output: Path) -> None:
        self.output, self.partial = output, output.with_name(f"{output.name}.partial")
        rows = self._rows(output.read_bytes()) if output.exists() else []
        if self.partial.exists():
            data = self.partial.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(self.partial, len(whole))
            rows += self._rows(whole)
        self.rows: dict[str, Row] = {row["uid"]: row for row in rows if "failed" not in row}

    def append(self, rows: Sequence[Row]) -> None:
        """Keep some rows, on disk when this returns."""
        with self.partial.open("ab") as stream:
            stream.write(to_lines(row for row in rows if "failed" not in row))
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.update((row["uid"], row) for row in rows)

    def finish(self, uids: Sequence[str]) -> None:
        """Write the whole file in this order."""
        data = to_lines(self.rows[uid] for uid in uids)
        open_folder(str(self.output.parent)).write(self.output.name, data)
        self.partial.unlink(missing_ok=True)

    def _rows(self, data: bytes) -> list[Row]:
        try:
            rows: list[Row] = [json.loads(line) for line in data.decode().split("\n") if line]
            if all(isinstance(row["uid"], str) for row in rows):
                return rows
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f"{self.output} or its .partial is damaged; delete them, or give another --output.")
