"""Benchmarks whose rubric or rule rewarded a model: they are no independent tests of it any more.

rewarded.json    {"gedit_en": ["viescore_editing 1, asked of gpt-4.1, in edit"]}    in a policy's artifact
                 {"edit_policy": {"gedit_en": […]}}                                 in an evaluation, by stage
"""

import json
from collections.abc import Mapping
from typing import Any

from arm.manifest import Manifest
from arm.storage import Folder

NAME = "rewarded.json"
Rewarded = dict[str, list[str]]
"""Benchmark -> what rewarded, in the order of the stages."""


def read_rewarded(model: Manifest) -> Rewarded:
    """What a model's artifact says; empty where nothing of a benchmark rewarded it."""
    found: Rewarded = json.loads(model.local(NAME).read_text()) if model.select(NAME) else {}
    return found


def write_rewarded(found: Mapping[str, Any], output: Folder) -> None:
    """Say it in an artifact; nothing where there is nothing to say."""
    if found:
        output.write(NAME, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
