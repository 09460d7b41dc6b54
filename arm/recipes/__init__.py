"""The recipes by name. Importing this needs the standard library only."""

import importlib

from arm.config import suggest
from arm.errors import UserError
from arm.recipes.recipe import BESIDE, STEPS, Compute, Recipe, folder_name, job_of

RECIPES = {
    "tiny": "arm.recipes.tiny:TINY",
    "toy": "arm.recipes.toy:TOY",
    "proof": "arm.recipes.proof:PROOF",
    "proof-unaligned": "arm.recipes.proof:PROOF_UNALIGNED",
    "small": "arm.recipes.small:SMALL",
    "arm_7b": "arm.recipes.arm_7b:ARM_7B",
}

__all__ = ["BESIDE", "RECIPES", "STEPS", "Compute", "Recipe", "find", "folder_name", "job_of"]


def find(name: str) -> Recipe:
    """The recipe of that name; an unknown name is a UserError with a suggestion."""
    if name not in RECIPES:
        raise UserError(f"There is no recipe {name!r}; {suggest(name, list(RECIPES))}")
    module, _, constant = RECIPES[name].partition(":")
    recipe: Recipe = getattr(importlib.import_module(module), constant)
    return recipe
