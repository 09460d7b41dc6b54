"""Stand-ins for the jobs: the pipelines run whole, in real KFP tasks, in seconds."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

STAND_INS = Path(__file__).parent / "stand_ins"
sys.path.append(str(STAND_INS))

from stand_ins import StandInConfig, stand_in_recipe  # noqa: E402

from pipelines import run  # noqa: E402

Run = Callable[..., list[str]]


@pytest.fixture(scope="session")
def run_stand_ins() -> Run:
    """`run_stand_ins("toy", store, filter_pairs=StandInConfig(problem="…"))` runs a pipeline; returns what it showed."""

    def start(
        pipeline: str, store: Path, *, earlier: str = "", attempt: int = 1, **changed: StandInConfig
    ) -> list[str]:
        shown = io.StringIO()
        environment = {"PYTHONPATH": str(STAND_INS), "ARM_TRACKING_SESSION": "none: tracking has its own tests"}
        with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(shown):
            run.run_here(pipeline, stand_in_recipe(**changed), str(store), earlier, attempt)
        return shown.getvalue().splitlines()

    return start


@pytest.fixture(scope="session")
def road(run_stand_ins: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store with the whole toy road of stand-ins, and what the run showed."""
    store = tmp_path_factory.mktemp("road") / "store"
    return store, run_stand_ins("toy", store)
