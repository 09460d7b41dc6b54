"""The whole road in the toy world: two jobs make the world and the weights, the unchanged road does the rest."""

from components.data.make_world import make_world
from components.data.train_teachers import train_teachers
from pipelines.full import full
from pipelines.step import Step


def toy(step: Step) -> None:
    """Make a toy world and its teachers, then run the whole road: data, model, release."""
    world = step("make-world", make_world)
    teachers = step("train-teachers", train_teachers)
    full(step, world=world, teachers=teachers)
