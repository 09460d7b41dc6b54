"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ARM_TRACKING_SESSION", "tests")  # no follower beside every job that a test launches


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of official test vectors and the real crawl, beside the checkout; tests skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("../shared is not beside this checkout: no official vectors, no real crawl")
    return path
