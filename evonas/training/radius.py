"""Recipes of the table with another radius."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evonas.training import RECIPES

if TYPE_CHECKING:
    from evonas.training import Recipe

__all__ = ["recipe_within"]


def recipe_within(name: str, epsilon: float | None) -> Recipe:
    """The recipe of a name, its attack within another L-inf ball; its step, where it has one, in proportion, but for a
    radius of 0.

    Args:
        epsilon: on the [0, 1] scale; None: the recipe's own. Recipes without an attack stay as they are.
    """
    recipe: Any = RECIPES[name]
    if epsilon is not None and hasattr(recipe, "epsilon"):
        step = getattr(recipe, "step", None)  # None: it follows the radius by itself
        scaled = {"step": step * epsilon / recipe.epsilon} if step and epsilon and recipe.epsilon else {}
        recipe = replace(recipe, epsilon=epsilon, **scaled)
    made: Recipe = recipe
    return made
