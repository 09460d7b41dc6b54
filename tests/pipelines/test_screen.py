"""What the runner shows of a job's counts and progress."""

import io
import json
from pathlib import Path

from pipelines.screen import Screen, summarise


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_was_kept_is_shown_of_what_was_read() -> None:
    counts = {"dropped/short": 880, "pairs_read": 9000, "pairs_kept": 8120}
    assert summarise(counts) == "8,120 of 9,000 pairs"


def test_what_came_out_is_named_by_the_count_that_says_so() -> None:
    assert summarise({"urls_read": 153, "images_downloaded": 140, "failed/robots": 13}) == "140 of 153 images"
    assert summarise({"candidates_found": 234, "pages_read": 24, "pairs_extracted": 207}) == "207 of 234 pairs"


def test_a_job_that_drops_nothing_shows_its_most_telling_counts() -> None:
    assert summarise({"documents": 40, "steps": 560, "tokens": 90_000}) == "90,000 tokens, 560 steps"
    assert summarise({"dropped/x": 1, "pictures": 1200, "walls": 40, "doors": 2}) == "1,200 pictures, 40 walls"
    assert summarise({}) == ""


def test_progress_is_drawn_on_a_terminal_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    lines = [
        {"event": "start", "job": "filter-pairs", "output": "store/10-filter-pairs"},
        {"name": "filter-pairs", "done": 50, "total": 200, "rate": 10.0, "note": "loss 0.5"},
        {"event": "end", "output": "store/10-filter-pairs", "url": "nowhere", "reused": False, "seconds": 12.34},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with Screen(path, stream, 23):
            pass
    assert "50 of 200 (10.0/s, 15 s left) loss 0.5" in terminal.getvalue()
    assert file.getvalue().split() == ["1/23", "10-filter-pairs", "12.3", "s"]
