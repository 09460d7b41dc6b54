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
    """The recipe of that name, or one of yours: `module:CONSTANT`; what is not found is a UserError.

    small                arm.recipes.small:SMALL
    my_recipes:SMALLER   SMALLER of my_recipes.py, in a folder of PYTHONPATH
    """
    if name not in RECIPES and ":" not in name:
        raise UserError(
            f"There is no recipe {name!r}; {suggest(name, list(RECIPES))} Yours is named by module:CONSTANT."
        )
    module, _, constant = RECIPES.get(name, name).partition(":")
    try:
        recipe = getattr(importlib.import_module(module), constant)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The recipe {name!r} cannot be read ({error}); put the module's folder in PYTHONPATH."
        ) from None
    if not isinstance(recipe, Recipe):
        raise UserError(f"{name} is of type {type(recipe).__name__}, no Recipe; derive one: SMALL.derive(…).")
    return recipe
