"""The whole road: data, model, release."""

from typing import Any

from pipelines.data import data
from pipelines.model import model
from pipelines.release import release
from pipelines.step import Step


def full(step: Step, world: Any = None, teachers: Any = None) -> None:
    """Run the whole road: data, model, release. Without a world, the configs name the crawl, data sets and weights."""
    ready = data(step, world=world, teachers=teachers)
    release(step, ready, model(step, ready))
